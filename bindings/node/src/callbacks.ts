// Callbacks from C. One function of each type is registered with koffi, for good; `user_data` says whose call it is. A
// call that runs on a thread of the pool waits there while koffi has the main thread run the callback.

import koffi from "koffi";
import { type CallbackName, callbacks } from "./abi.js";
import { enter, exit } from "./leaving.js";
import { type Noise, hearNoise } from "./noise.js";
import { type Step, stepAt } from "./step.js";
import { copyOf } from "./struct.js";

/** Hears of something; `false` stops the call, and so does an exception, which the call then rejects with. */
export type Hearer<A extends unknown[]> = (...args: A) => unknown;

/** What a call may be heard with. */
export interface Hearers {
  onProgress?: Hearer<[fraction: number]> | undefined;
  onPrefill?: Hearer<[encoded: number, total: number]> | undefined;
  onStep?: Hearer<[step: Step]> | undefined;
  onTokens?: Hearer<[block: number, tokens: Uint32Array]> | undefined;
  onText?: Hearer<[text: string]> | undefined;
  onEarlyText?: Hearer<[text: string]> | undefined;
  onNoise?: Hearer<[noise: Noise]> | undefined;
}

const listeners = new Map<bigint, Listener>();
let nextId = 1n;

/** The hearers of one call, for the time of the call. */
export class Listener {
  readonly id = nextId++;
  readonly hearers: Hearers;
  #thrown: { error: unknown } | undefined;

  constructor(hearers: Hearers) {
    this.hearers = hearers;
  }

  /** Runs `call` with the hearers in place; then throws what one of them threw, if it did. */
  async during<T>(call: () => Promise<T>): Promise<T> {
    listeners.set(this.id, this);
    enter();
    try {
      const result = await call();
      if (this.#thrown) throw this.#thrown.error;
      return result;
    } catch (error) {
      throw this.#thrown ? this.#thrown.error : error;
    } finally {
      exit();
      listeners.delete(this.id);
    }
  }

  /** C's answer: 0 to go on. */
  hear<A extends unknown[]>(hearer: Hearer<A> | undefined, ...args: A): number {
    try {
      return hearer?.(...args) === false ? 1 : 0;
    } catch (error) {
      this.#thrown ??= { error };
      return 1;
    }
  }
}

/** A function for C, which finds the listener by `user_data`, the last argument. */
function trampoline(type: CallbackName, hear: (listener: Listener, ...args: never[]) => number): () => bigint {
  let address: bigint | undefined;
  const run = (...args: unknown[]): number => {
    const listener = listeners.get(args.pop() as bigint);
    // None: a call that nobody waits for any more.
    return listener ? hear(listener, ...(args as never[])) : 1;
  };
  const [result, parameters] = callbacks[type];
  return () => (address ??= koffi.register(run, koffi.pointer(koffi.proto(result, [...parameters]))));
}

const trampolines: Record<keyof Hearers, () => bigint> = {
  onProgress: trampoline("dgemma_progress_callback", (to, fraction: number) =>
    to.hear(to.hearers.onProgress, fraction),
  ),
  onPrefill: trampoline("dgemma_prefill_callback", (to, encoded: number, total: number) =>
    to.hear(to.hearers.onPrefill, encoded, total),
  ),
  onStep: trampoline("dgemma_step_callback", (to, step: bigint) => to.hear(to.hearers.onStep, stepAt(step))),
  onTokens: trampoline("dgemma_tokens_callback", (to, block: number, tokens: bigint, length: number) =>
    to.hear(to.hearers.onTokens, block, copyOf(tokens, "uint32_t", length)),
  ),
  onText: trampoline("dgemma_text_callback", (to, text: bigint, length: number) =>
    to.hear(to.hearers.onText, koffi.decode.string(text, length)),
  ),
  onEarlyText: trampoline("dgemma_text_callback", (to, text: bigint, length: number) =>
    to.hear(to.hearers.onEarlyText, koffi.decode.string(text, length)),
  ),
  onNoise: trampoline("dgemma_noise_callback", (to, noise: bigint) =>
    to.hear(() => to.hearers.onNoise && hearNoise(noise, to.hearers.onNoise)),
  ),
};

/** The address that C calls for a hearer. */
export function addressOf(hearer: keyof Hearers): bigint {
  return trampolines[hearer]();
}

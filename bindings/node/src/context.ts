// A context: a sequence of tokens being read and written. One call at a time: the others wait for their turn, in the order
// in which they were made.

import { Status, constants, type structs } from "./abi.js";
import { type Block, type BlockOptions, beginBlock } from "./block.js";
import { Listener, addressOf } from "./callbacks.js";
import { type Prompt, promptTokens } from "./chat.js";
import { AbortError, DgemmaError, choice, seed64, whole } from "./errors.js";
import { type GenerateOptions, type GenerationResult, generate } from "./generation.js";
import { Handle } from "./handle.js";
import { type MemoryInfo, memoryInfo } from "./memory.js";
import type { Model } from "./model.js";
import type { Native } from "./native.js";
import { type Candidate, candidateArray } from "./scoring.js";
import type { Step } from "./step.js";
import { Stream } from "./stream.js";
import { Struct } from "./struct.js";
import { type Tokens, cString, tokenArray } from "./tokens.js";
import { Turns } from "./turns.js";

/** How cached keys and values are stored: 4 or 2 bytes a number. */
export type KvType = "f32" | "f16" | "bf16";

/** How to make a context. */
export interface ContextOptions {
  /** Positions, prompt and canvas together; left out: 8192, or the model's limit if that is less. */
  contextSize?: number | undefined;
  /** Seed of the generations and blocks that name none. */
  seed?: number | bigint | undefined;
  /** Prompt tokens encoded per pass; left out: 256. The text does not depend on it. */
  chunk?: number | undefined;
  /** How cached keys and values are stored; left out: the library's choice, today "f16", or "f32" for a model loaded with `exact`. */
  kvType?: KvType | undefined;
}

/** The state of a context. */
export interface ContextInfo {
  /** Tokens of the sequence. */
  readonly length: number;
  /** Of which encoded. */
  readonly encoded: number;
  /** Positions that the context holds at most, prompt and canvas together. */
  readonly contextSize: number;
  /** Seed of the generations and blocks that name none. */
  readonly seed: bigint;
  /** Prompt tokens encoded per pass. */
  readonly chunk: number;
  readonly kvType: KvType;
}

/** What a context did since it was made or reset. Durations are in seconds. */
export interface Perf {
  readonly prefillTokens: number;
  /** Denoising steps. */
  readonly steps: number;
  readonly committedTokens: number;
  /** Scoring passes. */
  readonly scorings: number;
  readonly prefillSeconds: number;
  readonly denoiseSeconds: number;
  readonly scoringSeconds: number;
  /** Of all three, time spent in attention, projections included. */
  readonly attentionSeconds: number;
  /** Of all three, time spent in dense layers, routers and experts. */
  readonly feedForwardSeconds: number;
  /** Of all three, time spent in the output head. */
  readonly headSeconds: number;
}

/** DGEMMA_KV_* by name. */
export const kvTypes = { f32: constants.DGEMMA_KV_F32, f16: constants.DGEMMA_KV_F16, bf16: constants.DGEMMA_KV_BF16 };
const kvNames = new Map(Object.entries(kvTypes).map(([name, value]) => [value as number, name as KvType]));

/**
 * A sequence of tokens being read and written, with the memory that this takes. Contexts of one model work at the same
 * time; calls on one context run one after the other, in the order in which they were made.
 */
export class Context {
  /** The model that it was made from. */
  readonly model: Model;
  readonly #native: Native;
  readonly #handle: Handle;
  readonly #canceller: bigint;
  readonly #turns = new Turns(1);
  readonly #blocks = new Set<Handle>();
  #running: AbortController | undefined;

  /** @internal Contexts come from `Model.createContext()`. */
  constructor(model: Model, pointer: bigint) {
    const { native } = model;
    this.model = model;
    this.#native = native;
    const canceller = native.create("dgemma_canceller_create", pointer);
    this.#canceller = canceller;
    this.#handle = new Handle(this, "context", pointer, (context) => {
      native.plain("dgemma_canceller_free", canceller);
      native.plain("dgemma_context_free", context);
    });
  }

  /**
   * Generates text behind a prompt: chunks of text as canvases are committed. The prompt becomes the context's sequence,
   * and what is encoded of a prefix that both have in common is kept; without a prompt, the sequence goes on.
   */
  generate(prompt?: Prompt, options: GenerateOptions = {}): Stream<string, GenerationResult> {
    return new Stream((push, signal) => {
      const onText = (text: string): unknown => {
        push(text);
        return options.onText?.(text);
      };
      return this.#generate(prompt, { ...options, onText }, signal);
    }, options.signal);
  }

  /** As {@link generate}: the denoising steps, with their drafts, entropies, changed and accepted positions. */
  generateSteps(prompt?: Prompt, options: GenerateOptions = {}): Stream<Step, GenerationResult> {
    return new Stream((push, signal) => {
      const onStep = (step: Step): unknown => {
        push(step);
        return options.onStep?.(step);
      };
      return this.#generate(prompt, { ...options, onStep }, signal);
    }, options.signal);
  }

  /** As {@link generate}: the whole text, and how it went. */
  generateText(prompt?: Prompt, options: GenerateOptions = {}): Promise<GenerationResult> {
    return this.#generate(prompt, options, options.signal);
  }

  /** Adds tokens at the end. */
  append(tokens: Tokens): Promise<void> {
    const ids = tokenArray("tokens", tokens);
    return this.turn(undefined, (context) => this.#native.call("dgemma_context_append", context, ids, ids.length));
  }

  /** Makes `tokens` the whole sequence; resolves to how many of them need not be encoded again. */
  setTokens(tokens: Tokens): Promise<number> {
    const ids = tokenArray("tokens", tokens);
    return this.turn(undefined, (context) => this.#setTokens(context, ids));
  }

  /** Keeps the first `length` tokens. */
  truncate(length: number): Promise<void> {
    whole("length", length);
    return this.turn(undefined, (context) => this.#native.call("dgemma_context_truncate", context, length));
  }

  /** Empties the context: no tokens, counters at zero. */
  reset(): Promise<void> {
    return this.turn(undefined, (context) => this.#native.call("dgemma_context_reset", context));
  }

  /** The sequence's tokens. */
  tokens(): Promise<Uint32Array> {
    return this.turn(undefined, (context) => {
      const tokens = new Uint32Array(this.#info(context).length);
      this.#native.call("dgemma_context_tokens", context, tokens, tokens.length, null);
      return tokens;
    });
  }

  /** The state of the context. */
  info(): Promise<ContextInfo> {
    return this.turn(undefined, (context) => this.#info(context));
  }

  /** The performance counters. */
  perf(): Promise<Perf> {
    return this.turn(undefined, (context) =>
      perfOf(this.#native.report("dgemma_context_perf", "dgemma_perf", context)),
    );
  }

  /** What memory the context takes; a fresh one answers what its full size will take. */
  memory(): Promise<MemoryInfo> {
    return this.turn(undefined, (context) =>
      memoryInfo(this.#native.report("dgemma_context_memory", "dgemma_memory", context)),
    );
  }

  /** Encodes the tokens that are not encoded yet, so that the next generation starts at once. */
  prefill(
    options: { signal?: AbortSignal; onPrefill?: (encoded: number, total: number) => unknown } = {},
  ): Promise<void> {
    const listener = new Listener({ onPrefill: options.onPrefill });
    const callback = options.onPrefill ? addressOf("onPrefill") : null;
    return this.turn(options.signal, (context) =>
      listener.during(() =>
        this.#native.backgroundOn(context, "dgemma_context_prefill", [context, callback, listener.id]),
      ),
    );
  }

  /** Encodes what is not encoded yet and begins a block: a canvas to be denoised step by step. */
  beginBlock(options: BlockOptions = {}): Promise<Block> {
    return beginBlock(this, options);
  }

  /**
   * Scores tokens by one pass over a canvas behind the sequence, which stays as it is: the natural logarithm of each
   * candidate's probability at its position, at temperature 1 and without bias.
   */
  score(
    canvas: Tokens,
    candidates: readonly Candidate[],
    options: { signal?: AbortSignal } = {},
  ): Promise<Float32Array> {
    const ids = tokenArray("canvas", canvas);
    const wanted = candidateArray(candidates);
    const scores = new Float32Array(candidates.length);
    return this.turn(options.signal, async (context) => {
      const args = [context, ids, ids.length, wanted, candidates.length, scores];
      await this.#native.backgroundOn(context, "dgemma_context_score", args);
      return scores;
    });
  }

  /** Copies the context: sequence, what is encoded of it, sizes and seed. The copy goes its own way. */
  clone(): Promise<Context> {
    const out = new BigUint64Array(1);
    return this.turn(undefined, async (context) => {
      await this.#native.backgroundOn(context, "dgemma_context_clone", [context, out]);
      return new Context(this.model, out[0]!);
    });
  }

  /** Saves sequence and what is encoded of it; with a path into a file, which appears when it is complete. */
  save(): Promise<Uint8Array>;
  save(path: string): Promise<void>;
  save(path?: string): Promise<Uint8Array | void> {
    if (path === undefined) return this.turn(undefined, (context) => this.#save(context));
    const file = cString("path", path);
    return this.turn(undefined, (context) =>
      this.#native.backgroundOn(context, "dgemma_context_save_file", [context, file]),
    );
  }

  /** Takes over what `save()` gave, or wrote to the file of that name. Same model and same kvType; else nothing changes. */
  load(from: Uint8Array | string): Promise<void> {
    const path = typeof from === "string" ? cString("path", from) : undefined;
    if (path) {
      return this.turn(undefined, (context) =>
        this.#native.backgroundOn(context, "dgemma_context_load_file", [context, path]),
      );
    }
    const bytes = Buffer.alloc(from.length + 1); // an empty array has no address
    bytes.set(from as Uint8Array);
    return this.turn(undefined, (context) =>
      this.#native.backgroundOn(context, "dgemma_context_load", [context, bytes, from.length]),
    );
  }

  /**
   * Stops the call under way within the time of one layer, refuses those that wait, and frees the context and its blocks.
   * Resolves when it is done.
   */
  close(): Promise<void> {
    if (!this.#handle.closed) {
      const why = this.#handle.closedError();
      const done = this.#handle.close();
      this.#running?.abort(why);
      this.#turns.refuse(new AbortError(why));
      for (const block of this.#blocks) void block.close();
      return done;
    }
    return this.#handle.close();
  }

  [Symbol.dispose](): void {
    void this.close();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.close();
  }

  /**
   * Runs `job` with the context to itself. `signal` takes it back before its turn, and stops it during; so does close().
   * @internal
   */
  async turn<T>(
    signal: AbortSignal | undefined,
    job: (context: bigint, stop: AbortSignal) => T | Promise<T>,
  ): Promise<T> {
    if (this.#handle.closed) throw this.#handle.closedError();
    return this.#turns.run(
      () => this.#handle.use((context) => this.#stoppable(signal, (stop) => job(context, stop))),
      signal,
    );
  }

  /**
   * Has a block closed with the context. Returns how to take that back.
   * @internal
   */
  adopt(block: Handle): () => void {
    this.#blocks.add(block);
    return () => this.#blocks.delete(block);
  }

  async #stoppable<T>(signal: AbortSignal | undefined, job: (stop: AbortSignal) => T | Promise<T>): Promise<T> {
    // A cancel that came too late for the call before is not meant for this one.
    this.#native.call("dgemma_canceller_clear", this.#canceller);
    const running = new AbortController();
    running.signal.addEventListener("abort", () => this.#native.call("dgemma_canceller_cancel", this.#canceller));
    const follow = (): void => running.abort(signal?.reason);
    signal?.addEventListener("abort", follow);
    this.#running = running;
    try {
      return await job(running.signal);
    } catch (error) {
      const cancelled = error instanceof DgemmaError && error.status === "CANCELLED";
      throw cancelled && running.signal.aborted ? new AbortError(running.signal.reason) : error;
    } finally {
      this.#running = undefined;
      signal?.removeEventListener("abort", follow);
    }
  }

  #generate(
    prompt: Prompt | undefined,
    options: GenerateOptions,
    signal: AbortSignal | undefined,
  ): Promise<GenerationResult> {
    const given = prompt instanceof Uint32Array ? Uint32Array.from(prompt) : prompt; // the program may go on with its own
    return this.turn(signal, async (context, stop) => {
      if (given !== undefined) this.#setTokens(context, await promptTokens(this.model, given, options));
      return generate(this.#native, this.model.handle, context, options, stop);
    });
  }

  #setTokens(context: bigint, tokens: Uint32Array): number {
    const reused = new BigUint64Array(1);
    this.#native.call("dgemma_context_set_tokens", context, tokens, tokens.length, reused);
    return Number(reused[0]);
  }

  #info(context: bigint): ContextInfo {
    const c = this.#native.report("dgemma_context_describe", "dgemma_context_info", context);
    return {
      length: c.length,
      encoded: c.encoded,
      contextSize: c.context_size,
      seed: BigInt(c.seed),
      chunk: c.chunk,
      kvType: kvNames.get(c.kv_type) ?? "f32",
    };
  }

  async #save(context: bigint): Promise<Uint8Array> {
    const length = new BigUint64Array(1);
    const none = await this.#native.background("dgemma_context_save", [context, null, 0, length]);
    if (none !== Status.BUFFER_TOO_SMALL) throw new DgemmaError(none, "");
    const bytes = new Uint8Array(Number(length[0]));
    await this.#native.backgroundOn(context, "dgemma_context_save", [context, bytes, bytes.length, length]);
    return bytes;
  }
}

/** See `Model.createContext()`. */
export async function createContext(model: Model, options: ContextOptions): Promise<Context> {
  const { native } = model;
  const params = new Struct("dgemma_context_params");
  native.call("dgemma_context_params_init", params.bytes, params.bytes.length);
  params.set("context_size", whole("contextSize", options.contextSize ?? 0));
  params.set("seed", seed64(options.seed ?? 0));
  params.set("chunk", whole("chunk", options.chunk ?? 0, 0xffff_ffff));
  params.set("kv_type", options.kvType ? choice("kvType", options.kvType, kvTypes) : constants.DGEMMA_KV_DEFAULT);
  const out = new BigUint64Array(1);
  await model.handle.use((pointer) =>
    native.backgroundWithText("dgemma_context_create", params, [pointer, params.bytes, out]),
  );
  return new Context(model, out[0]!);
}

function perfOf(c: Record<keyof (typeof structs)["dgemma_perf"], number>): Perf {
  return {
    prefillTokens: c.prefill_tokens,
    steps: c.steps,
    committedTokens: c.committed_tokens,
    scorings: c.scorings,
    prefillSeconds: c.prefill_seconds,
    denoiseSeconds: c.denoise_seconds,
    scoringSeconds: c.scoring_seconds,
    attentionSeconds: c.attention_seconds,
    feedForwardSeconds: c.feed_forward_seconds,
    headSeconds: c.head_seconds,
  };
}

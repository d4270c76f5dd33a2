// Calls into the library, and the two rules that they keep:
//
// - An asynchronous call runs on a thread of Node's pool, and koffi keeps none of its arguments alive: what C reads or
//   writes is held here until the call is done.
// - Error text waits per thread. After a synchronous call it is read at once, on the same thread. An asynchronous one has
//   left its thread when we hear of it, so its text comes from where it follows the call: a buffer of ours in the params,
//   or the context.

import type { LibraryHandle } from "koffi";
import { type FunctionName, Status, type StructName, constants, functions } from "./abi.js";
import { DgemmaError } from "./errors.js";
import { locate } from "./locate.js";
import { type Memory, Struct } from "./struct.js";
import { Turns } from "./turns.js";

type CFunction = ReturnType<LibraryHandle["func"]>;

/** What a parameter takes: a number, an object's address, memory, or NULL. */
export type Argument = number | bigint | Memory | null;

/** Longer texts are cut. */
const ERROR_TEXT_BYTES = 2048;

/** Calls that koffi is given at once: it refuses more than 256, and each takes 256 KiB until it is done. */
const MOST_CALLS = 128;

/** A loaded library. */
export class Native {
  readonly path: string;
  readonly #functions: Record<FunctionName, CFunction>;
  readonly #calls = new Turns(MOST_CALLS);

  /** Loads a library, or finds the one loaded from the same place before. */
  static open(named?: string): Native {
    const key = named ?? process.env["DGEMMA_LIBRARY"] ?? "";
    let native = opened.get(key);
    if (!native) {
      native = new Native(named);
      opened.set(key, native);
    }
    return native;
  }

  private constructor(named: string | undefined) {
    const { path, library } = locate(named);
    this.path = path;
    const version = library.func("dgemma_abi_version", "uint32_t", [])() as number;
    if (version < constants.DGEMMA_ABI_VERSION) {
      const needed = constants.DGEMMA_ABI_VERSION;
      throw new DgemmaError("INVALID_ARGUMENT", `${path}: has ABI version ${version}, expected ${needed} or newer`);
    }
    this.#functions = Object.fromEntries(
      Object.entries(functions).map(([name, [result, parameters]]) => [
        name,
        library.func(name, result, [...parameters]),
      ]),
    ) as Record<FunctionName, CFunction>;
  }

  /** Calls a function that cannot fail. */
  plain<T>(name: FunctionName, ...args: Argument[]): T {
    return this.#functions[name](...args) as T;
  }

  /** Calls a function on this thread and throws what it answers. */
  call(name: FunctionName, ...args: Argument[]): void {
    this.#check(this.#functions[name](...args) as number);
  }

  /** As {@link call}, for a function that ends in `T **out`: what came out. */
  create(name: FunctionName, ...args: Argument[]): bigint {
    const out = new BigUint64Array(1);
    this.call(name, ...args, out);
    return out[0]!;
  }

  /** As {@link call}, for a function that ends in a text's `buffer, cap, len`: the text. */
  text(name: FunctionName, ...args: Argument[]): string {
    const length = new BigUint64Array(1);
    // Most texts are short; a longer one says how long it is.
    for (let cap = 256; ; cap = Number(length[0]) + 1) {
      const buffer = Buffer.alloc(cap);
      const status = this.#functions[name](...args, buffer, cap, length) as number;
      if (status === Status.BUFFER_TOO_SMALL && Number(length[0]) >= cap) continue;
      this.#check(status);
      return buffer.toString("utf8", 0, Number(length[0]));
    }
  }

  /** As {@link call}, for a function that fills a report. */
  report<N extends StructName>(name: FunctionName, report: N, ...args: Argument[]): ReturnType<Struct<N>["read"]> {
    const out = new Struct(report);
    this.call(name, ...args, out.bytes);
    return out.read();
  }

  /**
   * Calls a function on a thread of the pool; the event loop goes on. Resolves to the status. Memory among the arguments,
   * and `hold`, which they point to, stay alive until then.
   */
  background(name: FunctionName, args: Argument[], hold: unknown[] = []): Promise<number> {
    const run = (): Promise<number> =>
      new Promise((resolve, reject) => {
        const held = [args, hold];
        this.#functions[name].async(...args, (error: Error | null, status: number) => {
          held.length = 0; // Until here: this mention is what holds.
          if (error) reject(error);
          else resolve(status);
        });
      });
    return this.#calls.run(run);
  }

  /** {@link background} for a function whose params have an `error_text`, and throws what it answers. */
  async backgroundWithText<N extends "dgemma_model_params" | "dgemma_context_params" | "dgemma_generate_params">(
    name: FunctionName,
    params: Struct<N>,
    args: Argument[],
  ): Promise<void> {
    const text = Buffer.alloc(ERROR_TEXT_BYTES);
    const fields = params as Struct<"dgemma_context_params">; // each of the three has both fields
    fields.point("error_text", text);
    fields.set("error_text_cap", text.length);
    const status = await this.background(name, args, [params]);
    if (status !== Status.OK) throw new DgemmaError(status, text.toString("utf8", 0, text.indexOf(0)));
  }

  /** {@link background} for a function on a context or its block, and throws what it answers. */
  async backgroundOn(context: bigint, name: FunctionName, args: Argument[], hold: unknown[] = []): Promise<void> {
    const status = await this.background(name, args, hold);
    if (status === Status.OK) return;
    // A context has one call at a time here, so that its last failure is this one; BUSY leaves no text.
    const text =
      status === Status.BUSY
        ? this.plain<string>("dgemma_status_text", status)
        : this.text("dgemma_context_last_error", context);
    throw new DgemmaError(status, text);
  }

  #check(status: number): void {
    if (status !== Status.OK) throw new DgemmaError(status, this.plain<string>("dgemma_last_error"));
  }
}

// One per place: callbacks and types of koffi are never unloaded.
const opened = new Map<string, Native>();

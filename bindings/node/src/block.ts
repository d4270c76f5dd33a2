// The denoising loop in the program's hands: begin a block, step it, look into it, commit.

import { Listener, addressOf } from "./callbacks.js";
import type { Canvas } from "./canvas.js";
import type { Context } from "./context.js";
import { invalidArgument, seed64, whole } from "./errors.js";
import { Handle } from "./handle.js";
import type { Native } from "./native.js";
import type { Noise } from "./noise.js";
import { type SamplerOptions, samplerParams } from "./sampler.js";
import { type Candidate, candidateArray } from "./scoring.js";
import { type Step, stepAt } from "./step.js";
import { Struct } from "./struct.js";
import { type Tokens, tokenArray } from "./tokens.js";

/** What a block starts from. */
export interface BlockOptions {
  /** Stops beginning it. */
  signal?: AbortSignal | undefined;
  /** The block's place in the noise: blocks of one text count from 0. */
  index?: number | undefined;
  /** Positions: 1 to the model's canvasLength; left out: that, or the canvas's length. A shorter one gives another text. */
  canvasLength?: number | undefined;
  /** Seed of the noise; 0 or left out: the context's. */
  seed?: number | bigint | undefined;
  /** The sampler's numbers. */
  sampler?: SamplerOptions | undefined;
  /** Tokens and slots to start from, see `canvas()`; left out: noise. */
  canvas?: Canvas | undefined;
  /** Hears of the block's noise before it is used, in each step, and may replace it. */
  onNoise?: ((noise: Noise) => unknown) | undefined;
}

/**
 * A canvas being denoised behind the sequence of a context. Its calls take turns with the context's; closing the context
 * closes it. `for await (const step of block)` steps until it is done.
 */
export class Block implements AsyncIterable<Step> {
  readonly #context: Context;
  readonly #native: Native;
  readonly #handle: Handle;
  readonly #listener: Listener;

  /** @internal Blocks come from `Context.beginBlock()`. */
  constructor(context: Context, pointer: bigint, listener: Listener) {
    const { native } = context.model;
    this.#context = context;
    this.#native = native;
    this.#listener = listener;
    this.#handle = new Handle(this, "block", pointer, (block) => {
      disown();
      native.plain("dgemma_block_free", block);
    });
    const disown = context.adopt(this.#handle);
  }

  /** Does one denoising step, and tells what it found. A step that fails can be repeated. */
  step(options: { signal?: AbortSignal } = {}): Promise<Step> {
    return this.#turn(options.signal, async (block, context) => {
      await this.#listener.during(() => this.#native.backgroundOn(context, "dgemma_block_step", [block, null]));
      return this.#describe(block);
    });
  }

  /** Steps until the block is done. Leaving the loop leaves the block as it is. */
  async *[Symbol.asyncIterator](): AsyncGenerator<Step, void, undefined> {
    for (let done = false; !done;) {
      const step = await this.step();
      done = step.done;
      yield step;
    }
  }

  /** What the last step found. Before the first one: where the block starts from; other arrays are empty then. */
  describe(): Promise<Step> {
    return this.#turn(undefined, (block) => this.#describe(block));
  }

  /**
   * Log-probabilities over the whole vocabulary at chosen positions, as the last step computed them, one array for each.
   * Must come before the context does anything else.
   */
  logProbs(positions: Tokens): Promise<Float32Array[]> {
    return this.#rows("dgemma_block_log_probs", positions);
  }

  /** The logits that `logProbs()` makes its numbers from, soft-capped. */
  logits(positions: Tokens): Promise<Float32Array[]> {
    return this.#rows("dgemma_block_logits", positions);
  }

  /** The log-probabilities of candidates in the last step. Must come before the context does anything else. */
  score(candidates: readonly Candidate[]): Promise<Float32Array> {
    const wanted = candidateArray(candidates);
    const scores = new Float32Array(candidates.length);
    return this.#turn(undefined, async (block, context) => {
      await this.#native.backgroundOn(context, "dgemma_block_score", [block, wanted, candidates.length, scores]);
      return scores;
    });
  }

  /** Appends the first `n` tokens of the draft to the context's sequence. The block is over then. */
  commit(n: number): Promise<void> {
    whole("n", n);
    return this.#turn(undefined, (block) => this.#native.call("dgemma_block_commit", block, n));
  }

  /** Frees the block. */
  close(): Promise<void> {
    return this.#handle.close();
  }

  [Symbol.dispose](): void {
    void this.close();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.close();
  }

  async #turn<T>(signal: AbortSignal | undefined, job: (block: bigint, context: bigint) => T | Promise<T>): Promise<T> {
    if (this.#handle.closed) throw this.#handle.closedError();
    return this.#context.turn(signal, (context) => this.#handle.use(async (block) => job(block, context)));
  }

  #describe(block: bigint): Step {
    const out = new Struct("dgemma_step");
    this.#native.call("dgemma_block_describe", block, out.bytes);
    return stepAt(out.bytes);
  }

  #rows(name: "dgemma_block_log_probs" | "dgemma_block_logits", positions: Tokens): Promise<Float32Array[]> {
    const rows = tokenArray("positions", positions);
    const width = this.#context.model.info.vocabSize;
    const values = new Float32Array(rows.length * width);
    return this.#turn(undefined, async (block, context) => {
      await this.#native.backgroundOn(context, name, [block, rows, rows.length, values, values.length, null]);
      return Array.from(rows, (_, i) => values.subarray(i * width, (i + 1) * width));
    });
  }
}

/** See `Context.beginBlock()`. */
export async function beginBlock(context: Context, options: BlockOptions): Promise<Block> {
  const { native, handle } = context.model;
  const listener = new Listener({ onNoise: options.onNoise });
  const params = new Struct("dgemma_block_params");
  native.call("dgemma_block_params_init", params.bytes, params.bytes.length);
  params.set("index", whole("index", options.index ?? 0, 0xffff_ffff));
  params.set("seed", seed64(options.seed ?? 0));
  params.set("canvas_length", whole("canvasLength", options.canvasLength ?? 0, 0xffff_ffff));
  if (options.canvas) pointAtCanvas(params, options.canvas, options.canvasLength);
  if (options.onNoise) {
    params.set("on_noise", addressOf("onNoise"));
    params.set("user_data", listener.id);
  }
  const out = new BigUint64Array(1);
  return context.turn(options.signal, async (pointer) => {
    if (options.sampler) params.point("sampler", samplerParams(native, handle.pointer, options.sampler));
    await listener.during(() =>
      native.backgroundOn(pointer, "dgemma_block_begin", [pointer, params.bytes, out], [params]),
    );
    return new Block(context, out[0]!, listener);
  });
}

/** The library reads as many tokens and slots as the canvas is long. */
function pointAtCanvas(params: Struct<"dgemma_block_params">, canvas: Canvas, length: number | undefined): void {
  const tokens = tokenArray("canvas.tokens", canvas.tokens);
  const slots = Uint8Array.from(canvas.slots);
  if (slots.length !== tokens.length) {
    throw invalidArgument(
      "canvas.slots",
      `has ${slots.length} entries, expected one for each of ${tokens.length} tokens`,
    );
  }
  if (tokens.length === 0 || (length !== undefined && length !== tokens.length)) {
    const expected = length === undefined ? "some" : `canvasLength, ${length}`;
    throw invalidArgument("canvas", `has ${tokens.length} positions, expected ${expected}`);
  }
  params.set("canvas_length", tokens.length);
  params.point("tokens", tokens);
  params.point("slots", slots);
}

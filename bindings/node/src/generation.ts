// Generating: what may be asked for, how it went, and the one call that does it.

import { constants, stopReasons } from "./abi.js";
import { type Hearers, Listener, addressOf } from "./callbacks.js";
import { AbortError, seed64, whole } from "./errors.js";
import type { Handle } from "./handle.js";
import type { Native } from "./native.js";
import type { Noise } from "./noise.js";
import { type SamplerOptions, samplerParams } from "./sampler.js";
import type { Step } from "./step.js";
import { LEFT } from "./stream.js";
import { Struct } from "./struct.js";

/**
 * What to generate. The callbacks run on the main thread, while the generation waits for them; one that returns `false`
 * stops it, one that throws stops it and makes it reject with what was thrown.
 */
export interface GenerateOptions {
  /** Stops the generation within the time of one layer; it then rejects with an AbortError. */
  signal?: AbortSignal | undefined;
  /** The same seed gives the same text. 0 or left out: the context's seed. */
  seed?: number | bigint | undefined;
  /** Most tokens to generate; left out: one canvas. */
  maxTokens?: number | undefined;
  /** Most denoising steps per canvas; left out: the sampler's number. */
  maxSteps?: number | undefined;
  /** The sampler's numbers. */
  sampler?: SamplerOptions | undefined;
  /** A string prompt is the text itself, with special tokens parsed and the begin token before it; not a chat message. */
  raw?: boolean | undefined;
  /** Function schemas for the chat template. */
  tools?: readonly unknown[] | undefined;
  /** Go on past tokens that end an answer, which then are part of the text. */
  ignoreEnd?: boolean | undefined;
  /** Make the last canvas short instead of cutting its text. Cheaper, but not what the model was trained on. */
  adaptiveLastCanvas?: boolean | undefined;
  /** Show control tokens in texts. */
  showSpecial?: boolean | undefined;
  /** Hears how far the prompt is encoded. */
  onPrefill?: ((encoded: number, total: number) => unknown) | undefined;
  /** Hears of each denoising step. */
  onStep?: ((step: Step) => unknown) | undefined;
  /** Receives the committed tokens of each canvas, just before their text. */
  onTokens?: ((block: number, tokens: Uint32Array) => unknown) | undefined;
  /** Receives the committed text. */
  onText?: ((text: string) => unknown) | undefined;
  /** Receives the stable beginning of the canvas under way: replaces the early text before it, replaced by the next text. */
  onEarlyText?: ((text: string) => unknown) | undefined;
  /** Hears of all noise before it is used, and may replace it, so that a recording gives the same text again. */
  onNoise?: ((noise: Noise) => unknown) | undefined;
}

/** How a generation went. Durations are in seconds. */
export interface GenerationResult {
  /** The whole text. */
  readonly text: string;
  /** Why it ended. "cancelled": a callback or the reader stopped it; complete canvases were delivered. */
  readonly stopReason: (typeof stopReasons)[number];
  /** Canvases denoised. */
  readonly blocks: number;
  /** Denoising steps in all. */
  readonly steps: number;
  /** Tokens before the generated ones. */
  readonly promptTokens: number;
  /** Tokens generated. */
  readonly tokens: number;
  /** Time spent encoding the prompt and committed canvases. */
  readonly prefillSeconds: number;
  /** Time spent in denoising steps. */
  readonly denoiseSeconds: number;
  /** From the call to the first committed canvas; 0 if there was none. */
  readonly firstCanvasSeconds: number;
  /** From the call to its end. */
  readonly totalSeconds: number;
}

const flags = {
  ignoreEnd: constants.DGEMMA_GENERATE_IGNORE_END,
  adaptiveLastCanvas: constants.DGEMMA_GENERATE_ADAPTIVE_LAST_CANVAS,
  showSpecial: constants.DGEMMA_GENERATE_SHOW_SPECIAL,
} as const;

/** Generates behind the sequence of a context that nobody else is using. `model` lends the sampler's defaults. */
export async function generate(
  native: Native,
  model: Handle,
  context: bigint,
  options: GenerateOptions,
  stop: AbortSignal,
): Promise<GenerationResult> {
  let text = "";
  const onText = (piece: string): unknown => {
    text += piece;
    return options.onText?.(piece);
  };
  const listener = new Listener({ ...options, onText });
  const params = generateParams(native, model, options, listener);
  const out = new Struct("dgemma_generation");
  await listener.during(() =>
    native.backgroundWithText("dgemma_context_generate", params, [context, params.bytes, out.bytes]),
  );
  const result = resultOf(out, text);
  const stopped = stop.aborted && result.stopReason === "cancelled";
  if (stopped && stop.reason !== LEFT) throw new AbortError(stop.reason);
  return result;
}

function generateParams(
  native: Native,
  model: Handle,
  options: GenerateOptions,
  listener: Listener,
): Struct<"dgemma_generate_params"> {
  const params = new Struct("dgemma_generate_params");
  native.call("dgemma_generate_params_init", params.bytes, params.bytes.length);
  params.set("seed", seed64(options.seed ?? 0));
  params.set("max_tokens", whole("maxTokens", options.maxTokens ?? 0));
  params.set("max_steps", whole("maxSteps", options.maxSteps ?? 0, 0xffff_ffff));
  const wanted = Object.entries(flags).filter(([name]) => options[name as keyof typeof flags]);
  params.set(
    "flags",
    wanted.reduce((all, [, flag]) => all + flag, 0),
  );
  if (options.sampler) params.point("sampler", samplerParams(native, model.pointer, options.sampler));
  params.set("user_data", listener.id);
  for (const [name, field] of Object.entries(fieldOf)) {
    const hearer = name as keyof typeof fieldOf;
    if (listener.hearers[hearer]) params.set(field, addressOf(hearer));
  }
  return params;
}

const fieldOf = {
  onPrefill: "on_prefill",
  onStep: "on_step",
  onTokens: "on_tokens",
  onText: "on_text",
  onEarlyText: "on_early_text",
  onNoise: "on_noise",
} as const satisfies Partial<Record<keyof Hearers, string>>;

function resultOf(out: Struct<"dgemma_generation">, text: string): GenerationResult {
  const c = out.read();
  return {
    text,
    stopReason: stopReasons[c.stop_reason] ?? "cancelled",
    blocks: c.blocks,
    steps: c.steps,
    promptTokens: c.prompt_tokens,
    tokens: c.tokens,
    prefillSeconds: c.prefill_seconds,
    denoiseSeconds: c.denoise_seconds,
    firstCanvasSeconds: c.first_canvas_seconds,
    totalSeconds: c.total_seconds,
  };
}

// The sampler's numbers.

import { invalidArgument, whole } from "./errors.js";
import type { Native } from "./native.js";
import { Struct } from "./struct.js";
import { type Tokens, tokenArray } from "./tokens.js";

/** The numbers of the entropy-bound sampler. What is left out is as in the model. */
export interface SamplerOptions {
  /** Most denoising steps per canvas, 1 to 1000000. */
  maxSteps?: number | undefined;
  /** Stop once the draft equals that many previous drafts, 0 to 1024; 0 asks only for confidence. */
  stability?: number | undefined;
  /** Temperature that the schedule approaches, > 0. */
  tMin?: number | undefined;
  /** Temperature of the first step, at least tMin. */
  tMax?: number | undefined;
  /** Bound in nats on the summed entropy of the positions that are accepted in a step, >= 0. */
  entropyBound?: number | undefined;
  /** Stop only below this mean entropy in nats, >= 0. */
  confidence?: number | undefined;
  /** A position is stable when its draft stayed the same for so many steps ... */
  stableSteps?: number | undefined;
  /** ... and its entropy in nats is at most this. Both matter for `stableLength` and early text, not for the text. */
  stableEntropy?: number | undefined;
  /** Added to tokens' logits at every position: -1000 to 1000, or -Infinity, which bans the token. */
  logitBias?: Iterable<readonly [token: number, bias: number]> | undefined;
  /** Tokens that are never drawn or drafted. */
  banned?: Tokens | undefined;
}

/** The numbers of a model's sampler. */
export type SamplerDefaults = Required<{ [K in keyof typeof fields]: number }>;

const fields = {
  maxSteps: "max_steps",
  stability: "stability",
  tMin: "t_min",
  tMax: "t_max",
  entropyBound: "entropy_bound",
  confidence: "confidence",
  stableSteps: "stable_steps",
  stableEntropy: "stable_entropy",
} as const;

const counts = new Set<string>(["maxSteps", "stability", "stableSteps"]);

function defaults(native: Native, model: bigint): Struct<"dgemma_sampler_params"> {
  const params = new Struct("dgemma_sampler_params");
  native.call("dgemma_sampler_params_init", params.bytes, params.bytes.length, model);
  return params;
}

/** A model's own numbers. */
export function samplerDefaults(native: Native, model: bigint): SamplerDefaults {
  const c = defaults(native, model).read();
  const entries = Object.entries(fields).map(([name, field]) => [name, c[field]]);
  return Object.fromEntries(entries) as SamplerDefaults;
}

/** `options` over the model's own numbers, for a call. */
export function samplerParams(native: Native, model: bigint, options: SamplerOptions): Struct<"dgemma_sampler_params"> {
  const params = defaults(native, model);
  for (const [name, field] of Object.entries(fields)) {
    const value = options[name as keyof typeof fields];
    if (value === undefined) continue;
    if (typeof value !== "number") throw invalidArgument(`sampler.${name}`, "is no number");
    params.set(field, counts.has(name) ? whole(`sampler.${name}`, value, 0xffff_ffff) : value);
  }
  if (options.banned) {
    const banned = tokenArray("sampler.banned", options.banned);
    params.point("banned", banned);
    params.set("n_banned", banned.length);
  }
  if (options.logitBias) {
    const biases = [...options.logitBias];
    params.point("logit_bias", biasArray(biases));
    params.set("n_logit_bias", biases.length);
  }
  return params;
}

/** `dgemma_logit_bias[]`: a token and a float, four bytes each. */
function biasArray(biases: (readonly [number, number])[]): Buffer {
  const bytes = Buffer.alloc(biases.length * 8);
  biases.forEach(([token, bias], i) => {
    bytes.writeUInt32LE(whole("sampler.logitBias", token, 0xffff_ffff), i * 8);
    bytes.writeFloatLE(bias, i * 8 + 4);
  });
  return bytes;
}

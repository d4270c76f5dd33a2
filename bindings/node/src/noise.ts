// Noise that is about to be used, for recordings and replays.

import koffi from "koffi";
import { constants } from "./abi.js";
import { invalidArgument } from "./errors.js";
import { copyOf, structType } from "./struct.js";

/** Noise of one canvas. What the hearer writes into its array is used instead. */
export type Noise = { readonly block: number; readonly step: number } & (
  | {
      /** The tokens that a canvas starts from; or those that positions get which are not accepted. */
      readonly purpose: "canvas" | "renoise";
      readonly tokens: Uint32Array;
    }
  | {
      /** Where in its distribution each position's token is drawn. */
      readonly purpose: "draws";
      /** Numbers above 0 and below 1. */
      readonly draws: Float32Array;
    }
);

const purposes = {
  [constants.DGEMMA_NOISE_CANVAS]: "canvas",
  [constants.DGEMMA_NOISE_RENOISE]: "renoise",
} as const;

/** Shows the noise at an address to `hearer`, and writes back what it made of it. */
export function hearNoise(at: bigint, hearer: (noise: Noise) => unknown): unknown {
  const c = koffi.decode(at, structType("dgemma_noise")) as Record<string, number> & Record<"tokens" | "draws", bigint>;
  const [length, where] = [c["canvas_length"]!, { block: c["block"]!, step: c["step"]! }];
  if (c["purpose"] === constants.DGEMMA_NOISE_DRAWS) {
    const draws = copyOf(c.draws, "float", length);
    const answer = hearer({ ...where, purpose: "draws", draws });
    koffi.encode(c.draws, "float", draws, length);
    return answer;
  }
  const purpose = purposes[c["purpose"] as keyof typeof purposes];
  if (!purpose) throw invalidArgument("purpose", `is ${c["purpose"]}, which this package does not know`);
  const tokens = copyOf(c.tokens, "uint32_t", length);
  const answer = hearer({ ...where, purpose, tokens });
  koffi.encode(c.tokens, "uint32_t", tokens, length);
  return answer;
}

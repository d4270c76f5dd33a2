// Candidates for scoring.

import { whole } from "./errors.js";

/** A token whose probability is asked for. */
export interface Candidate {
  /** Position in the canvas, from 0. */
  readonly position: number;
  readonly token: number;
}

/** `dgemma_candidate[]`: position and token, four bytes each. */
export function candidateArray(candidates: readonly Candidate[]): Uint32Array {
  return Uint32Array.from(
    candidates.flatMap(({ position, token }, i) => [
      whole(`candidates[${i}].position`, position, 0xffff_ffff),
      whole(`candidates[${i}].token`, token, 0xffff_ffff),
    ]),
  );
}

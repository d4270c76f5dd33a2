// What a block starts from: token and slot of each position.

import { constants } from "./abi.js";
import { whole } from "./errors.js";
import { type Tokens, tokenArray } from "./tokens.js";

/** A stretch of a canvas: tokens that stay, tokens that may change, or so many positions of noise. */
export type CanvasPart = { readonly pinned: Tokens } | { readonly free: Tokens } | { readonly noise: number };

/** A canvas put together: a token for each position, and a slot that says what becomes of it. */
export interface Canvas {
  readonly tokens: Uint32Array;
  readonly slots: Uint8Array;
}

/**
 * Puts a canvas together, e.g. to fill a gap: `canvas([{ pinned: before }, { noise: 5 }, { pinned: after }])`. With a
 * `length`, noise fills it up.
 */
export function canvas(parts: readonly CanvasPart[], length?: number): Canvas {
  const pieces = parts.map(piece);
  const used = pieces.reduce((sum, { tokens }) => sum + tokens.length, 0);
  const tokens = new Uint32Array(Math.max(used, whole("length", length ?? 0, 0xffff_ffff)));
  const slots = new Uint8Array(tokens.length).fill(constants.DGEMMA_SLOT_NOISE);
  let at = 0;
  for (const piece of pieces) {
    tokens.set(piece.tokens, at);
    slots.fill(piece.slot, at, (at += piece.tokens.length));
  }
  return { tokens, slots };
}

function piece(part: CanvasPart, i: number): { tokens: Uint32Array; slot: number } {
  if ("pinned" in part) return { tokens: tokenArray(`parts[${i}]`, part.pinned), slot: constants.DGEMMA_SLOT_PINNED };
  if ("free" in part) return { tokens: tokenArray(`parts[${i}]`, part.free), slot: constants.DGEMMA_SLOT_FREE };
  return { tokens: new Uint32Array(whole(`parts[${i}]`, part.noise, 0xffff)), slot: constants.DGEMMA_SLOT_NOISE };
}

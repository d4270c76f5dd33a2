// Token ids as the program has them, and as C reads them.

import { invalidArgument, whole } from "./errors.js";

/** Token ids. */
export type Tokens = Uint32Array | readonly number[];

/** A copy that C may read while the program changes its own. */
export function tokenArray(name: string, tokens: Tokens): Uint32Array {
  if (!(tokens instanceof Uint32Array) && !Array.isArray(tokens)) {
    throw invalidArgument(name, "is no Uint32Array and no array of numbers");
  }
  if (!(tokens instanceof Uint32Array)) tokens.forEach((id: number, i) => whole(`${name}[${i}]`, id, 0xffff_ffff));
  return Uint32Array.from(tokens);
}

/** A text with a NUL behind it, for a parameter that C reads to its NUL. */
export function cString(name: string, text: string): Buffer {
  if (typeof text !== "string") throw invalidArgument(name, "is no string");
  if (text.includes("\0")) throw invalidArgument(name, "has a NUL in it");
  return Buffer.from(`${text}\0`);
}

/** A text for a parameter whose length is given. */
export function utf8(name: string, text: string): Buffer {
  if (typeof text !== "string") throw invalidArgument(name, "is no string");
  return Buffer.from(text);
}

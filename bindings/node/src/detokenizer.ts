// Text from tokens that arrive bit by bit.

import { constants } from "./abi.js";
import { Handle } from "./handle.js";
import type { Native } from "./native.js";
import { type Tokens, tokenArray } from "./tokens.js";

/** Decodes a text token by token: gives complete characters, and together the text of all tokens at once. */
export class Detokenizer {
  readonly #native: Native;
  readonly #handle: Handle;

  /** @internal Detokenizers come from `Model.createDetokenizer()`. */
  constructor(native: Native, model: bigint, special: boolean) {
    this.#native = native;
    const flags = special ? constants.DGEMMA_DETOKENIZE_SPECIAL : 0;
    const pointer = native.create("dgemma_detokenizer_create", model, flags);
    this.#handle = new Handle(this, "detokenizer", pointer, (p) => native.plain("dgemma_detokenizer_free", p));
  }

  /** Takes the next tokens and gives the text that they complete, which may be none. */
  push(tokens: Tokens): string {
    const ids = tokenArray("tokens", tokens);
    return this.#native.text("dgemma_detokenizer_push", this.#handle.pointer, ids, ids.length);
  }

  /** Ends the text: gives what was held back, and is at the beginning of a new text then. */
  finish(): string {
    return this.#native.text("dgemma_detokenizer_finish", this.#handle.pointer);
  }

  /** Frees the detokenizer. */
  close(): void {
    void this.#handle.close();
  }

  [Symbol.dispose](): void {
    this.close();
  }
}

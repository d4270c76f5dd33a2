// Conversations, and whatever else a prompt may be, to tokens.

import { invalidArgument } from "./errors.js";
import type { GenerateOptions } from "./generation.js";
import type { Model } from "./model.js";

/** A message of a conversation; templates may read more than these two. */
export interface ChatMessage {
  readonly role: string;
  readonly content: unknown;
  readonly [key: string]: unknown;
}

/** What to generate behind: a user's message (with `raw`: a text), a conversation, or tokens. */
export type Prompt = string | readonly ChatMessage[] | Uint32Array;

/** The tokens of a prompt. */
export async function promptTokens(model: Model, prompt: Prompt, options: GenerateOptions): Promise<Uint32Array> {
  if (prompt instanceof Uint32Array) return prompt;
  if (typeof prompt === "string" && options.raw) {
    return model.tokenizeAsync(prompt, { addBos: true, parseSpecial: true });
  }
  const messages = typeof prompt === "string" ? [{ role: "user", content: prompt }] : prompt;
  if (!Array.isArray(messages)) throw invalidArgument("prompt", "is no string, no list of messages and no Uint32Array");
  const text = model.renderChat(messages, { tools: options.tools });
  return model.tokenizeAsync(text, { parseSpecial: true });
}

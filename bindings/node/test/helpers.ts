// What the tests share: the built-in model, and prompts that keep it busy.

import { readFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { type GenerateOptions, Model } from "dgemma";

/** A path in the repository. */
export function inRepository(path: string): string {
  return fileURLToPath(new URL(`../../../${path}`, import.meta.url));
}

export const TINY = inRepository("examples/tiny/dgemma-tiny.gguf");
export const PROMPT = "What is 7 + 12?";
export const ANSWER = "19";

/** Loads the built-in model. */
export function tiny(): Promise<Model> {
  return Model.load(TINY, { threads: 1 });
}

/** The texts that every language must give. */
export const sameText = JSON.parse(readFileSync(inRepository("tests/golden/same_text.json"), "utf8")) as {
  prompt: string;
  seed: number;
  max_tokens: number;
  text: string;
}[];

/** Keeps the built-in model busy for seconds: it never is confident, and goes on past its end. */
export const LONG: GenerateOptions = {
  maxTokens: 3200,
  ignoreEnd: true,
  sampler: { maxSteps: 200, confidence: 0 },
};

export function sleep(ms: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, ms));
}

// Fills gaps in a text: what is there is pinned, each "_" is a token of noise, and the whole canvas is denoised at once, so
// that the model sees both sides of a gap. Arguments: MODEL PROMPT ANSWER, e.g.
//
//     node infill.mjs dgemma-tiny.gguf "Count from 3 to 11." "3, 4, _, _, 7, _, 9, 10, 11"
//
// Shows the draft after each step on stderr and prints the result.

import { Model, canvas } from "../../bindings/node/dist/index.js"; // in a project of your own: from "dgemma"

const [path, prompt, answer] = process.argv.slice(2);
try {
  const model = await Model.load(path);
  const context = await model.createContext();
  const chat = model.renderChat([{ role: "user", content: prompt }]);
  await context.setTokens(model.tokenize(chat, { parseSpecial: true }));

  // What is behind the answer is the model's as well: a token that ends it, usually.
  const parts = answer
    .split(/(_+)/)
    .map((part) => (part.startsWith("_") ? { noise: part.length } : { pinned: model.tokenize(part) }));
  const block = await context.beginBlock({ canvas: canvas(parts, model.info.canvasLength) });

  let draft = [];
  for await (const step of block) {
    const end = step.draft.findIndex((token) => model.isEndToken(token));
    draft = step.draft.subarray(0, end < 0 ? undefined : end);
    console.error(`step ${step.step}: ${model.detokenize(draft)}`);
  }
  console.log(model.detokenize(draft));
} catch (error) {
  console.error(error.message);
  process.exitCode = 1;
}

// Blocks: step by step, canvases of one's own, looking into a step.

import assert from "node:assert/strict";
import { after, beforeEach, test } from "node:test";
import { type Step, canvas } from "dgemma";
import { ANSWER, PROMPT, tiny } from "./helpers.js";

const model = await tiny();
const context = await model.createContext();
const { canvasLength, vocabSize } = model.info;
after(() => model.close());
beforeEach(async () => {
  const messages = [{ role: "user", content: PROMPT }];
  await context.setTokens(model.tokenize(model.renderChat(messages), { parseSpecial: true }));
});

test("a block stepped by hand commits what generating commits", async () => {
  const before = (await context.info()).length;
  await using block = await context.beginBlock({ seed: 5 });
  const start = await block.describe();
  assert.equal(start.canvas.length, canvasLength);
  assert.equal(start.draft.length, 0);
  let last: Step | undefined;
  for await (const step of block) last = step;
  assert.ok(last!.done);
  assert.deepEqual(await block.describe(), last);
  const end = last!.draft.findIndex((id) => model.isEndToken(id)) + 1;
  await block.commit(end);
  const tokens = await context.tokens();
  assert.equal(tokens.length, before + end);
  assert.equal(model.detokenize(tokens.subarray(before)), ANSWER);
  const whole = await context.setTokens(tokens.subarray(0, before));
  assert.ok(whole > 0);
  assert.equal((await context.generateText(undefined, { seed: 5 })).text, ANSWER);
});

test("gaps are filled around what is pinned", async () => {
  const prompt = [{ role: "user", content: "Count from 3 to 11." }];
  await context.setTokens(model.tokenize(model.renderChat(prompt), { parseSpecial: true }));
  const [head, tail] = [model.tokenize("3, 4, "), model.tokenize(", 7, 8")];
  const gap = model.tokenize("5, 6").length;
  const start = canvas([{ pinned: head }, { noise: gap }, { pinned: tail }], canvasLength);
  await using block = await context.beginBlock({ canvas: start, sampler: { confidence: 0, maxSteps: 4 } });
  let steps = 0;
  for await (const step of block) {
    steps++;
    assert.ok(model.detokenize(step.draft).startsWith("3, 4, "), "pinned tokens stay in every draft");
    assert.deepEqual([...step.pinned.subarray(0, head.length)], head.length ? Array(head.length).fill(1) : []);
    assert.equal(step.pinned[head.length], 0);
  }
  assert.equal(steps, 4);
  assert.ok(model.detokenize((await block.describe()).draft).startsWith("3, 4, 5, 6, 7, 8"));
});

test("canvases are put together from parts", () => {
  const { tokens, slots } = canvas([{ pinned: [5, 6] }, { noise: 2 }, { free: new Uint32Array([7]) }], 7);
  assert.deepEqual([...tokens], [5, 6, 0, 0, 7, 0, 0]);
  assert.deepEqual([...slots], [2, 2, 0, 0, 1, 0, 0]);
  assert.equal(canvas([{ noise: 3 }]).tokens.length, 3);
});

test("rows of a step: log-probabilities, logits, scores", async () => {
  await using block = await context.beginBlock();
  await block.step();
  const [first, third] = await block.logProbs([0, 2]);
  const sum = first!.reduce((total, p) => total + Math.exp(p), 0);
  assert.ok(Math.abs(sum - 1) < 1e-3, `probabilities add up to ${sum}`);
  assert.equal(third!.length, vocabSize);
  const [logits] = await block.logits([0]);
  // Both differ by the same number at every token: the logarithm of the sum.
  const shift = logits![0]! - first![0]!;
  assert.ok(logits!.every((logit, i) => Math.abs(logit - first![i]! - shift) < 1e-3));
  const token = model.tokenize("9")[0]!;
  const [score] = await block.score([{ position: 2, token }]);
  assert.ok(Math.abs(score! - third![token]!) < 1e-3);
  assert.deepEqual(await block.logProbs([]), []);
});

test("noise of a block is heard of in its begin and its steps", async () => {
  const heard: string[] = [];
  await using block = await context.beginBlock({
    onNoise: ({ purpose, step }) => void heard.push(`${purpose} ${step}`),
  });
  await block.step();
  assert.deepEqual(heard, ["canvas 0", "draws 0", "renoise 0"]);
  const mine = new Error("mine");
  await using failing = await context.beginBlock({
    onNoise: ({ purpose }) => {
      if (purpose === "draws") throw mine;
    },
  });
  await assert.rejects(failing.step(), mine);
});

test("a step that was stopped can be repeated", async () => {
  await using block = await context.beginBlock();
  await assert.rejects(block.step({ signal: AbortSignal.abort("no") }), { name: "AbortError", cause: "no" });
  assert.equal((await block.step()).step, 0);
});

test("wrong arguments are refused with the argument's name", async () => {
  const refused: [() => Promise<unknown>, RegExp][] = [
    [() => context.beginBlock({ canvasLength: 33 }), /canvas_length/],
    [() => context.beginBlock({ canvas: canvas([{ pinned: [512] }]) }), /512/],
    [() => context.beginBlock({ canvas: canvas([{ noise: 33 }]) }), /canvas_length/],
    [() => context.beginBlock({ canvas: canvas([]) }), /`canvas`/],
    [() => context.beginBlock({ canvas: canvas([{ noise: 3 }]), canvasLength: 4 }), /`canvas`: has 3/],
    [() => context.beginBlock({ canvas: { tokens: new Uint32Array(2), slots: new Uint8Array(1) } }), /`canvas.slots`/],
    [() => context.beginBlock({ canvas: { tokens: new Uint32Array(1), slots: new Uint8Array([3]) } }), /`slots`/],
    [async () => canvas([{ noise: -1 }]), /`parts\[0\]`/],
  ];
  await using block = await context.beginBlock();
  refused.push(
    [() => block.commit(1), /.*/],
    [() => block.logProbs([0]), /.*/],
    [() => block.score([{ position: 0, token: 1 }]), /.*/],
  );
  for (const [call, message] of refused)
    await assert.rejects(call, { name: "DgemmaError", status: "INVALID_ARGUMENT", message });
  await block.step();
  await assert.rejects(block.logits([canvasLength]), { status: "INVALID_ARGUMENT" });
  await context.append([5]);
  await assert.rejects(block.step(), { status: "INVALID_ARGUMENT" }, "the sequence changed");
  await block.close();
  await assert.rejects(block.step(), { message: "the block is closed" });
});

test("closing the context closes its blocks", async () => {
  const other = await model.createContext();
  const block = await other.beginBlock();
  // The step is stopped, unless it was faster.
  const step = block.step().catch((error: Error) => assert.equal(error.name, "AbortError"));
  await other.close();
  await step;
  await assert.rejects(block.step(), { message: "the block is closed" });
  await block.close();
});

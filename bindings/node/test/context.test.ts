// Contexts: sequences, reports, scoring, copies, saving.

import assert from "node:assert/strict";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, test } from "node:test";
import { type Context } from "dgemma";
import { ANSWER, PROMPT, tiny } from "./helpers.js";

const model = await tiny();
const chat = model.tokenize(model.renderChat([{ role: "user", content: PROMPT }]), { parseSpecial: true });
const folder = mkdtempSync(join(tmpdir(), "dgemma-"));
after(async () => {
  await model.close();
  rmSync(folder, { recursive: true });
});

test("options and their defaults", async () => {
  await using plain = await model.createContext();
  assert.deepEqual(await plain.info(), {
    length: 0,
    encoded: 0,
    contextSize: 4096,
    seed: 0n,
    chunk: 256,
    kvType: "f16",
  });
  const seed = 2n ** 63n + 5n;
  await using other = await model.createContext({ contextSize: 100, seed, chunk: 7, kvType: "bf16" });
  assert.deepEqual(await other.info(), { length: 0, encoded: 0, contextSize: 100, seed, chunk: 7, kvType: "bf16" });
  const memory = await other.memory();
  assert.equal(memory.weightBytes, model.memory().weightBytes);
  assert.ok(memory.kvBytes > 0 && memory.activationBytes > 0);
  assert.ok((await plain.memory()).kvBytes > memory.kvBytes);
  assert.equal((await other.generateText(PROMPT)).text, ANSWER);
});

test("the context's seed counts where a call names none", async () => {
  const prompt = "Tell me a story about a grey fox.";
  await using seeded = await model.createContext({ seed: 19 });
  assert.equal((await seeded.generateText(prompt, { maxTokens: 96 })).text, " agsty aystt"); // tests/golden/same_text.json
});

test("sequences are appended to, replaced by longest common prefix, and cut", async () => {
  await using context = await model.createContext();
  await context.append(chat.subarray(0, 5));
  await context.append([...chat.subarray(5)]);
  await context.append([]);
  assert.deepEqual(await context.tokens(), chat);
  const heard: [number, number][] = [];
  await context.prefill({ onPrefill: (encoded, total) => heard.push([encoded, total]) });
  assert.deepEqual(heard.at(-1), [chat.length, chat.length]);
  assert.equal((await context.info()).encoded, chat.length);
  assert.equal(await context.setTokens([...chat, 5, 6]), chat.length);
  await context.truncate(3);
  assert.deepEqual([...(await context.tokens())], [...chat.subarray(0, 3)]);
  await context.reset();
  assert.equal((await context.tokens()).length, 0);
  assert.equal((await context.perf()).prefillTokens, 0);
});

test("counters", async () => {
  await using context = await model.createContext();
  const result = await context.generateText(PROMPT);
  await context.score([1, 2, 3], [{ position: 0, token: 1 }]);
  const perf = await context.perf();
  assert.equal(perf.steps, result.steps);
  assert.equal(perf.committedTokens, (await context.info()).length - result.promptTokens);
  assert.equal(perf.scorings, 1);
  assert.ok(perf.prefillTokens >= result.promptTokens);
  assert.ok(
    Object.values(perf).every((value) => value > 0),
    JSON.stringify(perf),
  );
});

test("scores are log-probabilities", async () => {
  await using context = await model.createContext();
  await context.setTokens(chat);
  const canvas = new Uint32Array(model.info.canvasLength).fill(7);
  const all = Array.from({ length: model.info.vocabSize }, (_, token) => ({ position: 0, token }));
  const scores = await context.score(canvas, all);
  const sum = scores.reduce((total, score) => total + Math.exp(score), 0);
  assert.ok(Math.abs(sum - 1) < 1e-3, `probabilities add up to ${sum}`);
  assert.equal((await context.score(canvas, [])).length, 0);
  assert.deepEqual(await context.tokens(), chat, "the sequence stays as it is");
});

async function answer(context: Context): Promise<string> {
  return (await context.generateText()).text;
}

test("copies go their own way", async () => {
  await using context = await model.createContext();
  await context.setTokens(chat);
  await context.prefill();
  await using copy = await context.clone();
  await context.reset();
  assert.deepEqual(await copy.tokens(), chat);
  assert.equal((await copy.info()).encoded, chat.length);
  assert.equal(await answer(copy), ANSWER);
});

test("saved into memory or a file, and taken back without encoding again", async () => {
  await using context = await model.createContext();
  await context.setTokens(chat);
  await context.prefill();
  const file = join(folder, "context.dgc");
  const bytes = await context.save();
  await context.save(file);
  assert.ok(bytes.length > 1000);
  for (const from of [bytes, file]) {
    await using other = await model.createContext({ contextSize: 200 });
    await other.load(from);
    assert.equal((await other.info()).encoded, chat.length);
    assert.equal(await answer(other), ANSWER);
    assert.equal((await other.perf()).prefillTokens < chat.length, true);
  }
});

test("what cannot be loaded changes nothing and says why", async () => {
  await using context = await model.createContext({ contextSize: 100 });
  await context.setTokens(chat);
  await context.prefill();
  const bytes = await context.save();
  const damaged = bytes.slice();
  damaged[damaged.length >> 1]! ^= 1;
  const argument = { name: "DgemmaError", status: "INVALID_ARGUMENT" };
  await assert.rejects(context.load(damaged), argument);
  await assert.rejects(context.load(new Uint8Array()), { ...argument, message: /bytes/ });
  await assert.rejects(context.load(bytes.subarray(0, 50)), argument);
  await assert.rejects(context.load("no/such/file"), { status: "IO", message: /no\/such\/file/ });
  await assert.rejects(context.save("no/such/folder/file"), { status: "IO", message: /no\/such\/folder/ });
  assert.equal((await context.info()).kvType, "f16");
  await using other = await model.createContext({ kvType: "bf16" });
  await assert.rejects(other.load(bytes), argument);
  assert.deepEqual(await context.tokens(), chat);
});

test("calls on one context take turns; contexts work at the same time", async () => {
  const contexts = await Promise.all(Array.from({ length: 6 }, () => model.createContext()));
  const prompts = [PROMPT, "Sort the digits 52914.", "What is the capital of France?"];
  const answers = [ANSWER, "12459", "Paris"];
  const texts = await Promise.all(
    contexts.flatMap((context) => prompts.map((prompt) => context.generateText(prompt).then(({ text }) => text))),
  );
  assert.deepEqual(
    texts,
    contexts.flatMap(() => answers),
  );
  await Promise.all(contexts.map((context) => context.close()));
});

test("wrong arguments are refused with the argument's name", async () => {
  await using context = await model.createContext();
  const refused: [() => Promise<unknown>, RegExp][] = [
    [async () => model.createContext({ contextSize: 3 }), /context/],
    [async () => model.createContext({ contextSize: -1 }), /`contextSize`: is -1/],
    [async () => model.createContext({ seed: -1 }), /`seed`: is -1/],
    [async () => model.createContext({ seed: 2n ** 64n }), /`seed`/],
    [async () => model.createContext({ kvType: "f8" as never }), /`kvType`: is f8, expected one of f32, f16, bf16/],
    [async () => context.append([512]), /512/],
    [async () => context.append(null as never), /`tokens`/],
    [async () => context.truncate(1), /`length`/],
    [async () => context.truncate(0.5), /`length`: is 0.5/],
    [async () => context.score([], []), /canvas/],
    [async () => context.score([1], [{ position: 1, token: 0 }]), /position|candidate/],
    [async () => context.score([1], [{ position: 0, token: 512 }]), /512/],
    [async () => context.generateText(7 as never), /`prompt`/],
    [async () => context.generateText("x", { maxTokens: -1 }), /`maxTokens`: is -1/],
    [async () => context.generateText("x", { maxSteps: 2_000_000 }), /steps/],
    [async () => context.generateText("x", { sampler: { tMin: -1 } }), /t_min/],
    [async () => context.generateText("x", { sampler: { tMin: "hot" as never } }), /`sampler.tMin`/],
    [async () => context.generateText("x", { sampler: { banned: [600] } }), /banned/],
    [async () => context.generateText("x", { sampler: { logitBias: [[5, 1e9]] } }), /bias/],
  ];
  for (const [call, message] of refused)
    await assert.rejects(call(), { name: "DgemmaError", status: "INVALID_ARGUMENT", message });
  const full = { name: "DgemmaError", status: "CONTEXT_FULL", code: 6 };
  await assert.rejects(context.append(new Uint32Array(5000)), full);
  await using small = await model.createContext({ contextSize: 40 });
  await assert.rejects(small.generateText(PROMPT), full);
});

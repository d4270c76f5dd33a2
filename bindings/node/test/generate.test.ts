// Generating: texts, iterators, callbacks, stopping.

import assert from "node:assert/strict";
import { after, test } from "node:test";
import { AbortError, type GenerateOptions, type Noise, type Step, canvas } from "dgemma";
import { ANSWER, LONG, PROMPT, sameText, sleep, tiny } from "./helpers.js";

const model = await tiny();
const context = await model.createContext();
after(async () => {
  await context.close();
  await model.close();
});

test("the same seed gives the same text as in every other language", async () => {
  assert.ok(sameText.length >= 14);
  for (const { prompt, seed, max_tokens: maxTokens, text } of sameText) {
    const { text: whole } = await context.generateText(prompt, { seed, maxTokens });
    assert.equal(whole, text, prompt);
    let chunks = "";
    for await (const chunk of context.generate(prompt, { seed: BigInt(seed), maxTokens })) chunks += chunk;
    assert.equal(chunks, text, prompt);
  }
});

test("how it went", async () => {
  const stream = context.generate(PROMPT);
  const { value } = await stream.next();
  assert.equal(value, ANSWER);
  const result = await stream.result;
  assert.equal(result.text, ANSWER);
  assert.equal(result.stopReason, "endOfGeneration");
  assert.equal(result.blocks, 1);
  assert.equal(
    result.promptTokens,
    model.tokenize(model.renderChat([{ role: "user", content: PROMPT }]), { parseSpecial: true }).length,
  );
  assert.ok(result.steps >= 1 && result.tokens >= 2 && result.firstCanvasSeconds > 0);
  assert.ok(result.totalSeconds >= result.denoiseSeconds && result.prefillSeconds >= 0);
  assert.deepEqual(await stream.next(), { done: true, value: undefined });
  assert.equal((await context.generateText(PROMPT, { maxTokens: 1 })).stopReason, "maxTokens");
});

test("prompts: messages, tokens, raw text, and none", async () => {
  const messages = [{ role: "user", content: PROMPT }];
  assert.equal((await context.generateText(messages)).text, ANSWER);
  const rendered = model.renderChat(messages);
  assert.equal((await context.generateText(model.tokenize(rendered, { parseSpecial: true }))).text, ANSWER);
  const raw = rendered.replace(/^<bos>/, "");
  assert.equal((await context.generateText(raw, { raw: true })).text, ANSWER);
  await context.setTokens(model.tokenize(rendered, { parseSpecial: true }));
  assert.equal((await context.generateText()).text, ANSWER, "behind the sequence as it is");
});

test("steps come with drafts, entropies, changed and accepted positions", async () => {
  const steps: Step[] = [];
  const stream = context.generateSteps(PROMPT, { sampler: { maxSteps: 5, confidence: 0 } });
  for await (const step of stream) steps.push(step);
  assert.equal(steps.length, 5);
  const { canvasLength, vocabSize } = model.info;
  for (const [i, step] of steps.entries()) {
    assert.equal(step.step, i);
    assert.equal(step.block, 0);
    assert.equal(step.maxSteps, 5);
    assert.equal(step.canvasLength, canvasLength);
    for (const array of [
      step.draft,
      step.entropy,
      step.accepted,
      step.canvas,
      step.drawn,
      step.logProb,
      step.changed,
      step.pinned,
    ]) {
      assert.equal(array.length, canvasLength);
    }
    assert.ok(step.draft.every((id) => id < vocabSize));
    assert.ok(step.entropy.every((nats) => nats >= 0 && nats <= Math.log(vocabSize) + 1e-3));
    assert.ok(step.logProb.every((p) => p <= 0));
    assert.ok(step.accepted.some((flag) => flag === 1));
    assert.ok(step.pinned.every((flag) => flag === 0));
    if (i > 0) {
      const before = steps[i - 1]!.draft;
      assert.deepEqual(
        [...step.changed],
        Array.from(step.draft, (id, at) => Number(id !== before[at])),
      );
    }
    assert.equal(step.done, i === 4);
    assert.ok(step.temperature > 0);
  }
  assert.ok(model.detokenize(steps[4]!.draft).startsWith(ANSWER));
  assert.equal((await stream.result).steps, 5);
});

test("all callbacks, in their order", async () => {
  const heard: string[] = [];
  const options: GenerateOptions = {
    onPrefill: (encoded, total) => heard.push(`prefill ${encoded === total}`),
    onStep: (step) => heard.push(`step ${step.step}`),
    onTokens: (block, tokens) => heard.push(`tokens ${block} ${model.detokenize(tokens)}`),
    onText: (text) => heard.push(`text ${text}`),
    onEarlyText: (text) => heard.push(`early ${text}`),
    sampler: { stableSteps: 0, stableEntropy: 0.05 },
  };
  await context.reset();
  await context.generateText(PROMPT, options);
  assert.equal(heard[0], "prefill true");
  assert.deepEqual(heard.slice(-2), [`tokens 0 ${ANSWER}`, `text ${ANSWER}`]);
  assert.ok(heard.includes("step 0") && heard.includes(`early ${ANSWER}`), heard.join("\n"));
});

test("callbacks stop a generation, and their exceptions come out of it", async () => {
  const stopped = await context.generateText(PROMPT, { ...LONG, onStep: ({ step }) => step < 3 });
  assert.equal(stopped.stopReason, "cancelled");
  assert.equal(stopped.steps, 4);
  const mine = new RangeError("mine");
  const fail = (): never => {
    throw mine;
  };
  for (const options of [
    { onPrefill: fail },
    { onStep: fail },
    { onTokens: fail },
    { onText: fail },
    { onNoise: fail },
  ]) {
    await context.reset();
    await assert.rejects(context.generateText(PROMPT, options), mine);
    await context.reset();
    await assert.rejects(async () => {
      for await (const _ of context.generate(PROMPT, options));
    }, mine);
  }
  assert.equal((await context.generateText(PROMPT)).text, ANSWER, "the context is as good as before");
});

test("calls from inside a callback wait for their turn", async () => {
  let inside: Promise<unknown> | undefined;
  const { text } = await context.generateText(PROMPT, { onStep: () => void (inside ??= context.info()) });
  assert.equal(text, ANSWER);
  assert.ok(((await inside) as { length: number }).length > 0);
});

test("flags and the sampler's numbers arrive", async () => {
  const eot = model.specialToken("eos")!;
  const on = await context.generateText(PROMPT, { ignoreEnd: true, showSpecial: true, maxTokens: 8 });
  assert.equal(on.tokens, 8);
  assert.match(on.text, /^19<turn\|>/);
  const nine = model.tokenize("9");
  const banned = await context.generateText(PROMPT, { sampler: { banned: nine } });
  assert.ok(!banned.text.includes("9"), banned.text);
  const biased = await context.generateText(PROMPT, { sampler: { logitBias: new Map([[nine[0]!, -Infinity]]) } });
  assert.equal(biased.text, banned.text);
  const short = await context.generateText(PROMPT, {
    maxTokens: 4,
    adaptiveLastCanvas: true,
    onStep: (s) => assert.equal(s.canvasLength, 4),
  });
  assert.ok(short.tokens <= 4);
  assert.equal((await context.generateText(PROMPT, { maxSteps: 1 })).steps, 1);
  assert.ok(eot >= 0);
});

test("recorded noise gives the same text again, whatever the seed", async () => {
  const prompt = "Tell me a story about a grey fox.";
  const recorded: Noise[] = [];
  const first = await context.generateText(prompt, { seed: 14, onNoise: (noise) => void recorded.push(noise) });
  assert.deepEqual(new Set(recorded.map(({ purpose }) => purpose)), new Set(["canvas", "draws", "renoise"]));
  const other = await context.generateText(prompt, { seed: 13 });
  assert.notEqual(other.text, first.text);
  const tape = recorded.values();
  const again = await context.generateText(prompt, {
    seed: 13,
    onNoise(noise) {
      const { value } = tape.next();
      assert.equal(value!.purpose, noise.purpose);
      if (noise.purpose === "draws") noise.draws.set((value as typeof noise).draws);
      else noise.tokens.set((value as typeof noise).tokens);
    },
  });
  assert.equal(again.text, first.text);
});

test("leaving the loop stops the generation", async () => {
  let steps = 0;
  const stream = context.generateSteps(PROMPT, LONG);
  for await (const _ of stream) if (++steps === 3) break;
  const result = await stream.result;
  assert.equal(result.stopReason, "cancelled");
  assert.ok(result.steps < 2000, `${result.steps} steps of 20000`);
  assert.deepEqual(await stream.next(), { done: true, value: undefined });
  const thrown = new Error("out of the loop");
  await assert.rejects(async () => {
    for await (const _ of context.generate(PROMPT, LONG)) throw thrown;
  }, thrown);
  assert.equal((await context.generateText(PROMPT)).text, ANSWER);
});

test("a stream that nobody reads does nothing", async () => {
  const unread = context.generate(PROMPT, LONG);
  await sleep(20);
  await context.reset();
  assert.equal((await context.info()).length, 0);
  assert.deepEqual(await unread.return(), { done: true, value: undefined });
  assert.deepEqual(await unread.next(), { done: true, value: undefined });
  assert.equal((await context.info()).length, 0);
});

test("readers at the same time share the chunks", async () => {
  const stream = context.generateSteps(PROMPT, { sampler: { maxSteps: 3, confidence: 0 } });
  const read = await Promise.all([stream.next(), stream.next(), stream.next(), stream.next()]);
  assert.deepEqual(
    read.map(({ value, done }) => done || value!.step),
    [0, 1, 2, true],
  );
});

test("an aborted signal stops within milliseconds, with its reason", async () => {
  const latencies: number[] = [];
  for (let round = 0; round < 5; round++) {
    const controller = new AbortController();
    const reason = new Error("enough");
    let aborted = 0;
    setTimeout(() => {
      aborted = performance.now();
      controller.abort(reason);
    }, 30);
    await assert.rejects(
      async () => {
        for await (const _ of context.generate(PROMPT, { ...LONG, signal: controller.signal }));
      },
      (error) => error instanceof AbortError && error.name === "AbortError" && error.cause === reason,
    );
    latencies.push(performance.now() - aborted);
  }
  latencies.sort((a, b) => a - b);
  // A layer of the built-in model takes a fraction of a millisecond; the rest is the machine's.
  assert.ok(latencies[2]! < 100, `median of ${latencies.map((ms) => ms.toFixed(1)).join(", ")} ms`);
  console.log(`# abort to rejection: ${latencies.map((ms) => ms.toFixed(1)).join(", ")} ms`);
  assert.equal((await context.generateText(PROMPT)).text, ANSWER, "no cancel is left over");
});

test("signals: aborted before, while waiting, by timeout, and in every asynchronous call", async () => {
  const before = AbortSignal.abort("early");
  const isEarly = (error: unknown): boolean => error instanceof AbortError && error.cause === "early";
  const free = canvas([{ noise: 4 }]);
  for (const call of [
    () => context.generateText(PROMPT, { signal: before }),
    () => context.generate(PROMPT, { signal: before }).next(),
    () => context.prefill({ signal: before }),
    () => context.score([1, 2], [], { signal: before }),
    () => context.beginBlock({ canvas: free, signal: before }),
  ]) {
    await assert.rejects(call(), isEarly);
  }

  const busy = new AbortController();
  const running = context.generateText(PROMPT, { ...LONG, signal: busy.signal });
  const controller = new AbortController();
  const waiting = context.generateText(PROMPT, { signal: controller.signal });
  const behind = context.generateText(PROMPT);
  await sleep(20);
  controller.abort("early");
  await assert.rejects(waiting, isEarly);
  busy.abort("late");
  await assert.rejects(running, { name: "AbortError", cause: "late" });
  assert.equal((await behind).text, ANSWER, "whoever waited behind is served");

  const timeout = context.generateText(PROMPT, { ...LONG, signal: AbortSignal.timeout(30) });
  await assert.rejects(timeout, (error) => (error as AbortError).cause instanceof DOMException);

  const during = new AbortController();
  await context.reset();
  await context.append(model.tokenize("abc ".repeat(500)));
  const prefill = context.prefill({ signal: during.signal, onPrefill: () => during.abort("during") });
  await assert.rejects(prefill, { name: "AbortError", cause: "during" });
});

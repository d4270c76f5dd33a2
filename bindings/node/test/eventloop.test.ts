// Work stays off the event loop, and error text finds its call although calls change threads.

import assert from "node:assert/strict";
import { monitorEventLoopDelay } from "node:perf_hooks";
import { after, test } from "node:test";
import { DgemmaError, Model } from "dgemma";
import { LONG, PROMPT, TINY, sleep, tiny } from "./helpers.js";

const model = await tiny();
after(() => model.close());

/** Longest and mean time that the event loop was held up meanwhile, in ms beyond the monitor's own 1 ms. */
async function delayDuring(work: () => Promise<unknown>): Promise<{ max: number; mean: number; seconds: number }> {
  const delay = monitorEventLoopDelay({ resolution: 1 });
  const started = performance.now();
  delay.enable();
  await work();
  delay.disable();
  return { max: delay.max / 1e6 - 1, mean: delay.mean / 1e6 - 1, seconds: (performance.now() - started) / 1000 };
}

test("generating does not hold up the event loop", async () => {
  const context = await model.createContext();
  const idle = await delayDuring(() => sleep(1000));
  // One uninterrupted call into the library.
  const options = { ...LONG, maxTokens: 256, sampler: { maxSteps: 100, confidence: 0 } };
  const busy = await delayDuring(async () => {
    const result = await context.generateText(PROMPT, options);
    assert.equal(result.tokens, 256);
  });
  const heard = await delayDuring(async () => {
    let steps = 0;
    for await (const _ of context.generateSteps(PROMPT, options)) steps++;
    assert.equal(steps, 800);
  });
  const show = (d: typeof idle): string =>
    `${d.mean.toFixed(2)} mean, ${d.max.toFixed(1)} max in ${d.seconds.toFixed(1)} s`;
  console.log(
    `# event loop delay in ms: idle ${show(idle)}; generating ${show(busy)}; with 800 steps heard ${show(heard)}`,
  );
  for (const measured of [busy, heard]) {
    assert.ok(measured.seconds > 0.5, "long enough to tell");
    // A blocking call would hold it up for the whole time. The rest is other processes' share of the machine.
    assert.ok(measured.max < Math.max(100, (measured.seconds * 1000) / 4), show(measured));
    assert.ok(measured.mean < 5 + idle.mean, show(measured));
  }
  await context.close();
});

test("a slow reader does not hold up the generation, nor the other way round", async () => {
  const context = await model.createContext();
  const stream = context.generateSteps(PROMPT, { sampler: { maxSteps: 20, confidence: 0 } });
  const steps: number[] = [];
  for await (const { step } of stream) {
    steps.push(step);
    if (step === 0) await stream.result; // all of it, while the first step is still being looked at
  }
  assert.deepEqual(
    steps,
    Array.from({ length: 20 }, (_, i) => i),
  );
  await context.close();
});

test("error text reaches the call that failed, among many at once", async () => {
  const contexts = await Promise.all(Array.from({ length: 8 }, () => model.createContext({ contextSize: 64 })));
  const failed = (status: string, text: string) => (error: unknown) =>
    error instanceof DgemmaError && error.status === status && error.message.includes(text);
  const calls = Array.from({ length: 600 }, (_, i) => {
    const context = contexts[i % contexts.length]!;
    switch (i % 6) {
      case 0:
        return assert.rejects(Model.load(`no/such/${i}.gguf`), failed("IO", `no/such/${i}.gguf`));
      case 1:
        return assert.rejects(Model.load(TINY, { threads: 2000 + i }), failed("INVALID_ARGUMENT", `is ${2000 + i}`));
      case 2:
        return assert.rejects(
          model.createContext({ contextSize: 5000 + i }),
          failed("INVALID_ARGUMENT", `${5000 + i}`),
        );
      case 3:
        return assert.rejects(
          context.score([1], [{ position: 0, token: 600 + i }]),
          failed("INVALID_ARGUMENT", `${600 + i}`),
        );
      case 4:
        return assert.rejects(
          context.generateText(PROMPT, { sampler: { banned: [600 + i] } }),
          failed("INVALID_ARGUMENT", `${600 + i}`),
        );
      default:
        return assert.rejects(context.load(`no/such/${i}.dgc`), failed("IO", `no/such/${i}.dgc`));
    }
  });
  await Promise.all(calls);
  await Promise.all(contexts.map((context) => context.close()));
});

test("more calls than threads and than koffi takes at once are served in turn", async () => {
  const contexts = await Promise.all(Array.from({ length: 300 }, () => model.createContext({ contextSize: 64 })));
  const texts = await Promise.all(contexts.map((context) => context.generateText(PROMPT).then(({ text }) => text)));
  assert.equal(new Set(texts).size, 1);
  await Promise.all(contexts.map((context) => context.close()));
});

// Who frees what, and when: closing in the middle of calls, forgotten objects, buffers under a garbage collector at work,
// memory over many cycles. Needs --expose-gc.

import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { readFileSync } from "node:fs";
import { test } from "node:test";
import { promisify } from "node:util";
import { Model } from "dgemma";
import { ANSWER, LONG, PROMPT, TINY, inRepository, sameText, sleep, tiny } from "./helpers.js";

const gc = globalThis.gc ?? assert.fail("run with --expose-gc");

/** Memory of the process that is its own, in MiB: what the system counts, not what V8 believes. */
function residentMiB(): number {
  const [, kib] = /^RssAnon:\s+(\d+) kB/m.exec(readFileSync("/proc/self/status", "utf8"))!;
  return Number(kib) / 1024;
}

test("closing stops the call under way, refuses those that wait, and frees when all are done", async () => {
  const model = await tiny();
  const context = await model.createContext();
  const closed = (error: unknown): boolean =>
    error instanceof Error && error.name === "AbortError" && /the context is closed/.test(String(error.cause));
  const running = assert.rejects(context.generateText(PROMPT, LONG), closed);
  const reading = assert.rejects(async () => {
    for await (const _ of context.generateSteps(PROMPT, LONG));
  }, closed);
  const waiting = [context.perf(), context.prefill(), context.clone()].map((call) => assert.rejects(call, closed));
  await sleep(50);
  const started = performance.now();
  await context.close();
  assert.ok(performance.now() - started < 500, "it stops within a layer, not at the end of 3200 tokens");
  await Promise.all([running, reading, ...waiting]);
  await assert.rejects(context.info(), {
    name: "DgemmaError",
    status: "INVALID_ARGUMENT",
    message: "the context is closed",
  });
  await assert.rejects(context.generate(PROMPT).next(), { message: "the context is closed" });
  await context.close();
  await model.close();
});

test("a model may be closed while calls use it and before what was made from it", async () => {
  const model = await tiny();
  const tokens = model.tokenize(model.renderChat([{ role: "user", content: PROMPT }]), { parseSpecial: true });
  const detokenizer = model.createDetokenizer();
  const making = Promise.all(Array.from({ length: 8 }, () => model.createContext()));
  const closing = model.close();
  const contexts = await making;
  await closing;
  for (const context of contexts) {
    const { text } = await context.generateText(tokens);
    assert.equal(text, ANSWER);
    await context.close();
  }
  assert.equal(detokenizer.push(tokens.subarray(3, 6)) + detokenizer.finish() !== "", true);
  detokenizer.close();
});

test("`using` closes", async () => {
  let kept;
  {
    await using model = await tiny();
    await using context = await model.createContext();
    using detokenizer = model.createDetokenizer();
    await using stream = context.generate(PROMPT, LONG);
    await using block = await context.beginBlock();
    kept = { model, context, detokenizer, block };
    void stream;
  }
  assert.throws(() => kept.model.tokenize("x"), /the model is closed/);
  assert.throws(() => kept.detokenizer.finish(), /the detokenizer is closed/);
  await assert.rejects(kept.context.info(), /the context is closed/);
  await assert.rejects(kept.block.step(), /the block is closed/);
});

test("the garbage collector takes nothing that a call still reads or writes", async () => {
  const model = await tiny();
  const contexts = await Promise.all(Array.from({ length: 4 }, () => model.createContext()));
  const before = sameText.filter(({ max_tokens }) => max_tokens <= 32);
  let churning = true;
  const churn = (async () => {
    // Garbage of the sizes of our buffers, written over: a buffer freed too early is soon somebody else's.
    while (churning) {
      for (let n = 0; n < 50; n++) Buffer.alloc(8 << (n % 10), 0xa5);
      gc();
      await sleep(5);
    }
  })();
  const failures = Promise.all(
    Array.from({ length: 30 }, (_, i) =>
      assert.rejects(Model.load(`no/such/${i}.gguf`), new RegExp(`no/such/${i}\\.gguf: No such`)),
    ),
  );
  for (let round = 0; round < 10; round++) {
    const texts = await Promise.all(
      before.map(({ prompt, seed, max_tokens: maxTokens }, i) =>
        contexts[i % 4]!.generateText(prompt, {
          seed,
          maxTokens,
          // Temporaries that nobody but the call holds.
          sampler: {
            logitBias: Array.from({ length: 100 }, (_, token) => [token, 0] as const),
            banned: new Uint32Array(),
          },
        }),
      ),
    );
    assert.deepEqual(
      texts.map(({ text }) => text),
      before.map(({ text }) => text),
    );
  }
  const canvas = (): Uint32Array => Uint32Array.from({ length: model.info.canvasLength }, (_, i) => i + 7);
  const candidates = (): { position: number; token: number }[] => [{ position: 3, token: 9 }];
  const scores = await Promise.all(
    Array.from({ length: 40 }, (_, i) => contexts[i % 4]!.score(canvas(), candidates())),
  );
  const per = contexts.map((_, i) => new Set(scores.filter((_, at) => at % 4 === i).map(([score]) => score)).size);
  assert.deepEqual(per, [1, 1, 1, 1], "the same scores every time");
  await failures;
  churning = false;
  await churn;
  await Promise.all(contexts.map((context) => context.close()));
  await model.close();
});

test("memory that only a call in the background knows is held until it is done", async () => {
  const model = await tiny();
  const { canvasLength } = model.info;
  const contexts = await Promise.all(Array.from({ length: 60 }, () => model.createContext({ contextSize: 64 })));
  const canvas = (i: number): Uint32Array => new Uint32Array(canvasLength).fill(7 + i);
  const expected = await Promise.all(
    contexts.map((context, i) => context.score(canvas(i), [{ position: 1, token: 9 }])),
  );
  const churning = churn();
  const scores = await Promise.all(
    contexts.map(async (context, i) => {
      const score = new Float32Array(1);
      // The lowest layer, with arguments that nobody else refers to. Most of these calls wait for a thread for a while.
      await context.turn(undefined, (pointer) => {
        const args = [pointer, canvas(i), canvasLength, Uint32Array.of(1, 9), 1, score];
        return model.native.background("dgemma_context_score", args.splice(0));
      });
      return score;
    }),
  );
  await churning;
  assert.deepEqual(scores, expected);
  await Promise.all(contexts.map((context) => context.close()));
  await model.close();

  /** Collects garbage, and writes over it with arrays of the same sizes. */
  async function churn(): Promise<void> {
    for (let i = 0; i < 10; i++) {
      gc();
      for (let n = 0; n < 500; n++) {
        new Uint32Array(canvasLength).fill(3);
        new Uint32Array(2).fill(3);
      }
      await sleep(0);
    }
  }
});

test("what is forgotten is freed by the garbage collector, but not while it works", async () => {
  const context = await (await tiny()).createContext();
  const running = context.generateText(PROMPT, { ...LONG, maxTokens: 320 });
  gc();
  const cycle = async (): Promise<void> => {
    const model = await Model.load(TINY, { read: true, threads: 1 }); // 4 MiB of its own
    const made = await model.createContext({ contextSize: 512 });
    await (await made.beginBlock()).step();
    model.createDetokenizer();
  };
  const cycles = async (n: number): Promise<number> => {
    for (let i = 0; i < n; i++) await cycle().then(i % 10 === 9 ? settle : undefined);
    await settle();
    return residentMiB();
  };
  const before = await cycles(60); // until the allocator has what it needs
  const grown = (await cycles(60)) - before;
  // Without finalizers 60 models of 4 MiB and their contexts stay: 240 MiB and more.
  assert.ok(grown < 60, `grew by ${grown.toFixed(1)} MiB`);
  assert.equal((await running).tokens, 320);
});

async function settle(): Promise<void> {
  for (let i = 0; i < 5; i++) {
    gc();
    await sleep(5);
  }
}

test("memory is flat over 400 cycles of loading, generating and freeing", async () => {
  const cycle = async (): Promise<void> => {
    await using model = await tiny();
    await using context = await model.createContext({ contextSize: 256 });
    let text = "";
    for await (const chunk of context.generate(PROMPT, { onStep: () => {} })) text += chunk;
    assert.equal(text, ANSWER);
    await assert.rejects(Model.load("no/such.gguf"));
  };
  const measured: number[] = [];
  for (let i = 0; i <= 400; i++) {
    await cycle();
    if (i % 100 === 0 && i > 0) {
      await settle();
      measured.push(residentMiB());
    }
  }
  const grown = measured.at(-1)! - measured[0]!;
  console.log(
    `# anonymous memory after 100, 200, 300, 400 cycles: ${measured.map((m) => m.toFixed(1)).join(", ")} MiB`,
  );
  // A cycle that leaked one KV cache (0.2 MiB) would grow by 60 MiB.
  assert.ok(grown < 12, `grew by ${grown.toFixed(1)} MiB`);
});

/** Runs a program in a process of its own. */
function run(program: string): Promise<{ stdout: string; stderr: string }> {
  const source = `import { Model } from ${JSON.stringify(inRepository("bindings/node/dist/index.js"))};
    const model = await Model.load(${JSON.stringify(TINY)}, { threads: 1 });
    const context = await model.createContext();
    const long = ${JSON.stringify(LONG)};
    ${program}`;
  return promisify(execFile)(process.execPath, ["--input-type=module", "-e", source], { timeout: 20_000 });
}

test("a process ends when its work is done, without closing anything", async () => {
  const { stdout, stderr } = await run(`console.log((await context.generateText(${JSON.stringify(PROMPT)})).text);`);
  assert.deepEqual([stdout, stderr], [`${ANSWER}\n`, ""]);
});

test("process.exit() in the middle of generations with callbacks ends the process", async () => {
  const started = performance.now();
  const { stdout } = await run(`
    const other = await model.createContext();
    void context.generateText("x", { ...long, onStep: () => {} });
    void other.generateText("x", long);
    setTimeout(() => { console.log("leaving"); process.exit(0); }, 100);`);
  assert.equal(stdout, "leaving\n");
  assert.ok(performance.now() - started < 10_000);
});

test("so does an exception that nobody catches, with its text and status", async () => {
  const failed = run(`
    void context.generateText("x", { ...long, onStep: () => {} });
    setTimeout(() => { throw new Error("nobody's"); }, 100);`);
  await assert.rejects(failed, { code: 1, stderr: /Uncaught Error: nobody's/ });
});

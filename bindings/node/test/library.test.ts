// Finding libdgemma, from every side that a program may come from.

import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { copyFileSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, test } from "node:test";
import { promisify } from "node:util";
import { Worker } from "node:worker_threads";
import { LibraryNotFoundError, Model, libraryInfo } from "dgemma";
import { ANSWER, PROMPT, TINY, inRepository } from "./helpers.js";

const run = promisify(execFile);
const folder = mkdtempSync(join(tmpdir(), "dgemma-library-"));
const { path } = libraryInfo();
const index = inRepository("bindings/node/dist/index.js");
after(() => rmSync(folder, { recursive: true }));

/** Prints where a process of its own finds the library, or why it does not. */
async function found(env: Record<string, string>): Promise<string> {
  const source = `import { libraryInfo } from ${JSON.stringify(index)};
    try { console.log(libraryInfo().path); } catch (error) { console.log(error.name, error.message); }`;
  const { DGEMMA_LIBRARY: _, ...rest } = process.env;
  const { stdout } = await run(process.execPath, ["--input-type=module", "-e", source], { env: { ...rest, ...env } });
  return stdout.trim();
}

test("the option counts before DGEMMA_LIBRARY, which counts before the package's own", async () => {
  const copy = join(folder, "elsewhere.so");
  copyFileSync(path, copy);
  assert.equal(await found({ DGEMMA_LIBRARY: copy }), copy);
  assert.match(await found({}), /libdgemma/);
  const model = await Model.load(TINY, { library: copy });
  assert.equal(libraryInfo(copy).path, copy);
  await model.close();
});

test("an error names what was tried and what came of it", async () => {
  const missing = join(folder, "missing.so");
  assert.equal(
    await found({ DGEMMA_LIBRARY: missing }),
    `LibraryNotFoundError libdgemma cannot be loaded; set DGEMMA_LIBRARY to its file. Tried:\n  ${missing}: no such file`,
  );
  const text = join(folder, "text.so");
  writeFileSync(text, "no library");
  await assert.rejects(Model.load(TINY, { library: text }), (error) => {
    assert.ok(error instanceof LibraryNotFoundError);
    assert.deepEqual(
      error.tried.map((tried) => tried.path),
      [text],
    );
    assert.match(error.tried[0]!.reason, /invalid ELF header|file too short/);
    return true;
  });
});

test("a library that is none of ours, or too old, is refused by name", async () => {
  const source = join(folder, "old.c");
  const old = join(folder, "old.so");
  writeFileSync(source, "unsigned dgemma_abi_version(void) { return 1; }\n");
  await run(process.env["CC"] ?? "cc", ["-shared", "-fPIC", source, "-o", old]);
  const message = `${old}: has ABI version 1, expected 3 or newer`;
  await assert.rejects(Model.load(TINY, { library: old }), { name: "DgemmaError", message });
  writeFileSync(source, "int nothing;\n");
  const none = join(folder, "none.so");
  await run(process.env["CC"] ?? "cc", ["-shared", "-fPIC", source, "-o", none]);
  await assert.rejects(Model.load(TINY, { library: none }), /dgemma_abi_version/);
});

const program = `
  const model = await Model.load(${JSON.stringify(TINY)});
  const context = await model.createContext();
  const { text } = await context.generateText(${JSON.stringify(PROMPT)}, { onStep() {} });
  await context.close();`;

test("require() works where Node can require ES modules", async () => {
  const source = `const { Model } = require(${JSON.stringify(index)}); (async () => { ${program} console.log(text); })();`;
  const able = "require_module" in process.features;
  if (!able) return;
  const { stdout } = await run(process.execPath, ["-e", source]);
  assert.equal(stdout.trim(), ANSWER);
});

test("worker threads may use it as well", async () => {
  const source = `import(${JSON.stringify(index)}).then(async ({ Model }) => { ${program}
    require("node:worker_threads").parentPort.postMessage(text); });`;
  const workers = Array.from({ length: 2 }, () => new Worker(source, { eval: true }));
  const texts = await Promise.all(
    workers.map((worker) => new Promise((resolve, reject) => worker.on("message", resolve).on("error", reject))),
  );
  assert.deepEqual(texts, [ANSWER, ANSWER]);
  await Promise.all(workers.map((worker) => worker.terminate()));
});

test("a worker may be ended in the middle of a generation", async () => {
  const options = JSON.stringify({ maxTokens: 3200, ignoreEnd: true, sampler: { maxSteps: 200, confidence: 0 } });
  const source = `const { parentPort } = require("node:worker_threads");
    import(${JSON.stringify(index)}).then(async ({ Model }) => {
      const context = await (await Model.load(${JSON.stringify(TINY)})).createContext();
      await context.generateText("x", { ...${options}, onStep: ({ step }) => { if (step === 3) parentPort.postMessage(0); } });
    });`;
  const worker = new Worker(source, { eval: true });
  await new Promise((resolve) => worker.once("message", resolve));
  assert.equal(await worker.terminate(), 1);
});

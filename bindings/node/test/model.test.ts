// Every method of Model, Detokenizer and the functions beside them, on the built-in model.

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { pathToFileURL } from "node:url";
import { after, test } from "node:test";
import { AbortError, DgemmaError, Model, devices, libraryInfo, setLogSink } from "dgemma";
import { TINY, inRepository, tiny } from "./helpers.js";

const model = await tiny();
after(() => model.close());

test("the library says what it is", () => {
  const info = libraryInfo();
  assert.match(info.version, /^\d+\.\d+\.\d+/);
  assert.ok(info.abiVersion >= 3);
  assert.match(info.buildInfo, /version=.* abi=\d+ /);
  const [device] = devices();
  assert.equal(device!.backend, "cpu");
  assert.ok(device!.name.length > 0 && device!.cores >= 1);
});

test("sizes, memory and fingerprint", async () => {
  assert.equal(model.info.vocabSize, 512);
  assert.equal(model.info.canvasLength, 32);
  assert.equal(model.info.backend, "cpu");
  assert.equal(model.info.fileBytes, readFileSync(TINY).length);
  assert.equal(model.memory().weightBytes, model.info.fileBytes);
  await using other = await Model.load(pathToFileURL(TINY), { backend: "reference", read: true, exact: true });
  assert.equal(other.info.backend, "reference");
  assert.equal(other.fingerprint(), model.fingerprint());
  await using scalar = await Model.load(TINY, { cpuLevel: "scalar" });
  assert.equal(scalar.info.backend, "cpu");
});

test("metadata: all keys, strings as they are, the rest as JSON", () => {
  const keys = model.metadataKeys();
  assert.ok(keys.includes("general.architecture"));
  for (const key of keys) assert.equal(typeof model.metadata(key), "string", key);
  assert.match(model.metadata("general.architecture")!, /gemma/);
  const tokens = JSON.parse(model.metadata("tokenizer.ggml.tokens")!) as string[]; // far longer than the first buffer
  assert.equal(tokens.length, model.info.vocabSize);
  assert.equal(model.metadata("no.such.key"), undefined);
});

test("tokens to text and back", () => {
  for (const text of ["", "What is 7 + 12?", "Écris 雨 ☂", "a\0b", "x".repeat(100_000)]) {
    const tokens = model.tokenize(text);
    assert.equal(model.detokenize(tokens), text);
    assert.equal(model.detokenize([...tokens]), text);
  }
  assert.deepEqual([...model.tokenize("", { addBos: true })], [model.specialToken("bos")]);
  const turn = model.tokenize("<|turn>", { parseSpecial: true });
  assert.equal(turn.length, 1);
  assert.ok(model.tokenize("<|turn>").length > 1, "user input stays text");
  assert.equal(model.detokenize(turn), "");
  assert.equal(model.detokenize(turn, { special: true }), "<|turn>");
});

test("tokens off the event loop are the same, errors with their texts too", async () => {
  const text = "What is 7 + 12? ".repeat(1000);
  assert.deepEqual(await model.tokenizeAsync(text, { addBos: true }), model.tokenize(text, { addBos: true }));
  assert.deepEqual([...(await model.tokenizeAsync(""))], []);
  await assert.rejects(model.tokenizeAsync(7 as never), { status: "INVALID_ARGUMENT", message: /`text`/ });
});

test("text that arrives bit by bit", () => {
  const text = "Écris 雨 ☂";
  using detokenizer = model.createDetokenizer();
  for (let round = 0; round < 2; round++) {
    const pieces = Array.from(model.tokenize(text), (token) => detokenizer.push([token]));
    assert.ok(pieces.includes(""), "a byte of several is held back");
    assert.ok(pieces.every((piece) => !piece.includes("\ufffd")));
    assert.equal(pieces.join("") + detokenizer.finish(), text);
  }
  using special = model.createDetokenizer({ special: true });
  assert.equal(special.push(model.tokenize("<|turn>", { parseSpecial: true })), "<|turn>");
});

test("single tokens", () => {
  const end = model.specialToken("eos")!;
  const all = Array.from({ length: model.info.vocabSize }, (_, id) => id);
  for (const id of all) {
    const attributes = model.tokenAttributes(id);
    assert.equal(attributes.end, model.isEndToken(id));
    assert.equal(model.findToken(model.tokenPiece(id)), id);
  }
  assert.ok(all.some((id) => model.tokenAttributes(id).kind === "byte"));
  assert.equal(model.tokenAttributes(end).kind, "control");
  assert.equal(model.isEndToken(100_000), false);
  assert.equal(model.findToken("no such token"), undefined);
});

test("chat templates", () => {
  const messages = [{ role: "user", content: 'Hello "you"\0' }];
  const text = model.renderChat(messages);
  assert.ok(text.includes('Hello "you"\0'), "a NUL survives, as JSON");
  assert.ok(text.startsWith(model.renderChat(messages, { addGenerationPrompt: false })));
  assert.throws(() => model.renderChat("no list" as never), { name: "DgemmaError", status: "INVALID_ARGUMENT" });
});

test("the sampler's numbers", () => {
  const numbers = model.samplerDefaults();
  assert.ok(numbers.maxSteps >= 1 && numbers.tMin > 0 && numbers.tMax >= numbers.tMin);
  assert.ok(Object.values(numbers).every((n) => Number.isFinite(n)));
});

test("progress of loading, and giving it up", async () => {
  const heard: number[] = [];
  await using loaded = await Model.load(TINY, { onProgress: (fraction) => void heard.push(fraction) });
  assert.equal(loaded.info.vocabSize, 512);
  assert.equal(heard.at(-1), 1);
  assert.deepEqual(
    heard,
    [...heard].sort((a, b) => a - b),
  );

  const status = { name: "DgemmaError", status: "CANCELLED", code: 8 };
  await assert.rejects(Model.load(TINY, { onProgress: () => false }), status);
  await assert.rejects(
    Model.load(TINY, {
      onProgress: () => {
        throw new RangeError("mine");
      },
    }),
    new RangeError("mine"),
  );
  const reason = new Error("changed my mind");
  await assert.rejects(Model.load(TINY, { signal: AbortSignal.abort(reason) }), isAbort(reason));
  const controller = new AbortController();
  const given = Model.load(TINY, { signal: controller.signal, onProgress: () => controller.abort(reason) });
  await assert.rejects(given, isAbort(reason));
});

function isAbort(cause: unknown): (error: unknown) => boolean {
  return (error) => error instanceof AbortError && error.code === "ABORT_ERR" && error.cause === cause;
}

test("errors of loading have status and text", async () => {
  const missing = { name: "DgemmaError", status: "IO", code: 2, message: /no\/such\.gguf.*No such file/ };
  await assert.rejects(Model.load("no/such.gguf"), missing);
  const bad = { status: "BAD_FILE", message: /package\.json/ };
  await assert.rejects(Model.load(inRepository("bindings/node/package.json")), bad);
  const options = [{ backend: "tpu" }, { threads: -1 }, { threads: 1.5 }, { threads: 2000 }, { cpuLevel: "sse" }];
  for (const wrong of options) {
    const expected = { status: "INVALID_ARGUMENT", message: new RegExp(Object.keys(wrong)[0]!.replace(/[A-Z]/, ".*")) };
    await assert.rejects(Model.load(TINY, wrong as never), expected);
  }
  await assert.rejects(Model.load("a\0b"), { status: "INVALID_ARGUMENT", message: /NUL/ });
  await assert.rejects(Model.load(7 as never), { status: "INVALID_ARGUMENT", message: /`path`/ });
});

test("wrong arguments are refused with the argument's name", () => {
  const refused: [() => unknown, RegExp][] = [
    [() => model.tokenize(7 as never), /`text`/],
    [() => model.detokenize([512]), /512/],
    [() => model.detokenize([-1]), /`tokens\[0\]`: is -1/],
    [() => model.detokenize([1.5]), /`tokens\[0\]`: is 1.5/],
    [() => model.detokenize("abc" as never), /`tokens`/],
    [() => model.tokenPiece(512), /512/],
    [() => model.tokenPiece(Number.NaN), /`token`/],
    [() => model.tokenAttributes(2 ** 32), /`token`/],
    [() => model.specialToken("nobody" as never), /`role`: is nobody, expected one of bos/],
    [() => model.metadata("a\0"), /`key`/],
    [() => model.renderChat([{ role: "user", content: "x" }], { tools: {} as never }), /`tools`/],
  ];
  for (const [call, message] of refused)
    assert.throws(call, { name: "DgemmaError", status: "INVALID_ARGUMENT", message });
});

test("a log sink hears of warnings", () => {
  const heard: [string, string][] = [];
  setLogSink((level, text) => heard.push([level, text]));
  const bos = model.tokenPiece(model.specialToken("bos")!);
  model.tokenize(bos, { addBos: true, parseSpecial: true });
  setLogSink(null);
  model.tokenize(bos, { addBos: true, parseSpecial: true });
  assert.deepEqual(
    heard.map(([level]) => level),
    ["warn"],
  );
  assert.match(heard[0]![1], /first token/);
});

test("a closed model says so", async () => {
  const closed = await tiny();
  await closed.close();
  await closed.close();
  assert.throws(() => closed.tokenize("x"), new DgemmaError("INVALID_ARGUMENT", "the model is closed"));
  await assert.rejects(closed.createContext(), /the model is closed/);
});

// src/abi.ts is include/dgemma.h: functions with their parameters, callbacks, numbers, and structs as a C compiler lays
// them out. A field, function or number that the header gains fails here until src/abi.ts has it.

import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { Status, callbacks, constants, functions, stopReasons, structs, unbound } from "../dist/abi.js";
import { type StructName } from "../dist/abi.js";
import { structType } from "../dist/struct.js";
import { inRepository } from "./helpers.js";

const header = readFileSync(inRepository("include/dgemma.h"), "utf8")
  .replace(/\/\*[\s\S]*?\*\//g, "")
  .replace(/\/\/.*$/gm, "")
  .replace(/\s+/g, " ");

/** koffi's word for a C parameter or result. */
function koffiType(c: string): string {
  const type = c
    .replace(/\bconst\b|\bstruct\b/g, "")
    .replace(/\b\w+$/, (name) => (/^(void|int|float|double|bool|\w+_t|dgemma_status)$/.test(name) ? name : ""))
    .trim();
  if (c.includes("*") || /dgemma_\w+_callback/.test(c)) return /^\s*const char \*\s*$/.test(c) ? "str" : "void *";
  return type.replace("dgemma_status", "int32_t");
}

function parameters(list: string): string[] {
  return list.trim() === "void" || list.trim() === "" ? [] : list.split(",").map(koffiType);
}

test("functions have the header's names, results and parameters", () => {
  const declared = [...header.matchAll(/DGEMMA_API ([\w *]*?)\b(dgemma_\w+)\(([^)]*)\);/g)];
  assert.ok(declared.length > 60, `the header is not understood: ${declared.length} functions`);
  const expected = declared
    .filter(([, , name]) => !(name! in unbound))
    .map(([, result, name, list]) => [name!, [koffiType(result!), parameters(list!)]] as const);
  assert.deepEqual(Object.fromEntries(expected), functions);
  for (const name of Object.keys(unbound))
    assert.ok(
      declared.some((match) => match[2] === name),
      name,
    );
});

test("callbacks have the header's parameters", () => {
  const declared = [...header.matchAll(/typedef (\w+) \(\*(dgemma_\w+)\)\(([^)]*)\);/g)];
  const expected = declared.map(([, result, name, list]) => [name!, [result!, parameters(list!)]] as const);
  assert.deepEqual(Object.fromEntries(expected), callbacks);
});

test("numbers are the header's", () => {
  const raw = readFileSync(inRepository("include/dgemma.h"), "utf8");
  const defined = [...raw.matchAll(/^#define (DGEMMA_\w+) (\d+)$/gm)].map(([, name, value]) => [name!, Number(value)]);
  assert.deepEqual(Object.fromEntries(defined), constants);
  const values = (prefix: string): [string, number][] =>
    [...header.matchAll(new RegExp(`\\b${prefix}(\\w+) = (\\d+)`, "g"))].map(([, name, value]) => [
      name!,
      Number(value),
    ]);
  assert.deepEqual(Object.fromEntries(values("DGEMMA_STATUS_")), Status);
  const camel = (name: string): string =>
    name.toLowerCase().replace(/_(\w)/g, (_, letter: string) => letter.toUpperCase());
  assert.deepEqual(
    values("DGEMMA_STOP_REASON_").map(([name, value]) => [camel(name), value]),
    [...stopReasons.entries()].map(([value, name]) => [name, value]),
  );
});

/** A C program that prints size and offsets of every struct of the header. */
function layoutProgram(fields: Record<string, string[]>): string {
  const lines = Object.entries(fields).flatMap(([name, list]) => [
    `printf("${name} %zu\\n", sizeof(${name}));`,
    ...list.map((field) => `printf("${name}.${field} %zu\\n", offsetof(${name}, ${field}));`),
  ]);
  return `#include <dgemma.h>\n#include <stddef.h>\n#include <stdio.h>\nint main(void) {\n${lines.join("\n")}\nreturn 0;\n}\n`;
}

test("structs are laid out as a C compiler does", () => {
  const fields = Object.fromEntries(
    [...header.matchAll(/typedef struct (dgemma_\w+) \{([^}]*)\}/g)].map(([, name, body]) => [
      name!,
      [...body!.matchAll(/(\w+)(?:\[\d+\])?;/g)].map((match) => match[1]!),
    ]),
  );
  const folder = mkdtempSync(join(tmpdir(), "dgemma-abi-"));
  try {
    writeFileSync(join(folder, "layout.c"), layoutProgram(fields));
    const program = join(folder, "layout");
    execFileSync(process.env["CC"] ?? "cc", ["-I", inRepository("include"), join(folder, "layout.c"), "-o", program]);
    const compiled = execFileSync(program, { encoding: "utf8" }).trim().split("\n");
    const ours = Object.keys(fields).flatMap((name) => {
      assert.ok(name in structs, `src/abi.ts has no ${name}`);
      const type = structType(name as StructName);
      return [`${name} ${type.size}`, ...Object.entries(type.members!).map(([f, m]) => `${name}.${f} ${m.offset}`)];
    });
    assert.deepEqual(ours, compiled);
    assert.deepEqual(Object.keys(structs).sort(), Object.keys(fields).sort());
  } finally {
    rmSync(folder, { recursive: true });
  }
});

// What goes wrong: one error class for the library's statuses, one for what the program stopped itself.

import { Status } from "./abi.js";

/** A status of the library by name: `dgemma_status` without its prefix. */
export type StatusName = Exclude<keyof typeof Status, "OK">;

const names = new Map<number, StatusName>(
  Object.entries(Status).flatMap(([name, code]) => (code === 0 ? [] : [[code, name as StatusName]])),
);

/** A call that the library, or this package on its behalf, refused or could not finish. */
export class DgemmaError extends Error {
  override readonly name = "DgemmaError";
  /** The status by name, e.g. "CONTEXT_FULL". */
  readonly status: StatusName;
  /** The status as the library's number. */
  readonly code: number;

  constructor(status: StatusName | number, message: string) {
    super(message);
    // A newer library may know more statuses.
    this.status = typeof status === "number" ? (names.get(status) ?? "INTERNAL") : status;
    this.code = typeof status === "number" ? status : Status[status];
  }
}

/** A call that an `AbortSignal` or a `close()` stopped. `cause` is the signal's reason, or says that it was closed. */
export class AbortError extends Error {
  override readonly name = "AbortError";
  /** As of Node's own functions. */
  readonly code = "ABORT_ERR";

  constructor(cause: unknown) {
    super("the operation was aborted", { cause });
  }
}

/** No libdgemma could be loaded. */
export class LibraryNotFoundError extends Error {
  override readonly name = "LibraryNotFoundError";
  /** What was tried, in order, and what came of it. */
  readonly tried: readonly { path: string; reason: string }[];

  constructor(tried: readonly { path: string; reason: string }[]) {
    const list = tried.map(({ path, reason }) => `\n  ${path}: ${reason}`).join("");
    super(`libdgemma cannot be loaded; set DGEMMA_LIBRARY to its file. Tried:${list}`);
    this.tried = tried;
  }
}

/** The error for an argument, worded as the library words its own. */
export function invalidArgument(name: string, what: string): DgemmaError {
  return new DgemmaError("INVALID_ARGUMENT", `argument \`${name}\`: ${what}`);
}

/** `value` as a whole number that a size_t takes. */
export function whole(name: string, value: number, most: number = Number.MAX_SAFE_INTEGER): number {
  if (!Number.isInteger(value) || value < 0 || value > most) {
    throw invalidArgument(name, `is ${String(value)}, expected a whole number from 0 to ${most}`);
  }
  return value;
}

/** `value` as a 64-bit number. */
export function seed64(value: number | bigint): bigint {
  const fits = typeof value === "bigint" ? value >= 0n && value < 1n << 64n : Number.isSafeInteger(value) && value >= 0;
  if (!fits) {
    throw invalidArgument("seed", `is ${String(value)}, expected a whole number from 0 below 2^64`);
  }
  return BigInt(value);
}

/** One of some words, as its number. */
export function choice<T extends string>(name: string, value: T, numbers: Readonly<Record<T, number>>): number {
  if (!Object.hasOwn(numbers, value)) {
    throw invalidArgument(name, `is ${String(value)}, expected one of ${Object.keys(numbers).join(", ")}`);
  }
  return numbers[value];
}

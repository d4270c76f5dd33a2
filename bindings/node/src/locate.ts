// Finding libdgemma: what the program names, else what the environment names, else the package's own, a checkout's build,
// or the system's.

import { existsSync } from "node:fs";
import { fileURLToPath } from "node:url";
import koffi, { type LibraryHandle } from "koffi";
import { LibraryNotFoundError } from "./errors.js";

/** File names by platform; the number is the soname's. */
const files: Partial<Record<NodeJS.Platform, string[]>> = {
  darwin: ["libdgemma.0.dylib", "libdgemma.dylib"],
  win32: ["dgemma.dll"],
};
const [versioned, plain = versioned] = files[process.platform] ?? ["libdgemma.so.0", "libdgemma.so"];

/** Folders relative to this file's: the package's `lib`, and the build of the checkout that the package lies in. */
const folders = ["../lib/", "../../../target/release/"];

/** Where to look, in order. A place that somebody named is the only one. */
export function candidates(named: string | undefined): string[] {
  const only = named ?? process.env["DGEMMA_LIBRARY"];
  if (only) return [only];
  const here = folders.flatMap((folder) =>
    [versioned, plain].map((file) => fileURLToPath(new URL(`${folder}${file}`, import.meta.url))),
  );
  return [...new Set([...here, versioned!, plain!])];
}

/** Loads the first candidate that can be loaded. */
export function locate(named: string | undefined): { path: string; library: LibraryHandle } {
  const tried: { path: string; reason: string }[] = [];
  for (const path of candidates(named)) {
    // The system's loader says less clearly that a file is missing.
    if (/[\\/]/.test(path) && !existsSync(path)) {
      tried.push({ path, reason: "no such file" });
      continue;
    }
    try {
      return { path, library: koffi.load(path) };
    } catch (error) {
      tried.push({ path, reason: error instanceof Error ? error.message : String(error) });
    }
  }
  throw new LibraryNotFoundError(tried);
}

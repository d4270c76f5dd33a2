// Leaving the process while calls with callbacks are under way. `process.exit()`, or an exception that nobody catches, has
// Node wait for its pool's threads, one of which waits for a callback that the main thread will never run: the process
// would hang. So the last thing it does then is to end itself.

import { inspect } from "node:util";
import { isMainThread } from "node:worker_threads";
import koffi from "koffi";

let calls = 0;
let uncaught: { error: unknown } | undefined;

/**
 * A call whose callbacks need the main thread has begun. Listeners of "exit" that the program adds later are not heard. A
 * worker's end is no matter: Node runs its callbacks then.
 */
export function enter(): void {
  if (calls++ > 0 || !isMainThread) return;
  process.on("uncaughtExceptionMonitor", remember);
  process.on("exit", leave);
}

/** It is done. */
export function exit(): void {
  if (--calls > 0) return;
  process.off("uncaughtExceptionMonitor", remember);
  process.off("exit", leave);
}

function remember(error: unknown): void {
  uncaught = { error };
}

function leave(code: number): void {
  // Node prints it after the listeners, too late here.
  if (uncaught) process.stderr.write(`Uncaught ${inspect(uncaught.error)}\n`);
  if (process.platform === "win32") return;
  koffi.load(null).func("_exit", "void", ["int"])(code);
}

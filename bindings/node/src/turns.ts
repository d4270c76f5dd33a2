// First come, first served: at most `width` jobs run at a time.

import { AbortError } from "./errors.js";

interface Waiting {
  start: () => void;
  refuse: (error: unknown) => void;
}

/** A queue of jobs. */
export class Turns {
  readonly #width: number;
  readonly #waiting = new Set<Waiting>();
  #running = 0;

  constructor(width: number) {
    this.#width = width;
  }

  /** Runs `job` when its turn comes. `signal` takes it back while it waits; afterwards, the job looks after itself. */
  run<T>(job: () => T | Promise<T>, signal?: AbortSignal): Promise<T> {
    return new Promise<T>((resolve, reject) => {
      const withdraw = (): void => {
        this.#waiting.delete(waiting);
        waiting.refuse(new AbortError(signal?.reason));
      };
      const waiting: Waiting = {
        start: () => {
          signal?.removeEventListener("abort", withdraw);
          this.#start(job).then(resolve, reject);
        },
        refuse: (error) => {
          signal?.removeEventListener("abort", withdraw);
          reject(error);
        },
      };
      if (signal?.aborted) {
        waiting.refuse(new AbortError(signal.reason));
        return;
      }
      signal?.addEventListener("abort", withdraw, { once: true });
      this.#waiting.add(waiting);
      this.#next();
    });
  }

  /** Refuses every job that has not begun. */
  refuse(error: unknown): void {
    for (const waiting of this.#waiting) waiting.refuse(error);
    this.#waiting.clear();
  }

  async #start<T>(job: () => T | Promise<T>): Promise<T> {
    this.#running++;
    try {
      return await job();
    } finally {
      this.#running--;
      this.#next();
    }
  }

  #next(): void {
    for (const waiting of this.#waiting) {
      if (this.#running >= this.#width) return;
      this.#waiting.delete(waiting);
      waiting.start();
    }
  }
}

// A C object: its address, and that it is freed once, when nobody is in a call with it any more. Whoever owns a handle
// closes it; if the owner is forgotten instead, the garbage collector does.

import { DgemmaError } from "./errors.js";

// Node 20 has no `using` of its own, but compilers' output finds these symbols.
const symbols = Symbol as unknown as Record<"dispose" | "asyncDispose", symbol>;
symbols.dispose ??= Symbol("Symbol.dispose");
symbols.asyncDispose ??= Symbol("Symbol.asyncDispose");

/** The address of a C object. */
export class Handle {
  readonly #what: string;
  readonly #pointer: bigint;
  readonly #free: (pointer: bigint) => void;
  readonly #freed: Promise<void>;
  #tellFreed!: () => void;
  #uses = 0;
  #closed = false;

  /** `what` it is, for messages. The owner must not be reachable from `free`. */
  constructor(owner: object, what: string, pointer: bigint, free: (pointer: bigint) => void) {
    this.#what = what;
    this.#pointer = pointer;
    this.#free = free;
    this.#freed = new Promise((resolve) => (this.#tellFreed = resolve));
    forgotten.register(owner, this, this);
  }

  /** The address, for a call that ends before anything else happens. */
  get pointer(): bigint {
    if (this.#closed) throw this.closedError();
    return this.#pointer;
  }

  get closed(): boolean {
    return this.#closed;
  }

  /** What calls after the end are answered with. */
  closedError(): DgemmaError {
    return new DgemmaError("INVALID_ARGUMENT", `the ${this.#what} is closed`);
  }

  /** The address, kept valid until `job` is done. */
  async use<T>(job: (pointer: bigint) => Promise<T>): Promise<T> {
    const pointer = this.pointer;
    this.#uses++;
    try {
      return await job(pointer);
    } finally {
      this.#uses--;
      this.#freeIfIdle();
    }
  }

  /** Frees the object, or has the last call that uses it do so. Resolves when it is freed. */
  close(): Promise<void> {
    if (!this.#closed) {
      this.#closed = true;
      forgotten.unregister(this);
      this.#freeIfIdle();
    }
    return this.#freed;
  }

  #freeIfIdle(): void {
    if (!this.#closed || this.#uses > 0) return;
    this.#free(this.#pointer);
    this.#tellFreed();
  }
}

const forgotten = new FinalizationRegistry<Handle>((handle) => void handle.close());

// What a generation delivers, as an async iterator.

/** Why a generation was stopped whose reader left. */
export const LEFT = Symbol("the reader left");

/** Begins the generation: `push` delivers, `signal` stops it. */
type Begin<T, R> = (push: (item: T) => void, signal: AbortSignal) => Promise<R>;

/**
 * The items of a generation, which begins with the first read, or when `result` is asked for. It does not wait for its
 * reader: what is not read yet is kept. Leaving a `for await` loop stops it, and is done when it has stopped.
 */
export class Stream<T, R> implements AsyncIterableIterator<T> {
  readonly #begin: Begin<T, R>;
  readonly #user: AbortSignal | undefined;
  readonly #stop = new AbortController();
  readonly #items: T[] = [];
  readonly #readers: (() => void)[] = [];
  #result: Promise<R> | undefined;
  #ended = false;

  /** Streams come from `Context.generate()` and `Context.generateSteps()`. */
  constructor(begin: Begin<T, R>, signal: AbortSignal | undefined) {
    this.#begin = begin;
    this.#user = signal;
  }

  /** How the generation went, when it is over; rejects where reading does. After a loop was left: how far it came. */
  get result(): Promise<R> {
    if (!this.#result) {
      this.#result = this.#run();
      this.#result.catch(() => {}); // the reader hears of it
    }
    return this.#result;
  }

  async next(): Promise<IteratorResult<T, undefined>> {
    if (this.#left) return { done: true, value: undefined };
    const { result } = this;
    while (this.#items.length === 0 && !this.#ended) await new Promise<void>((read) => this.#readers.push(read));
    const item = this.#items.shift();
    if (item !== undefined) return { done: false, value: item };
    if (!this.#left) await result; // throws what went wrong
    return { done: true, value: undefined };
  }

  /** Stops the generation, and waits until it has stopped. */
  async return(): Promise<IteratorResult<T, undefined>> {
    this.#stop.abort(LEFT);
    this.#items.length = 0;
    await this.#result?.catch(() => {});
    this.#items.length = 0;
    return { done: true, value: undefined };
  }

  [Symbol.asyncIterator](): this {
    return this;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.return();
  }

  get #left(): boolean {
    return this.#stop.signal.reason === LEFT;
  }

  async #run(): Promise<R> {
    const follow = (): void => this.#stop.abort(this.#user?.reason);
    if (this.#user?.aborted) follow();
    this.#user?.addEventListener("abort", follow, { once: true });
    try {
      return await this.#begin((item) => this.#push(item), this.#stop.signal);
    } finally {
      this.#user?.removeEventListener("abort", follow);
      this.#ended = true;
      this.#wake();
    }
  }

  #push(item: T): void {
    this.#items.push(item);
    this.#wake();
  }

  #wake(): void {
    for (const read of this.#readers.splice(0)) read();
  }
}

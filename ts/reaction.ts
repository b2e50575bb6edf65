// Reaction: what `then` of a pending operation leaves behind, and returns.
//
// `await` calls `then` and looks at nothing that it returns, so the promise that the standard has
// there is made only for who chains on. Measured: an awaited NOP costs half. A failure that nobody
// takes is an unhandled rejection, as of any promise.

import type { UringError } from "./errors.ts";

/** What `then` returns: as a promise, in all that promises are used for. */
export interface Chained<T> extends PromiseLike<T> {
  catch<B = never>(
    onRejected?: ((error: unknown) => B | PromiseLike<B>) | null,
  ): PromiseLike<T | B>;
  finally(onFinally?: (() => void) | null): PromiseLike<T>;
}

type OnFulfilled<T> = ((value: T) => unknown) | null | undefined;
type OnRejected = ((error: UringError) => unknown) | null | undefined;

const PENDING = Symbol("pending");

/** Who is told an outcome. */
export interface Observer<T> {
  fulfil(value: T): void;
  reject(error: UringError): void;
}

export class Reaction<T> implements Observer<T>, Chained<unknown> {
  readonly #onFulfilled: OnFulfilled<T>;
  readonly #onRejected: OnRejected;
  /** Who was there before. */
  readonly #earlier: Observer<T> | null;
  /** What came of it: a value, or a rejected promise; `PENDING` until then. */
  #outcome: unknown;
  /** The promise of who chains on. */
  #chained: PromiseWithResolvers<unknown> | null;

  constructor(onFulfilled: OnFulfilled<T>, onRejected: OnRejected, earlier: Observer<T> | null) {
    this.#onFulfilled = onFulfilled;
    this.#onRejected = onRejected;
    this.#earlier = earlier;
    this.#outcome = PENDING;
    this.#chained = null;
  }

  fulfil(value: T): void {
    if (this.#earlier !== null) this.#earlier.fulfil(value);
    if (typeof this.#onFulfilled !== "function") return this.#end(value);
    try {
      this.#end(this.#onFulfilled(value));
    } catch (error) {
      this.#end(Promise.reject(error));
    }
  }

  reject(error: UringError): void {
    this.#earlier?.reject(error);
    if (typeof this.#onRejected !== "function") return this.#end(Promise.reject(error));
    try {
      this.#end(this.#onRejected(error));
    } catch (second) {
      this.#end(Promise.reject(second));
    }
  }

  #end(outcome: unknown): void {
    this.#outcome = outcome;
    if (this.#chained !== null) this.#chained.resolve(outcome);
  }

  #chain(): Promise<unknown> {
    if (this.#chained === null) {
      this.#chained = Promise.withResolvers<unknown>();
      if (this.#outcome !== PENDING) this.#chained.resolve(this.#outcome);
    }
    return this.#chained.promise;
  }

  then<A = unknown, B = never>(
    onFulfilled?: ((value: unknown) => A | PromiseLike<A>) | null,
    onRejected?: ((error: unknown) => B | PromiseLike<B>) | null,
  ): PromiseLike<A | B> {
    return this.#chain().then(onFulfilled, onRejected);
  }

  catch<B = never>(onRejected?: ((error: unknown) => B | PromiseLike<B>) | null) {
    return this.#chain().catch(onRejected);
  }

  finally(onFinally?: (() => void) | null) {
    return this.#chain().finally(onFinally);
  }
}

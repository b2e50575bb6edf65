// Interval: beats at equal distances, told to a callback or iterated over.
//
// Beat n lies n periods behind the start, whatever became of those before it. What nobody had time
// for is counted with the next beat and never made up for.

import { ERRNO } from "./abi.ts";
import type { Engine } from "./engine.ts";
import { UringError } from "./errors.ts";
import type { Operation, OperationOptions } from "./operation.ts";
import { startBeats } from "./timer.ts";

/** 1, or more if beats were missed since the last call; `-errno`, once, if the ring fails. */
export type BeatHandler = (beats: number) => void;

export interface IntervalOptions {
  /** Ends it; one that is aborted already starts nothing. */
  signal?: AbortSignal | undefined;
}

type Beat = IteratorResult<number, undefined>;

const DONE: Beat = { value: undefined, done: true };

export class Interval implements AsyncIterable<number, undefined>, Disposable {
  readonly #timer: Operation;
  readonly #handler: BeatHandler | undefined;
  /** Beats that nobody has taken. */
  #beats = 0;
  #isRead = false;
  #waiting: { resolve(beat: Beat): void; reject(error: UringError): void } | null = null;

  /** @internal Intervals come from `ring.interval`. */
  constructor(
    engine: Engine,
    period: number,
    options: OperationOptions,
    handler: BeatHandler | undefined,
  ) {
    this.#handler = handler;
    this.#timer = startBeats(engine, period, options, (result) => this.#onBeat(result));
  }

  /** Until it is cancelled, or the ring is gone. */
  get pending(): boolean {
    return this.#timer.pending;
  }

  /** Ends it: no further beat is told. False if it is over. */
  cancel(): boolean {
    return this.#timer.cancel();
  }

  [Symbol.dispose](): void {
    this.cancel();
  }

  /** Keeps the process alive while it goes on, which is the default. */
  ref(): this {
    this.#timer.ref();
    return this;
  }

  /** The process may end all the same. */
  unref(): this {
    this.#timer.unref();
    return this;
  }

  hasRef(): boolean {
    return this.#timer.hasRef();
  }

  /**
   * `for await (const beats of interval)`: 1, or more if the loop was slower than the beats.
   * `cancel` ends the loop, and leaving the loop ends the interval. An aborted signal and a ring
   * that fails throw. "EBUSY": there is a callback, or another loop.
   */
  [Symbol.asyncIterator](): AsyncIterableIterator<number, undefined> {
    if (this.#handler !== undefined || this.#isRead) {
      const reader = this.#handler === undefined ? "another loop" : "its callback";
      const message = `interval: the beats go to ${reader}; start another one`;
      throw new UringError("EBUSY", "interval", message);
    }
    this.#isRead = true;
    const leave = (): Promise<Beat> => {
      this.cancel();
      return Promise.resolve(DONE);
    };
    return {
      next: () => this.#next(),
      return: leave,
      [Symbol.asyncIterator]() {
        return this;
      },
    };
  }

  #next(): Promise<Beat> {
    if (this.#waiting !== null) {
      const message = "interval: somebody waits for the next beat already; there is one at a time";
      return Promise.reject(new UringError("EBUSY", "interval", message));
    }
    const { promise, resolve, reject } = Promise.withResolvers<Beat>();
    this.#waiting = { resolve, reject };
    this.#tell();
    return promise;
  }

  #onBeat(result: number): void {
    const isCancel = result === -ERRNO.ECANCELED;
    if (this.#timer.asked && !isCancel && result > 0) return; // of a turn before the cancel
    if (this.#handler !== undefined) {
      if (!isCancel) this.#handler(result);
      return;
    }
    if (result > 0) this.#beats += result;
    this.#tell();
  }

  /** Whoever waits goes on, if there is something to go on with. */
  #tell(): void {
    const waiting = this.#waiting;
    if (waiting === null) return;
    if (this.#beats > 0 && !this.#timer.asked) {
      this.#waiting = null;
      const value = this.#beats;
      this.#beats = 0;
      waiting.resolve({ value, done: false });
    } else if (!this.#timer.pending) {
      this.#waiting = null;
      this.#end(waiting);
    }
  }

  #end({ resolve, reject }: { resolve(beat: Beat): void; reject(error: UringError): void }): void {
    const error = this.#timer.failure();
    const isQuiet = error.code === "ECANCELED" && error.cause === undefined;
    if (isQuiet) resolve(DONE);
    else reject(error);
  }
}

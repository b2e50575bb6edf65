// Waiting: poll, wait, drain, run and their Sync forms.
//
// The plain forms return promises and leave Bun's loop running, which turns the ring meanwhile. The
// Sync forms block the thread and settle what belongs to the ring, nothing else. One waiter at a
// time. A handler or callback that is running may use none that turns the ring; code after an
// `await` may.

import { Engine } from "./engine.ts";
import { argumentError, describeOperation, UringError } from "./errors.ts";
import type { Operation } from "./operation.ts";

/** One native wait at most: longer ones are made of several (I8). */
const WAIT_MAX_MS = 1000;
/** `run` hands the thread to Bun's loop at least this often, milliseconds. */
const RUN_WAIT_MS = 1;
/** What setTimeout takes. */
const TIMEOUT_MAX_MS = 2_147_483_647;

interface WaitPlan {
  /** Milliseconds; below 0 for ever. */
  timeout: number;
  isDone(handled: number): boolean;
  /** What the time-out comes to: a number, or the error thrown. */
  onTimeout(handled: number): number;
}

export class Waiting extends Engine {
  #stopped = false;
  #waiting: string | null = null;

  /** Dispatches what is ready and never blocks: the number of completions handled. */
  poll(): number {
    this.#assertTurnable("poll");
    return this.turnNow(0);
  }

  /**
   * Waits for one completion at least: the number handled, 0 when `milliseconds` have passed. 0 is
   * `poll`, below 0 waits for ever; with nothing pending it is 0 at once.
   */
  wait(milliseconds = -1): Promise<number> {
    checkTimeout("wait", milliseconds);
    return this.#wait("wait", this.#untilOne(milliseconds));
  }

  /** The same, blocking the thread. */
  waitSync(milliseconds = -1): number {
    checkTimeout("waitSync", milliseconds);
    return this.#waitSync("waitSync", this.#untilOne(milliseconds));
  }

  #untilOne(timeout: number): WaitPlan {
    return {
      timeout,
      isDone: (handled) => handled > 0 || this.pendingCount === 0,
      onTimeout: (handled) => handled,
    };
  }

  /**
   * Until nothing is pending, what is submitted meanwhile included: the number handled. After
   * `milliseconds` "ETIMEDOUT", with a list of what remains; below 0 there is no limit.
   */
  drain(milliseconds = -1): Promise<number> {
    checkTimeout("drain", milliseconds);
    return this.#wait("drain", this.#untilEmpty("drain", milliseconds));
  }

  drainSync(milliseconds = -1): number {
    checkTimeout("drainSync", milliseconds);
    return this.#waitSync("drainSync", this.#untilEmpty("drainSync", milliseconds));
  }

  /** Until no operation is pending and nothing is open: the number handled. */
  runUntilEmpty(): Promise<number> {
    return this.#wait("runUntilEmpty", this.#untilEmpty("runUntilEmpty", -1));
  }

  runUntilEmptySync(): number {
    return this.#waitSync("runUntilEmptySync", this.#untilEmpty("runUntilEmptySync", -1));
  }

  #untilEmpty(operation: string, timeout: number): WaitPlan {
    return {
      timeout,
      isDone: () => this.pendingCount === 0,
      onTimeout: () => {
        const rest = this.describePending();
        const message = `${operation}: after ${timeout} ms still pending: ${rest}`;
        throw new UringError("ETIMEDOUT", operation, message, "completion");
      },
    };
  }

  /** Waits for one completion, handles at most `count`: the number handled. */
  runSome(count = 1): Promise<number> {
    checkCount("runSome", count);
    return this.#wait("runSome", this.#untilOne(-1), count);
  }

  runSomeSync(count = 1): number {
    checkCount("runSomeSync", count);
    return this.#waitSync("runSomeSync", this.#untilOne(-1), count);
  }

  /**
   * Gives the thread to the ring until `stop`: the number handled. Bun's loop goes on in between,
   * at least every millisecond.
   */
  run(): Promise<number> {
    this.#claim("run");
    return this.#run();
  }

  async #run(): Promise<number> {
    const before = this.handled;
    try {
      // What is ready comes first, also when `stop` was called before.
      do {
        while (this.calling) await immediate();
        if (this.state === "closed" || this.fatalError !== null) break;
        this.turnNow(this.#stopped ? 0 : RUN_WAIT_MS);
        await immediate();
      } while (!this.#stopped);
      if (this.fatalError !== null) throw this.fatalError;
      return this.handled - before;
    } finally {
      this.#stopped = false;
      this.#waiting = null;
    }
  }

  /** Ends `run` after what is ready; without one, the next `run` returns at once. */
  stop(): void {
    this.assertOpen("stop");
    this.#stopped = true;
  }

  /** @internal "read on fd 7, 1.2 s; timeout, 0.0 s", oldest first. */
  describePending(): string {
    const now = performance.now();
    const flying = this.operations.filter((operation) => operation !== undefined);
    flying.sort((a, b) => a.since - b.since);
    const texts = flying.map((operation) => describeAge(operation, now));
    const open = this.pendingCount - this.flying;
    if (open > 0) texts.push(`${open} connections and listeners`);
    return texts.length === 0 ? "nothing" : texts.join("; ");
  }

  #assertTurnable(operation: string): void {
    this.assertOpen(operation);
    if (!this.calling) return;
    const message = `${operation}: a handler is running; call it after an await, or later`;
    throw new UringError("EBUSY", operation, message);
  }

  #claim(operation: string): void {
    this.assertOpen(operation);
    if (this.#waiting !== null) {
      const message = `${operation}: ${this.#waiting} is waiting already; there is one at a time`;
      throw new UringError("EBUSY", operation, message);
    }
    this.#waiting = operation;
  }

  #waitSync(operation: string, plan: WaitPlan, most = Number.POSITIVE_INFINITY): number {
    this.#assertTurnable(operation);
    this.#claim(operation);
    const before = this.handled;
    const deadline = performance.now() + plan.timeout;
    this.limit = before + most;
    try {
      this.turnNow(0);
      while (!plan.isDone(this.handled - before)) {
        if (this.fatalError !== null) throw this.fatalError;
        if (this.closed) break;
        const left = plan.timeout < 0 ? WAIT_MAX_MS : Math.ceil(deadline - performance.now());
        if (left <= 0) return plan.onTimeout(this.handled - before);
        this.turnNow(Math.min(left, WAIT_MAX_MS));
      }
      return this.handled - before;
    } finally {
      this.limit = Number.POSITIVE_INFINITY;
      this.#waiting = null;
      this.loop.recount();
    }
  }

  #wait(operation: string, plan: WaitPlan, most = Number.POSITIVE_INFINITY): Promise<number> {
    this.#claim(operation);
    const before = this.handled;
    this.limit = before + most;
    const { promise, resolve, reject } = Promise.withResolvers<number>();
    let timer: ReturnType<typeof setTimeout> | undefined;
    const finish = (settle: () => void): void => {
      clearTimeout(timer);
      this.waiter = null;
      this.#waiting = null;
      this.limit = Number.POSITIVE_INFINITY;
      this.loop.recount();
      settle();
    };
    const expire = (): void => {
      try {
        const handled = plan.onTimeout(this.handled - before);
        finish(() => resolve(handled));
      } catch (error) {
        finish(() => reject(error));
      }
    };
    const check = (): void => {
      const handled = this.handled - before;
      if (plan.isDone(handled)) finish(() => resolve(handled));
    };
    const end = (error: UringError | null): void => {
      const handled = this.handled - before;
      finish(() => (error === null ? resolve(handled) : reject(error)));
    };
    this.waiter = { name: operation, check, end };
    // Ready completions count; inside a handler they come with the dispatch that goes on.
    if (!this.calling) this.turnNow(0);
    else check();
    if (this.waiter === null) return promise;
    if (plan.timeout === 0) expire();
    else if (plan.timeout > 0) timer = setTimeout(expire, plan.timeout);
    return promise;
  }
}

function describeAge(operation: Operation<unknown>, now: number): string {
  const seconds = ((now - operation.since) / 1000).toFixed(1);
  return `${describeOperation(operation.kind, operation.fd)}, ${seconds} s`;
}

function checkTimeout(operation: string, milliseconds: unknown): void {
  if (typeof milliseconds === "number" && milliseconds <= TIMEOUT_MAX_MS) return;
  const expected = `milliseconds up to ${TIMEOUT_MAX_MS}, below 0 for ever`;
  throw argumentError(operation, "milliseconds", expected, milliseconds);
}

function checkCount(operation: string, count: unknown): void {
  if (typeof count === "number" && Number.isInteger(count) && count > 0) return;
  throw argumentError(operation, "count", "a positive integer", count);
}

function immediate(): Promise<void> {
  return new Promise((resolve) => setImmediate(resolve));
}

// Waiting: poll, wait, drain, run and their Sync forms.
//
// The plain forms return promises and leave Bun's loop running, which turns the ring meanwhile. The
// Sync forms block the thread and settle what belongs to the ring, nothing else. One waiter at a
// time. A handler or callback that is running may use none that turns the ring; code after an
// `await` may.

import { CONTROL_WORDS } from "./abi.ts";
import { Engine } from "./engine.ts";
import { argumentError, describeOperation, UringError } from "./errors.ts";
import type { Operation } from "./operation.ts";

/** One native wait at most: longer ones are made of several (I8). */
const WAIT_MAX_MS = 1000;
/** What setTimeout takes. */
const TIMEOUT_MAX_MS = 2_147_483_647;

interface WaitPlan {
  /** Milliseconds; below 0 for ever. */
  timeout: number;
  isDone(handled: number): boolean;
  /** What the time-out comes to: a number, or the error thrown. */
  onTimeout(handled: number): number;
  /** Ends it early, from any thread. One that comes before counts, too. */
  readonly endedBy: "wakeup" | "stop" | null;
}

export class Waiting extends Engine {
  #stopped = false;
  /** How many signals of other threads were heeded. */
  #heeded = { wakeup: 0, stop: 0 };
  #waiting: string | null = null;

  /** Dispatches what is ready and never blocks: the number of completions handled. */
  poll(): number {
    this.#assertTurnable("poll");
    const handled = this.turnNow(0);
    this.#heed("wakeup");
    return handled;
  }

  /**
   * Waits for one completion or post at least: the number handled, 0 when `milliseconds` have
   * passed or another thread wakes it up. 0 is `poll`, below 0 waits for ever; with nothing pending
   * and nobody who could post it is 0 at once.
   */
  wait(milliseconds = -1): Promise<number> {
    checkTimeout("wait", milliseconds);
    return this.#wait("wait", this.#untilOne(milliseconds, "wakeup"));
  }

  /** The same, blocking the thread. */
  waitSync(milliseconds = -1): number {
    checkTimeout("waitSync", milliseconds);
    return this.#waitSync("waitSync", this.#untilOne(milliseconds, "wakeup"));
  }

  #untilOne(timeout: number, endedBy: "wakeup" | "stop"): WaitPlan {
    return {
      timeout,
      isDone: (handled) => handled > 0 || (this.pendingCount === 0 && !this.mayBePosted),
      onTimeout: (handled) => handled,
      endedBy,
    };
  }

  #signals(kind: "wakeup" | "stop"): number {
    return this.memory.control[CONTROL_WORDS[`${kind}s`]] ?? 0;
  }

  #isSignalled(kind: "wakeup" | "stop" | null): boolean {
    if (kind === null || this.closed) return false;
    return (kind === "stop" && this.#stopped) || this.#signals(kind) !== this.#heeded[kind];
  }

  #heed(kind: "wakeup" | "stop" | null): void {
    if (kind === null || this.closed) return;
    this.#heeded[kind] = this.#signals(kind);
    if (kind === "stop") this.#stopped = false;
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

  /** Until no operation or post is pending and nothing is open, or `stop`: the number handled. */
  runUntilEmpty(): Promise<number> {
    return this.#wait("runUntilEmpty", this.#untilIdle());
  }

  runUntilEmptySync(): number {
    return this.#waitSync("runUntilEmptySync", this.#untilIdle());
  }

  #untilIdle(): WaitPlan {
    return {
      timeout: -1,
      isDone: () => this.pendingCount === 0 && !this.busy,
      onTimeout: (handled) => handled,
      endedBy: "stop",
    };
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
      endedBy: null,
    };
  }

  /** Waits for one completion or `stop`, handles at most `count`: the number handled. */
  runSome(count = 1): Promise<number> {
    checkCount("runSome", count);
    return this.#wait("runSome", this.#untilOne(-1, "stop"), count);
  }

  runSomeSync(count = 1): number {
    checkCount("runSomeSync", count);
    return this.#waitSync("runSomeSync", this.#untilOne(-1, "stop"), count);
  }

  /**
   * Gives the thread to the ring until `stop`: the number handled. The ring waits in the kernel,
   * and Bun's loop goes round at least once a millisecond, at once for Bun's own I/O where its
   * epoll descriptor is found: timers and immediates of Bun are 2 ms late at most, and what
   * handlers take. When nothing happens for some milliseconds the thread sleeps in Bun's loop.
   * Until it is stopped the process stays alive, whatever is unref'ed.
   */
  run(): Promise<number> {
    const running = this.#wait("run", this.#untilStop());
    if (this.waiter !== null) this.loop.dedicate(true);
    return running;
  }

  #untilStop(): WaitPlan {
    return {
      timeout: -1,
      isDone: () => false,
      onTimeout: (handled) => handled,
      endedBy: "stop",
    };
  }

  /**
   * Ends `run`, `runSome` or `runUntilEmpty` after what is ready; without one, the next returns at
   * once. From other threads: `Ring.open(ring.token).stop()`.
   */
  stop(): void {
    this.assertOpen("stop");
    this.#stopped = true;
    this.loop.recount();
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
      while (!plan.isDone(this.handled - before) && !this.#isSignalled(plan.endedBy)) {
        if (this.fatalError !== null) throw this.fatalError;
        if (this.closed) break;
        const left = plan.timeout < 0 ? WAIT_MAX_MS : Math.ceil(deadline - performance.now());
        if (left <= 0) return plan.onTimeout(this.handled - before);
        this.turnNow(Math.min(left, WAIT_MAX_MS));
      }
      return this.handled - before;
    } finally {
      this.limit = Number.POSITIVE_INFINITY;
      this.#heed(plan.endedBy);
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
      this.#heed(plan.endedBy);
      this.loop.dedicate(false);
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
      const isOver = plan.isDone(handled) || this.#isSignalled(plan.endedBy);
      if (isOver) finish(() => resolve(handled));
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

// offload(): a function in a Worker of a small pool, with an outcome in the ring's own turns.
//
//     offload ─▶ queue ─▶ Worker (offload_worker.ts) ─▶ the ring's mailbox ─▶ completion
//
// A job holds a slot of the library, as every operation does, and is ended once: by the outcome
// that its Worker posts, or by a cancel. Values travel by structured clone, functions as their
// source. A Worker has one job at a time; one that dies, or whose job is cancelled, is replaced
// when there is something to do. The pool ends with its ring.

import { deserialize, serialize } from "bun:jsc";
import { availableParallelism } from "node:os";
import { ERRNO, OperationKind, RECORD_SIZE, RECORD_WORDS } from "./abi.ts";
import { reviveError, type DescribedError } from "./described_error.ts";
import type { Engine } from "./engine.ts";
import { argumentError, submissionError, UringError } from "./errors.ts";
import { adoptBlock } from "./memory.ts";
import { native } from "./native.ts";
import { Operation, type Cargo } from "./operation.ts";
import type { RingOptions } from "./ring_options.ts";

type Run<Args extends unknown[], Result> = (...args: Args) => Result;

/**
 * A function, whose source must stand for itself: it runs elsewhere and sees nothing of what is
 * around it here. Or a module: its default export, or the one that the URL's hash names.
 */
export type OffloadJob<Args extends unknown[] = unknown[], Result = unknown> =
  | Run<Args, Result>
  | URL
  | {
    run: Run<Args, Result> | URL;
    /** Cancels the job; one that is aborted already runs nothing. */
    signal?: AbortSignal | undefined;
  };

/** What goes to a Worker. */
export interface Order {
  readonly token: number;
  readonly index: number;
  readonly generation: number;
  /** The source of a function, or the URL of a module. */
  readonly source: string | null;
  readonly module: string | null;
  /** The arguments, serialised. */
  readonly input: Uint8Array;
}

/** What comes back, serialised. */
export type Outcome = { value: unknown } | { thrown: unknown } | { error: DescribedError };

/** Jobs are for work that takes milliseconds: more threads than CPUs wait for each other. */
const WORKERS_MAX_DEFAULT = 4;
const JOBS_MAX_DEFAULT = 256;

const program = new URL("./offload_worker.ts", import.meta.url).href;

class Job<T> implements Cargo<T> {
  readonly input = null;
  readonly buffer = undefined;
  /** Why it failed; undefined with a `thrown` flag is a value like any other. */
  error: unknown = undefined;
  thrown = false;
  /** What to send, and whose job it is; null before it is admitted. */
  order: Order | null = null;
  operation: Operation<T> | null = null;
  seat: Seat | null = null;
  readonly #pool: OffloadPool;
  #value: T | undefined = undefined;

  constructor(pool: OffloadPool) {
    this.#pool = pool;
  }

  // Nothing to take: arguments are on their way.
  board(): void {}

  orphan(): void {
    this.#pool.landed(this);
  }

  land(engine: Engine, _index: number, result: number): number {
    this.#pool.landed(this);
    if (result < 0) return this.thrown ? -ERRNO.EOWNERDEAD : result;
    const outcome = readOutcome(engine);
    if ("value" in outcome) {
      this.#value = outcome.value as T;
      return 0;
    }
    this.fail("error" in outcome ? reviveError(outcome.error) : outcome.thrown);
    return -ERRNO.EIO;
  }

  fail(error: unknown): void {
    this.error = error;
    this.thrown = true;
  }

  value(): T {
    return this.#value as T;
  }

  detail(): undefined {
    return undefined;
  }
}

/** The block that stands in the record of a completion. */
function readOutcome(engine: Engine): Outcome {
  const at = ((engine.next - 1) * RECORD_SIZE) / 8 + RECORD_WORDS.data;
  const address = engine.memory.recordDoubles[at] ?? 0;
  const { bytes } = adoptBlock(engine.handle, address);
  try {
    return deserialize(bytes) as Outcome;
  } catch (error) {
    return { thrown: error };
  } finally {
    bytes.transfer(0);
  }
}

class Offloaded<T> extends Operation<T> {
  readonly #job: Job<T>;
  readonly #pool: OffloadPool;

  constructor(engine: Engine, index: number, pool: OffloadPool, job: Job<T>) {
    super(engine, index, OperationKind.nop, -1, job, undefined);
    this.#job = job;
    this.#pool = pool;
  }

  override get kind(): string {
    return "offload";
  }

  override cancel(): boolean {
    if (!super.cancel()) return false;
    this.#pool.withdraw(this.#job);
    return true;
  }

  override failure(): UringError {
    return this.#job.thrown ? this.#job.error as UringError : super.failure();
  }
}

/** A Worker and what it is doing. */
class Seat {
  readonly worker: Worker;
  job: Job<unknown> | null = null;
  /** What the Worker died of. */
  cause: unknown = undefined;

  constructor(onClose: (seat: Seat) => void) {
    this.worker = new Worker(program);
    this.worker.unref();
    this.worker.addEventListener("error", (event) => {
      event.preventDefault();
      this.cause = event.error ?? event.message;
    });
    this.worker.addEventListener("close", () => onClose(this));
  }
}

export class OffloadPool {
  readonly #engine: Engine;
  readonly #workersMax: number;
  readonly #jobsMax: number;
  readonly #seats: Seat[] = [];
  /** Admitted, and without a Worker yet. */
  readonly #queue: Job<unknown>[] = [];
  /** Admitted and not over. */
  #admitted = 0;
  #closed = false;

  constructor(engine: Engine, options: RingOptions) {
    this.#engine = engine;
    this.#workersMax = options.offloadWorkers ??
      Math.min(WORKERS_MAX_DEFAULT, availableParallelism());
    this.#jobsMax = options.offloadJobs ?? JOBS_MAX_DEFAULT;
  }

  start<T>(given: OffloadJob<never, unknown>, args: unknown[]): Operation<T> {
    const { run, signal } = readJob(given);
    const work = describeWork(run);
    const input = new Uint8Array(serialize(args));
    const job = new Job<T>(this);
    if (signal?.aborted === true) {
      const still = new Offloaded<T>(this.#engine, -1, this, job);
      still.accompany(signal, undefined);
      return still.stillborn(-ERRNO.ECANCELED);
    }
    const { token, index } = this.#admit();
    const operation = new Offloaded<T>(this.#engine, index, this, job);
    job.order = { token, index, generation: operation.generation, input, ...work };
    this.#admitted++;
    job.operation = operation;
    this.#queue.push(job);
    operation.accompany(signal, undefined);
    this.#assign();
    return operation;
  }

  #admit(): { token: number; index: number } {
    if (this.#admitted >= this.#jobsMax) {
      const message = `offload: ${this.#admitted} jobs are not over; wait for some of them, or ` +
        "open the ring with more `offloadJobs`";
      throw new UringError("EAGAIN", "offload", message);
    }
    const token = native.bu_ring_token(this.#engine.handle);
    if (token < 0) throw submissionError(token, "offload", -1);
    const index = native.bu_offload_start(this.#engine.handle);
    if (index < 0) throw submissionError(index, "offload", -1);
    return { token, index };
  }

  /** Jobs go to Workers in the order of their admission. */
  #assign(): void {
    while (this.#queue.length > 0 && !this.#closed) {
      const seat = this.#seats.find(({ job }) => job === null) ?? this.#hire();
      if (seat === null) return;
      const job = this.#queue.shift() as Job<unknown>;
      seat.job = job;
      job.seat = seat;
      seat.worker.postMessage(job.order);
    }
  }

  #hire(): Seat | null {
    if (this.#seats.length >= this.#workersMax) return null;
    const seat = new Seat((closed) => this.#onClose(closed));
    this.#seats.push(seat);
    return seat;
  }

  /** A Worker is gone that nobody has sent away. */
  #onClose(seat: Seat): void {
    const at = this.#seats.indexOf(seat);
    if (at < 0) return;
    this.#seats.splice(at, 1);
    const { job } = seat;
    if (job !== null) {
      const message = "offload: the Worker died before the job was done";
      const error = new UringError("EOWNERDEAD", "offload", message, "completion");
      if (seat.cause !== undefined) error.cause = seat.cause;
      job.fail(error);
      // Unless its outcome has been posted: success wins.
      job.operation?.cancel();
    }
    this.#assign();
  }

  /** It was cancelled: a Worker that is at it is sent away. */
  withdraw(job: Job<unknown>): void {
    const at = this.#queue.indexOf(job);
    if (at >= 0) this.#queue.splice(at, 1);
    const { seat } = job;
    if (seat === null) return;
    job.seat = null;
    seat.job = null;
    const place = this.#seats.indexOf(seat);
    if (place >= 0) this.#seats.splice(place, 1);
    seat.worker.terminate();
    this.#assign();
  }

  /** It has its outcome. */
  landed(job: Job<unknown>): void {
    if (job.order === null) return;
    this.#admitted--;
    if (job.seat !== null) job.seat.job = null;
    job.seat = null;
    this.#assign();
  }

  close(): void {
    this.#closed = true;
    this.#queue.length = 0;
    for (const { worker } of this.#seats.splice(0)) worker.terminate();
  }
}

function readJob(given: unknown): { run: unknown; signal: AbortSignal | undefined } {
  const isOptions = typeof given === "object" && given !== null && !(given instanceof URL);
  if (!isOptions) return { run: given, signal: undefined };
  const { run, signal } = given as { run?: unknown; signal?: unknown };
  if (signal === undefined || signal instanceof AbortSignal) return { run, signal };
  throw argumentError("offload", "signal", "an AbortSignal", signal);
}

/** Sources that were found to stand for themselves. */
const sources = new WeakMap<Function, string>();

function describeWork(run: unknown): Pick<Order, "source" | "module"> {
  if (run instanceof URL) return { source: null, module: run.href };
  if (typeof run !== "function") {
    throw argumentError("offload", "job", "a function or the URL of a module", run);
  }
  let source = sources.get(run);
  if (source === undefined) {
    source = readSource(run);
    sources.set(run, source);
  }
  return { source, module: null };
}

function readSource(run: Function): string {
  const source = Function.prototype.toString.call(run);
  try {
    // Compiled and not run: a method's source, or native code, is no expression.
    new Function(`return (${source}\n)`);
    return source;
  } catch (error) {
    const message = "offload: the source of this function does not stand for itself; use an " +
      "arrow function, or a module";
    const refusal = new UringError("EINVAL", "offload", message);
    refusal.cause = error;
    throw refusal;
  }
}

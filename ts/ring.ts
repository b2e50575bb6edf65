// Ring: one kernel ring and all that is open on it; the engine as its user sees it.
//
// The floors below are `engine.ts` (turns), `waiting.ts`, and the operations by family. Here stand
// what concerns the ring as a whole: its end, what it says of itself, batches, registrations. A
// ring belongs to the thread that opened it; `Ring.default` is one per thread.

import {
  ERRNO,
  HISTOGRAM_BUCKETS,
  OperationKind,
  OperationOption,
  STATS_SIZE,
  STATS_WORDS,
} from "./abi.ts";
import { startBatch, type Batch } from "./batch.ts";
import { argumentError, checkBoolean, checkInteger, UringError } from "./errors.ts";
import type { Memory } from "./memory.ts";
import { native } from "./native.ts";
import {
  callbackOf,
  launch,
  optionsOf,
  type Callback,
  type Operation,
  type OperationOptions,
} from "./operation.ts";
import { OffloadPool, type OffloadJob } from "./offload.ts";
import { kindNumber, type PollEvents } from "./operation/control.ts";
import type { Path, RenameOptions } from "./operation/path.ts";
import { SocketOperations } from "./operation/socket.ts";
import {
  PostBox,
  Poster,
  type PostData,
  type PostHandler,
  type PostKeys,
  type PostSubscription,
  type Token,
} from "./post.ts";
import type { AnyPrepared } from "./prepare.ts";
import { BufferRegistration, FileRegistration } from "./registered.ts";
import type { OperationName, RingOptions } from "./ring_options.ts";
import { schedule, type ScheduleOptions } from "./schedule.ts";
import {
  describeLatency,
  readCounters,
  type Counter,
  type Latency,
  type RingStats,
} from "./stats.ts";
import { Watch, type WatchHandler } from "./watch.ts";
import { RingWorker, type WorkerOptions } from "./worker.ts";

export interface CloseOptions {
  /** Operations that are pending are cancelled without an error. Default false. */
  cancel?: boolean;
  /** Milliseconds that the kernel has to give everything back. Default: the ring's option, 1000. */
  timeout?: number;
}

export interface LinkOptions {
  /** Each member starts whatever became of the one before: IOSQE_IO_HARDLINK. Default false. */
  hard?: boolean;
}

/** What `inspect` says. */
export interface RingInspection {
  /** "open", "closing", "closed"; "failed" after a fatal error. */
  state: string;
  backend: string;
  reason: string;
  /** Operations in flight, by kind. */
  pending: Record<string, number>;
  connections: number;
  listeners: number;
  datagramSockets: number;
  /** The submission queue: its size, entries that the kernel has not taken, operations behind. */
  submission: { entries: number; queued: number; waiting: number };
  /** The completion queue: its size, completions in it, records taken out and not dispatched. */
  completion: { entries: number; queued: number; undispatched: number };
  registered: { buffers: RegistrationInspection; files: RegistrationInspection };
  /** Receive buffers on loan to JavaScript. */
  lentBuffers: number;
  fatalError: UringError | null;
}

/** What a registration holds. */
export interface RegistrationInspection {
  state: string;
  /** Places, and operations in flight on them. */
  count: number;
  inFlight: number;
}

let defaultRing: Ring | null = null;

/** What is left of a ring that was collected while it was open. */
interface Remains {
  readonly handle: number;
  readonly memory: Memory;
  readonly log: ((message: string) => void) | undefined;
}

const collected = new FinalizationRegistry<Remains>(({ handle, memory, log }) => {
  native.bu_ring_close(handle, COLLECTED_CLOSE_MS);
  memory.release();
  const message = "bun-uring: a Ring was garbage-collected open; close it, or use `await using`";
  if (log === undefined) console.error(message);
  else log(message);
});

/** A collected ring has nothing in flight that JavaScript knows of. */
const COLLECTED_CLOSE_MS = 100;

export class Ring extends SocketOperations implements AsyncDisposable {
  /** Registered buffers, for `read` and `write`. */
  readonly buffers: BufferRegistration;
  /** Registered files, in place of descriptors. */
  readonly files: FileRegistration;
  readonly #box: PostBox;
  readonly #offloads: OffloadPool;
  readonly #workers = new Set<RingWorker>();
  #closing: Promise<void> | null = null;

  /** Throws a `UringError` that says why if there is no ring to be had. */
  constructor(options: RingOptions = {}) {
    super(options);
    this.buffers = new BufferRegistration(this);
    this.files = new FileRegistration(this);
    this.#offloads = new OffloadPool(this, options);
    this.#box = new PostBox(this);
    this.posts = this.#box;
    const { handle, memory } = this;
    collected.register(this, { handle, memory, log: options.onLog }, this);
  }

  /** This thread's ring, opened at first use. */
  static get default(): Ring {
    if (defaultRing === null || defaultRing.state !== "open") defaultRing = new Ring();
    return defaultRing;
  }

  // The end ------------------------------------------------------------------------------------

  /**
   * Without a descriptor: cancels what is pending, closes every connection and listener, frees the
   * memory. Bounded in time, and never closes a descriptor that was passed in. Rejects with "EBUSY"
   * and a list if operations were pending, unless `cancel` is set. In a handler it takes effect
   * after the dispatch.
   */
  close(options?: CloseOptions): Promise<void>;
  /**
   * With one: cancels what is pending on that descriptor, then closes it, also if the ring fails
   * before it gets there. Callback: `(result)`. close(2)
   */
  close(fd: number, options?: OperationOptions | Callback, callback?: Callback): Operation;
  close(
    first?: CloseOptions | number,
    options?: OperationOptions | Callback,
    callback?: Callback,
  ): Promise<void> | Operation {
    if (typeof first === "number") return this.#closeFile(first, options, callback);
    const given = first ?? {};
    if (typeof given !== "object") {
      throw argumentError("close", "options", "an object or a descriptor", given);
    }
    const silent = checkBoolean("close", "cancel", given.cancel ?? false);
    const timeout = given.timeout ?? this.closeTimeout;
    checkInteger("close", "timeout", timeout, 0, 60_000);
    return this.#closeRing(silent, timeout);
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.#closeRing(true, this.closeTimeout);
  }

  #closeFile(
    fd: number,
    options: OperationOptions | Callback | undefined,
    callback: Callback | undefined,
  ): Operation {
    const given = optionsOf("close", options);
    const told = callbackOf("close", options, callback);
    this.assertOpen("close");
    checkInteger("close", "fd", fd, 0, 0x7fff_ffff);
    // A member of a batch cancels nobody: the chain says what runs before it.
    const cancels = !this.batching && !given.signal?.aborted;
    if (cancels) this.cancelPending((operation) => operation.fd === fd);
    const descriptor = this.prepareFile("close", fd);
    return launch(this, OperationKind.close, descriptor, null, given, told);
  }

  #closeRing(silent: boolean, timeout: number): Promise<void> {
    if (this.#closing !== null) return this.#closing;
    const list = this.flying > 0 && !silent ? this.describePending() : null;
    this.state = "closing";
    this.#closing = this.#shut(list, timeout);
    return this.#closing;
  }

  async #shut(list: string | null, timeout: number): Promise<void> {
    const deadline = performance.now() + timeout;
    // Connections get the last part of the time, so that one stuck operation leaves them some.
    const operationDeadline = deadline - timeout / 4;
    let turned = false;
    for (;;) {
      // Never under a dispatch: the records being read lie in the memory that goes.
      if (this.draining) {
        await immediate();
        continue;
      }
      if (this.flying === 0 || this.fatalError !== null) break;
      if (turned && performance.now() > operationDeadline) break;
      this.cancelPending(() => true);
      this.turnNow(turned ? 1 : 0);
      turned = true;
      if (this.flying > 0) await immediate();
    }
    this.#finish(Math.max(deadline - performance.now(), 0));
    if (list === null) return;
    throw new UringError("EBUSY", "close", `close: cancelled what was pending: ${list}`);
  }

  #finish(leftMs: number): void {
    const orphans = this.flying > 0 ? this.describePending() : this.#whatElse();
    this.state = "closed";
    collected.unregister(this);
    this.loop.close();
    this.#offloads.close();
    for (const worker of this.#workers) worker.terminate();
    const held = native.bu_ring_close(this.handle, Math.ceil(leftMs));
    if (held > 0) {
      this.log(`bun-uring: the kernel still holds ${held} at close, memory is kept: ${orphans}`);
    }
    this.end(-ERRNO.ECANCELED);
    this.connections.length = 0;
    this.listeners.length = 0;
    this.datagrams.length = 0;
    this.operations.length = 0;
    this.memory.release();
  }

  /** What a ring may still hold that has no operation in flight. */
  #whatElse(): string {
    return this.fatalError === null ? "connections" : "what was pending when it failed";
  }

  // Batches ------------------------------------------------------------------------------------

  /** Hands prepared operations to the kernel together: all of them, or the call throws. */
  batch(members: readonly AnyPrepared[]): Batch {
    this.assertOpen("batch");
    return startBatch(this, "batch", members, 0);
  }

  /**
   * With prepared operations: a chain, each starts when the one before it succeeded in full.
   * With two paths: a further name for a file, `Operation`. Callback: `(result)`. linkat(2)
   */
  link(members: readonly AnyPrepared[], options?: LinkOptions): Batch;
  link(
    from: Path,
    to: Path,
    options?: RenameOptions | Callback,
    callback?: Callback,
  ): Operation;
  link(
    first: readonly AnyPrepared[] | Path,
    second?: LinkOptions | Path,
    options?: RenameOptions | Callback,
    callback?: Callback,
  ): Batch | Operation {
    if (!Array.isArray(first)) {
      return this.hardLink(first as Path, second as Path, options, callback);
    }
    this.assertOpen("link");
    const hard = checkBoolean("link", "hard", (second as LinkOptions | undefined)?.hard ?? false);
    const bit = 1 << (hard ? OperationOption.hard_link : OperationOption.link);
    return startBatch(this, "link", first as readonly AnyPrepared[], bit);
  }

  // Watching -----------------------------------------------------------------------------------

  /**
   * Tells `handler` of each change of a descriptor: readable, writable, error, hang-up, with the
   * descriptor and `context`. The descriptor stays the caller's. poll(2)
   */
  watch<Context>(
    fd: number,
    events: PollEvents,
    context: Context,
    handler: WatchHandler<Context>,
  ): Watch<Context> {
    this.assertOpen("watch");
    return new Watch(this, fd, events, context, handler);
  }

  // Posts --------------------------------------------------------------------------------------

  /**
   * Names the ring in other threads, for `Ring.open`: it goes through `postMessage`. From the first
   * look on others may post, so that `wait` waits for them and the process goes on; see `Token`.
   */
  get token(): Token {
    this.assertOpen("token");
    const { token } = this.#box;
    this.mayBePosted = true;
    return token;
  }

  /** The ring behind a token, in any thread: to post to it, wake it up, stop it. */
  static open(token: Token | { readonly id: number } | number): Poster {
    return new Poster(token);
  }

  /** A post from the ring's own thread: told in a later turn, as those of others are. */
  post(key: number, data: PostData): void {
    this.assertOpen("post");
    this.#box.post(key, data);
  }

  /**
   * Tells `handler` of posts with this key, or with keys from the first to the last of a range. A
   * key goes before ranges, a narrow range before a wide one; "EEXIST" if the same has a handler.
   */
  onPost<Data extends PostData = PostData>(
    keys: PostKeys,
    handler: PostHandler<Data>,
  ): PostSubscription {
    this.assertOpen("onPost");
    return this.#box.subscribe(keys, handler as PostHandler);
  }

  // Work elsewhere, and later -----------------------------------------------------------------

  /**
   * Runs a function or a module's export in a Worker of a small pool, with these arguments, and
   * completes in a turn of this ring with what it returns or throws. Arguments and results are
   * cloned. "EAGAIN": too many jobs are not over. `cancel` ends a Worker that is at it. A Worker
   * that dies fails its job with "EOWNERDEAD".
   */
  offload<Args extends unknown[], Result>(
    job: OffloadJob<Args, Result>,
    ...args: Args
  ): Operation<Awaited<Result>> {
    this.assertOpen("offload");
    return this.#offloads.start(job as OffloadJob<never, unknown>, args);
  }

  /**
   * Starts a long-lived Worker, which runs the default export of a module, or the one that the
   * URL's hash names, until it returns: it is called with a `WorkerContext`. Its messages, one post
   * each, and its end arrive in turns of this ring. Closing the ring terminates it.
   */
  worker(module: string | URL, options: WorkerOptions = {}): RingWorker {
    this.assertOpen("worker");
    const onGone = (gone: RingWorker) => void this.#workers.delete(gone);
    const worker = new RingWorker(this, this.#box, module, options, onGone);
    this.#workers.add(worker);
    return worker;
  }

  /**
   * Resolves in the turn that reaps it: what follows `await ring.schedule()` goes on there. One
   * that is cancelled, also by the end of the ring, rejects with "ECANCELED" and never resolves.
   */
  schedule(options: ScheduleOptions = {}): Operation<void> {
    return schedule(this, options);
  }

  // What it says of itself ---------------------------------------------------------------------

  /** Counters since the ring was opened. */
  stats(): RingStats {
    this.assertOpen("stats");
    const counters = readCounters(this.#counters());
    return {
      ...counters,
      in_flight: this.flying,
      descriptors_reclaimed: this.reclaimed,
      chunks_kept: this.keeping.kept,
      chunks_collected: this.keeping.collected,
      posts_unhandled: this.#box.unhandled,
    };
  }

  /** All zero of a ring that is closed. */
  #counters(): (name: Counter) => number {
    const out = new ArrayBuffer(STATS_SIZE);
    if (!this.closed) native.bu_ring_stats(this.handle, new Uint8Array(out));
    const words = new Float64Array(out);
    return (name) => words[STATS_WORDS[name]] ?? 0;
  }

  /** How long operations of a kind took, from submission to completion, in microseconds. */
  latency(kind: OperationName): Latency {
    this.assertOpen("latency");
    const buckets = new Float64Array(HISTOGRAM_BUCKETS);
    native.bu_histogram_read(this.handle, kindNumber("latency", kind), buckets);
    return describeLatency(buckets);
  }

  /** State, backend, what is pending, registrations, loans, the fatal error. */
  override inspect(): RingInspection {
    const open = (table: readonly unknown[]) => table.filter((one) => one !== undefined).length;
    const counter = this.#counters();
    const { submission, completion } = this.sizes;
    const pending: Record<string, number> = {};
    for (const operation of this.operations) {
      if (operation !== undefined) pending[operation.kind] = (pending[operation.kind] ?? 0) + 1;
    }
    return {
      state: this.fatalError === null ? this.state : "failed",
      backend: this.backend,
      reason: this.reason,
      pending,
      connections: open(this.connections),
      listeners: open(this.listeners),
      datagramSockets: open(this.datagrams),
      submission: {
        entries: submission,
        queued: counter("sq_queued"),
        waiting: counter("operations_waiting"),
      },
      completion: {
        entries: completion,
        queued: counter("cq_queued"),
        undispatched: this.count - this.next,
      },
      registered: { buffers: this.buffers.inspect(), files: this.files.inspect() },
      lentBuffers: counter("receive_buffers_lent"),
      fatalError: this.fatalError,
    };
  }

  [Symbol.for("nodejs.util.inspect.custom")](): RingInspection & { [Symbol.toStringTag]: string } {
    return { [Symbol.toStringTag]: "Ring", ...this.inspect() };
  }
}

function immediate(): Promise<void> {
  return new Promise((resolve) => setImmediate(resolve));
}

// Ring: one kernel ring and all that is open on it; the facade of the engine.
//
// Owns the handle, the slab's views, the tables of receivers and the loop. `turn` is the only
// crossing per turn (step 6 of the straight line). A ring belongs to the thread that opened it;
// `Ring.default` is one per thread, opened at first use.

import {
  Backend,
  CONTROL_WORDS,
  ERRNO,
  Feature,
  Reason,
  Shut,
  STATS_SIZE,
  STATS_WORDS,
} from "./abi.ts";
import { drain, type ConnectionReceiver, type ListenerReceiver } from "./completion.ts";
import {
  argumentError,
  checkInteger,
  codeOf,
  reportUncaught,
  resultError,
  UringError,
} from "./errors.ts";
import { Loop, type Turnable } from "./loop.ts";
import { Memory, openRing } from "./memory.ts";
import { native } from "./native.ts";

export type FeatureName = keyof typeof Feature;
export type BackendName = "uring" | "epoll";
export type RingStats = { readonly [Field in keyof typeof STATS_WORDS]: number };

export interface RingOptions {
  /** Submission queue entries, a power of two up to 32768. Default 1024. */
  entries?: number;
  /** Completion queue entries, a power of two from 4096. Default 8192. */
  completionEntries?: number;
  /** Receive buffers shared by all connections, a power of two up to 32768. Default 512. */
  receiveBuffers?: number;
  /** Bytes of one receive buffer, a multiple of 64 up to 1 MiB. Default 16384. */
  receiveBufferSize?: number;
  /** Connections open at a time. Default 65536. */
  connections?: number;
  /** Blocks of 2 KiB that hold written bytes, for all connections together. Default 16384. */
  stagingBlocks?: number;
  /** Bytes that one connection may have queued before `write` takes less. Default 256 KiB. */
  highWaterMark?: number;
  /** Features to treat as refused, besides those in BUN_URING_DISABLE. */
  disable?: readonly FeatureName[];
}

/** Records are dispatched for at most this long before Bun's loop goes on (I9), milliseconds. */
const DISPATCH_MS = 1;
/** Enters per share of work: a DEFER_TASKRUN enter hands over about twenty completions. */
const ROUNDS = 4;

const NUMERIC_OPTIONS = {
  entries: ["entries", 2, 32768],
  completionEntries: ["cq_entries", 4096, 131072],
  receiveBuffers: ["receive_buffers", 1, 32768],
  receiveBufferSize: ["receive_buffer_size", 64, 1 << 20],
  connections: ["connections", 1, (1 << 24) - 1],
  stagingBlocks: ["staging_blocks", 1, 1 << 20],
  highWaterMark: ["high_water_mark", 1, 1 << 30],
} as const;

/** What `close` waits for the kernel to give everything back, milliseconds. */
const CLOSE_TIMEOUT_MS = 1000;

let defaultRing: Ring | null = null;

export class Ring implements AsyncDisposable, Turnable {
  /** The kernel interface in use. */
  readonly backend: BackendName;
  /** Why this backend: a sentence. */
  readonly reason: string;
  /** What the kernel offers and is not masked. */
  readonly features: ReadonlySet<FeatureName>;
  /** @internal */ readonly handle: number;
  /** @internal */ readonly wakeFd: number;
  /** @internal */ readonly memory: Memory;
  /** @internal */ readonly loop: Loop;
  /** @internal */ readonly connections: (ConnectionReceiver | undefined)[] = [];
  /** @internal */ readonly listeners: (ListenerReceiver | undefined)[] = [];
  /** @internal Things open, and those that keep the process alive. */ openCount = 0;
  /** @internal */ refCount = 0;
  #fatal: UringError | null = null;
  #closed = false;
  #dispatching = false;
  /** Records of the last turn that were not dispatched yet. */
  #next = 0;
  #count = 0;

  constructor(options: RingOptions = {}) {
    const { outcome, info } = openRing(readOptions(options));
    if (outcome < 0) throw refusal(outcome, info.reason, info.reason_errno);
    this.handle = info.handle;
    this.memory = new Memory(info);
    this.backend = info.backend === Backend.epoll ? "epoll" : "uring";
    this.reason = info.reason === Reason.requested
      ? "asked for by the caller"
      : "io_uring passed the probe: provided buffers and receives over a socket pair";
    const names = Object.keys(Feature) as FeatureName[];
    this.features = new Set(names.filter((name) => info.features & (1 << Feature[name])));
    this.wakeFd = info.wake_fd | 0;
    this.loop = new Loop(this);
  }

  /** This thread's ring, opened at first use and never closed. */
  static get default(): Ring {
    if (defaultRing === null || defaultRing.closed) defaultRing = new Ring();
    return defaultRing;
  }

  get closed(): boolean {
    return this.#closed;
  }

  /** The error that ended the ring, if one did: every later call throws it. */
  get fatalError(): UringError | null {
    return this.#fatal;
  }

  /** Connections, listeners and operations that are open. */
  get pendingCount(): number {
    const { control } = this.memory;
    if (this.#closed) return 0;
    return (
      (control[CONTROL_WORDS.connections] ?? 0) +
      (control[CONTROL_WORDS.listeners] ?? 0) +
      (control[CONTROL_WORDS.operations] ?? 0)
    );
  }

  /** Counters since the ring was opened. */
  stats(): RingStats {
    this.assertOpen("stats");
    const out = new ArrayBuffer(STATS_SIZE);
    native.bu_ring_stats(this.handle, new Uint8Array(out));
    const values = new Float64Array(out);
    return Object.fromEntries(
      Object.entries(STATS_WORDS).map(([name, word]) => [name, values[word] ?? 0]),
    ) as RingStats;
  }

  /** Hands what is queued to the kernel at once, without waiting for the end of the turn. */
  submit(): void {
    this.assertOpen("submit");
    const outcome = native.bu_ring_flush(this.handle);
    if (outcome < 0) throw resultError(outcome, "submit", "the queue", "submission");
    this.loop.touch();
  }

  /**
   * Cancels what is pending, closes every connection and listener, frees the memory. Inside a
   * handler it takes effect after the dispatch.
   */
  async close(): Promise<void> {
    if (this.#closed) return;
    // Never under a dispatch: the records being read lie in the memory that goes.
    while (this.#dispatching) await new Promise<void>((resolve) => setImmediate(resolve));
    if (this.#closed) return;
    this.#closed = true;
    this.loop.close();
    native.bu_ring_close(this.handle, CLOSE_TIMEOUT_MS);
    this.#end(-ERRNO.ECANCELED);
    this.connections.length = 0;
    this.listeners.length = 0;
    this.memory.release();
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }

  /** @internal One bounded share of work; true if there was any. */
  pump(): boolean {
    if (this.#dispatching || this.#closed || this.#fatal !== null) return false;
    this.#dispatching = true;
    const deadline = performance.now() + DISPATCH_MS;
    let worked = false;
    try {
      for (let round = 0; round < ROUNDS; round++) {
        if (this.#next >= this.#count && !this.#turn()) break;
        worked = true;
        this.#next = drain(this.memory, this, this.#next, this.#count, deadline);
        if (this.#next < this.#count) break;
      }
    } finally {
      this.#dispatching = false;
    }
    return worked;
  }

  /** One crossing; true if it wrote records. */
  #turn(): boolean {
    const count = native.bu_ring_turn(this.handle, 0);
    this.#next = 0;
    this.#count = Math.max(count, 0);
    if (count < 0) this.latch(count);
    return count > 0;
  }

  /** @internal An error after which nothing works: told to everything that is open, once (I8). */
  latch(result: number): void {
    if (this.#fatal !== null) return;
    this.#fatal = new UringError(
      codeOf(result),
      "turn",
      "the ring failed and is lost; open a new one",
      "completion",
    );
    this.loop.close();
    this.#end(result);
  }

  /** Tells everything that is open that it is gone. */
  #end(result: number): void {
    for (const connection of [...this.connections]) {
      this.#guard(() => connection?.onClose(result));
    }
    for (const listener of [...this.listeners]) this.#guard(() => listener?.onClosed(result));
  }

  #guard(call: () => unknown): void {
    try {
      call();
    } catch (error) {
      reportUncaught(error);
    }
  }

  /** @internal */
  arm(): boolean {
    const outcome = native.bu_ring_arm(this.handle);
    // A ring that cannot be armed must not be slept on either.
    return outcome !== 0 || this.#next < this.#count;
  }

  /** @internal */
  disarm(): void {
    native.bu_ring_disarm(this.handle);
  }

  /** @internal */
  wake(): void {
    native.bu_ring_wake(this.handle);
  }

  /** @internal A connection whose listener is gone: nobody will ever read it. */
  orphan(index: number, generation: number): void {
    native.bu_connection_shut(this.handle, index, generation, Shut.terminate);
  }

  /** @internal The generation of the slot that the last claiming call returned. */
  claimedGeneration(): number {
    return this.memory.control[CONTROL_WORDS.generation] ?? 0;
  }

  /** @internal */
  opened(keepsAlive: boolean): void {
    this.openCount++;
    if (keepsAlive) this.refCount++;
    this.loop.recount();
  }

  /** @internal */
  gone(keptAlive: boolean): void {
    this.openCount--;
    if (keptAlive) this.refCount--;
    this.loop.recount();
  }

  /** @internal */
  referenced(by: 1 | -1): void {
    this.refCount += by;
    this.loop.recount();
  }

  /** @internal */
  assertOpen(operation: string): void {
    if (this.#fatal !== null) throw this.#fatal;
    if (!this.#closed) return;
    throw new UringError("ESHUTDOWN", operation, `${operation}: the ring is closed`);
  }
}

function readOptions(options: RingOptions): Record<string, number> {
  if (typeof options !== "object" || options === null) {
    throw argumentError("Ring", "options", "an object", options);
  }
  const words: Record<string, number> = { features_disabled: disabledFeatures(options.disable) };
  for (const [name, [word, least, most]] of Object.entries(NUMERIC_OPTIONS)) {
    const value = options[name as keyof typeof NUMERIC_OPTIONS];
    if (value !== undefined) words[word] = checkInteger("Ring", name, value, least, most);
  }
  return words;
}

/** Bits of the masked features: the option's and those of BUN_URING_DISABLE, comma-separated. */
function disabledFeatures(option: unknown = []): number {
  if (!Array.isArray(option)) {
    throw argumentError("Ring", "disable", "an array of feature names", option);
  }
  const masked = (process.env["BUN_URING_DISABLE"] ?? "").split(",").map((name) => name.trim());
  let bits = 0;
  for (const name of [...masked.filter((text) => text !== ""), ...(option as unknown[])]) {
    if (typeof name !== "string" || !Object.hasOwn(Feature, name)) {
      const known = Object.keys(Feature).join(", ");
      throw argumentError("Ring", "a disabled feature", `one of ${known}`, name);
    }
    bits |= 1 << Feature[name as FeatureName];
  }
  return bits;
}

/** Why no ring could be had, and what can be done about it. */
function refusal(outcome: number, reason: number, errno: number): UringError {
  const code = codeOf(outcome);
  const detail = errno === 0 ? "masked" : codeOf(-errno);
  return new UringError(code, "Ring", `no ring: ${refusalSentence(outcome, reason, detail)}`);
}

function refusalSentence(outcome: number, reason: number, detail: string): string {
  switch (reason) {
    case Reason.setup_refused:
      if (detail === "EPERM") {
        return (
          "io_uring is forbidden here (EPERM): by a seccomp profile, as Docker's and Kubernetes' " +
          "default ones do, or by `sysctl kernel.io_uring_disabled`; allow the io_uring system " +
          "calls, or set the sysctl to 0"
        );
      }
      if (detail === "ENOSYS") {
        return (
          "this kernel has no io_uring, or a seccomp profile hides it (ENOSYS); it needs Linux " +
          "5.19 with CONFIG_IO_URING"
        );
      }
      return `io_uring_setup was refused (${detail})`;
    case Reason.buffer_ring_refused:
      return `provided-buffer rings were refused (${detail}); they need Linux 5.19`;
    case Reason.receive_refused:
      return `receiving into provided buffers does not work here (${detail}); it needs Linux 5.19`;
    case Reason.eventfd_refused:
      return `an eventfd could not be registered (${detail})`;
    case Reason.out_of_memory:
      return (
        `out of memory (${detail}); raise the limit on locked memory (\`ulimit -l\`) or open it ` +
        "with fewer entries and buffers"
      );
    default:
      return outcome === -ERRNO.EMFILE
        ? "too many rings in this process"
        : "the options do not fit together; the completion queue must not be the smaller one";
  }
}

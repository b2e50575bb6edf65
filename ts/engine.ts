// Engine: one kernel ring, its tables and its turns; what every part of `Ring` stands on.
//
// Owns the handle, the slab's views, the tables of receivers and the loop. `turn` is the only
// crossing per turn (step 6 of the straight line). `waiting.ts`, the operations and `ring.ts` are
// further floors of the same object: a user sees `Ring` alone.

import {
  Backend,
  CONTROL_WORDS,
  ERRNO,
  Feature,
  Shut,
} from "./abi.ts";
import type { Keeping } from "./borrowed.ts";
import {
  drain,
  type ConnectionReceiver,
  type DatagramReceiver,
  type ListenerReceiver,
  type PostReceiver,
} from "./completion.ts";
import { codeOf, reportUncaught, resultError, UringError } from "./errors.ts";
import { Loop, type Turnable } from "./loop.ts";
import { Memory, openRing } from "./memory.ts";
import { native } from "./native.ts";
import type { Operation } from "./operation.ts";
import {
  readOptions,
  reasonSentence,
  refusal,
  type BackendName,
  type FeatureName,
  type RingOptions,
} from "./ring_options.ts";

export type RingState = "open" | "closing" | "closed";

/** Records are dispatched for at most this long before Bun's loop goes on (I9), milliseconds. */
const DISPATCH_MS = 1;
/**
 * Enters per share of work, within the time above: a DEFER_TASKRUN enter hands over about twenty
 * completions, and what arrives while they are handled is taken with the answers to them.
 */
const ROUNDS = 16;
/**
 * A ring that has the thread lets Bun's loop go round this often, and waits this long at most: what
 * Bun's timers are late by is twice that and what a handler takes.
 */
const SLICE_MS = 1;
/** Looks for more, about 5 µs, before Bun's loop goes round: that turn costs as much by itself. */
const LOOKS = 300;
/** What `close` waits for the kernel to give everything back, milliseconds. */
const CLOSE_TIMEOUT_MS = 1000;

/** Who waits for the ring; told after each share of work and when the ring ends. */
export interface Waiter {
  readonly name: string;
  check(): void;
  /** The ring is gone; null if it was closed. */
  end(error: UringError | null): void;
}

export class Engine implements Turnable {
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
  /** @internal */ readonly sizes: { readonly submission: number; readonly completion: number };
  /** @internal */ readonly closeTimeout: number;
  /** @internal */ readonly connections: (ConnectionReceiver | undefined)[] = [];
  /** @internal */ readonly listeners: (ListenerReceiver | undefined)[] = [];
  /** @internal */ readonly datagrams: (DatagramReceiver | undefined)[] = [];
  /** @internal */ readonly operations: (Operation<unknown> | undefined)[] = [];
  /** @internal Things open, and those of them that are ref'ed. */ openCount = 0;
  /** @internal */ refs = 0;
  /** @internal Operations in flight. */ flying = 0;
  /** @internal Descriptors that were made or came, and nobody took. */ reclaimed = 0;
  /** @internal See `Receivers`. */ next = 0;
  /** @internal */ count = 0;
  /** @internal */ handled = 0;
  /** @internal */ limit = Number.POSITIVE_INFINITY;
  /** @internal */ calling = false;
  /** @internal When the operations of this turn were submitted; 0 before the first. */ stamp = 0;
  /** @internal Option bits of the operation that is started next: its place in a chain. */
  linkBits = 0;
  /** @internal A batch is being put together. */ batching = false;
  /** @internal */ state: RingState = "open";
  /** @internal */ waiter: Waiter | null = null;
  /** @internal Somebody holds a token to post with. */ mayBePosted = false;
  /** @internal A post of this thread waits for the next turn. */ posted = false;
  /** @internal Whom posts concern, from the first of them on. */
  posts: PostReceiver | null = null;
  /** @internal Borrowed chunks that outlive their handler. */
  readonly keeping: Keeping = { kept: 0, collected: 0 };
  /** @internal Called at each last completion: registrations that drain. */
  readonly drains = new Set<() => void>();
  readonly #onLog: ((message: string) => void) | undefined;
  readonly #onStarved: ((waiting: number) => void) | undefined;
  #starvations = 0;
  #fatal: UringError | null = null;
  #isHeld = true;
  #draining = false;

  constructor(options: RingOptions = {}) {
    const { outcome, info } = openRing(readOptions(options));
    if (outcome < 0) throw refusal(outcome, info.reason, info.reason_errno);
    this.handle = info.handle;
    this.memory = new Memory(info);
    this.backend = info.backend === Backend.epoll ? "epoll" : "uring";
    this.reason = reasonSentence(info.reason, info.reason_errno);
    const names = Object.keys(Feature) as FeatureName[];
    this.features = new Set(names.filter((name) => info.features & (1 << Feature[name])));
    this.wakeFd = info.wake_fd | 0;
    this.sizes = { submission: info.sq_entries, completion: info.cq_entries };
    this.closeTimeout = options.closeTimeout ?? CLOSE_TIMEOUT_MS;
    this.#onLog = options.onLog;
    this.#onStarved = options.onStarved;
    this.loop = new Loop(this, { spinTurns: options.spinTurns });
  }

  get closed(): boolean {
    return this.state === "closed";
  }

  /** The error that ended the ring, if one did: every later call throws it. */
  get fatalError(): UringError | null {
    return this.#fatal;
  }

  /** Operations in flight, and connections, listeners and datagram sockets that are open. */
  get pendingCount(): number {
    if (this.state === "closed") return 0;
    return this.openCount - (this.mayBePosted ? 1 : 0); // a token is open, and nothing pending
  }

  /** @internal Posts and records are left, for which nothing needs to be open. */
  get busy(): boolean {
    if (this.state === "closed") return false;
    const { control } = this.memory;
    return this.posted || this.next < this.count || (control[CONTROL_WORDS.posts] ?? 0) > 0;
  }

  /** What is open and ref'ed keeps the process alive, which is the default. */
  ref(): this {
    return this.#hold(true);
  }

  /** The process may end whatever is open on the ring. */
  unref(): this {
    return this.#hold(false);
  }

  hasRef(): boolean {
    return this.#isHeld;
  }

  #hold(isHeld: boolean): this {
    this.#isHeld = isHeld;
    this.loop.recount();
    return this;
  }

  /** @internal */
  get refCount(): number {
    return this.#isHeld ? this.refs : 0;
  }

  /** Hands what is queued to the kernel at once, without waiting for the end of the turn. */
  submit(): void {
    this.assertOpen("submit");
    const outcome = native.bu_ring_flush(this.handle);
    if (outcome < 0) throw resultError(outcome, "submit", "the queue", "submission");
    this.loop.touch();
  }

  // Turns --------------------------------------------------------------------------------------

  /** @internal A dispatch is under way, somewhere below in the stack. */
  get draining(): boolean {
    return this.#draining;
  }

  /** @internal One bounded share of work; true if there was any. */
  pump(): boolean {
    if (this.#draining || this.state === "closed" || this.#fatal !== null) return false;
    this.#draining = true;
    const deadline = performance.now() + DISPATCH_MS;
    let worked = false;
    try {
      for (let round = 0; round < ROUNDS; round++) {
        const looks = round > 0 ? LOOKS : 0;
        if (this.next >= this.count && this.#turn(0, looks) <= 0) break;
        worked = true;
        drain(this, deadline);
        if (this.next < this.count || performance.now() > deadline) break;
      }
    } finally {
      this.#draining = false;
    }
    this.waiter?.check();
    return worked;
  }

  /**
   * @internal One slice of a thread that the ring has to itself: turns that wait, until Bun's loop
   * has something to do or its turn has come. True if there was any work.
   */
  occupy(): boolean {
    if (this.#draining || this.state === "closed" || this.#fatal !== null) return false;
    this.#draining = true;
    const { control } = this.memory;
    const heard = control[CONTROL_WORDS.companions];
    let now = performance.now();
    const end = now + SLICE_MS;
    let worked = false;
    try {
      while (now < end && control[CONTROL_WORDS.companions] === heard) {
        if (this.next >= this.count && this.#turn(SLICE_MS, worked ? LOOKS : 0) <= 0) break;
        worked = true;
        drain(this, now + SLICE_MS + DISPATCH_MS);
        if (this.next < this.count) break;
        now = performance.now();
      }
    } finally {
      this.#draining = false;
    }
    this.waiter?.check();
    return worked;
  }

  /** @internal */
  accompany(fd: number): boolean {
    return native.bu_ring_companion(this.handle, fd) === 0;
  }

  /**
   * @internal What is ready, after waiting for at most `waitMs` (up to 1000) if nothing is: the
   * number handled. Also from within a dispatch, in code after an `await`: what the dispatch has
   * left is handled first, since the turn writes over it.
   */
  turnNow(waitMs: number): number {
    const before = this.handled;
    const outer = this.#draining;
    const held = this.loop.hold();
    this.#draining = true;
    try {
      if (this.next < this.count) drain(this, Number.POSITIVE_INFINITY);
      const wait = this.handled > before ? 0 : waitMs;
      if (this.next >= this.count && this.#turn(wait) > 0) drain(this, Number.POSITIVE_INFINITY);
    } finally {
      this.#draining = outer;
      this.loop.release(held);
    }
    this.waiter?.check();
    return this.handled - before;
  }

  /** One crossing: the number of records. An interrupted wait is none; its caller goes on. */
  #turn(waitMs: number, looks = 0): number {
    const count = native.bu_ring_turn(this.handle, waitMs, looks);
    this.stamp = 0;
    this.posted = false;
    this.next = 0;
    this.count = Math.max(count, 0);
    if (count < 0 && count !== -ERRNO.EINTR) this.latch(count);
    const starvations = this.memory.control[CONTROL_WORDS.starvations] ?? 0;
    if (starvations !== this.#starvations) this.#tellStarved(starvations);
    return count;
  }

  #tellStarved(starvations: number): void {
    this.#starvations = starvations;
    const waiting = this.memory.control[CONTROL_WORDS.waiting] ?? 0;
    this.#guard(() => this.#onStarved?.(waiting));
  }

  /** @internal An error after which nothing works: told to everything that is open, once (I8). */
  latch(result: number): void {
    if (this.#fatal !== null) return;
    const inspection = this.inspect();
    this.#fatal = new UringError(
      codeOf(result),
      "turn",
      "the ring failed and is lost; open a new one",
      "completion",
    );
    this.#fatal.inspection = inspection;
    this.log(`bun-uring: ${this.#fatal.message}`);
    this.loop.close();
    this.end(result);
  }

  /** @internal Tells everything that is open that it is gone. */
  end(result: number): void {
    for (const operation of [...this.operations]) {
      this.#guard(() => operation?.abandon(result));
    }
    for (const connection of [...this.connections]) {
      this.#guard(() => connection?.onClose(result));
    }
    for (const listener of [...this.listeners]) this.#guard(() => listener?.onClosed(result));
    for (const socket of [...this.datagrams]) this.#guard(() => socket?.onClosed(result));
    this.waiter?.end(this.#fatal);
  }

  /** What there is to say of it; `Ring` says more. */
  inspect(): object {
    return { state: this.state, pending: this.flying };
  }

  #guard(call: () => unknown): void {
    try {
      call();
    } catch (error) {
      reportUncaught(error);
    }
  }

  /** @internal */
  log(message: string): void {
    if (this.#onLog === undefined) console.error(message);
    else this.#guard(() => this.#onLog?.(message));
  }

  // What the loop calls ------------------------------------------------------------------------

  /** @internal */
  arm(): boolean {
    const outcome = native.bu_ring_arm(this.handle);
    // A ring that cannot be armed must not be slept on either.
    return outcome !== 0 || this.next < this.count;
  }

  /** @internal */
  disarm(): void {
    native.bu_ring_disarm(this.handle);
  }

  /** @internal Milliseconds until its nearest timer, if it has nothing else; else 0. */
  get quiet(): number {
    return native.bu_ring_quiet(this.handle);
  }

  /** @internal */
  wake(): void {
    native.bu_ring_wake(this.handle);
  }

  // What is opened on it -----------------------------------------------------------------------

  /** @internal A connection whose listener is gone: nobody will ever read it. */
  orphan(index: number, generation: number): void {
    native.bu_connection_shut(this.handle, index, generation, Shut.terminate, 0);
  }

  /** @internal The generation of the slot that the last claiming call returned. */
  claimedGeneration(): number {
    return this.memory.control[CONTROL_WORDS.generation] ?? 0;
  }

  /** @internal */
  opened(keepsAlive: boolean): void {
    this.openCount++;
    if (keepsAlive) this.refs++;
    this.loop.recount();
  }

  /** @internal */
  gone(keptAlive: boolean): void {
    this.openCount--;
    if (keptAlive) this.refs--;
    this.loop.recount();
  }

  /** @internal */
  referenced(by: 1 | -1): void {
    this.refs += by;
    this.loop.recount();
  }

  /** @internal An operation holds a slot from here to its last completion. */
  launched(operation: Operation<unknown>, index: number): void {
    if (this.stamp === 0) this.stamp = performance.now();
    this.operations[index] = operation;
    this.flying++;
    this.openCount++;
    this.refs++;
    this.loop.launched();
  }

  /** @internal */
  landed(index: number, keptAlive: boolean): void {
    this.operations[index] = undefined;
    this.flying--;
    this.gone(keptAlive);
    if (this.drains.size > 0) for (const check of [...this.drains]) check();
  }

  /** @internal */
  assertOpen(operation: string): void {
    if (this.#fatal !== null) throw this.#fatal;
    if (this.state === "open") return;
    const sentence = this.state === "closing" ? "the ring is closing" : "the ring is closed";
    throw new UringError("ESHUTDOWN", operation, `${operation}: ${sentence}`);
  }
}

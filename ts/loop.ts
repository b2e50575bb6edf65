// Ring ⇄ Bun's event loop: when to turn, when to sleep, what keeps the process alive.
//
//     resting ──something opens──▶ spinning ──dry turns──▶ armed ──eventfd──▶ spinning
//        ▲                          │    │
//        └────nothing is open───────┘    └─only unref'ed things are open─▶ polling (10 ms timer)
//
// A DEFER_TASKRUN ring never wakes a poller, its registered eventfd does; Bun watches that as a
// stream. The signal is off while we turn, and a few `setImmediate` turns come before sleeping:
// what arrives within them costs no wake-up. It never sleeps while the ring has work (I12).
//
// A ring that was given the thread (`run`) waits in the kernel instead of spinning, in slices:
// Bun's loop goes round between two of them, and one that hears of Bun's own events ends. When
// nothing comes for some slices it sleeps in Bun's loop like any other.

import { findLoop } from "./bun_loop.ts";

/** What the loop drives; `ring.ts` implements it. */
export interface Turnable {
  /** One bounded share of work; true if there was any. */
  pump(): boolean;
  /** One slice of a thread that it has to itself, waiting included; true if there was any work. */
  occupy(): boolean;
  /**
   * The descriptor that ends its waits besides; -1 for none, as it must be before `arm`. False if
   * it cannot.
   */
  accompany(fd: number): boolean;
  /** Lets the wake fd signal; true if there is work already and sleeping would lose it. */
  arm(): boolean;
  disarm(): void;
  /** Makes the wake fd readable. */
  wake(): void;
  readonly wakeFd: number;
  /** Work that is left though nothing is open. */
  readonly busy: boolean;
  /** Milliseconds in which nothing can happen: timers are all there is. 0 else. */
  readonly quiet: number;
  /** Things open, and those of them that keep the process alive. */
  readonly openCount: number;
  readonly refCount: number;
}

export interface LoopOptions {
  /** Turns without work before it sleeps. */
  spinTurns?: number | undefined;
  recheckMs?: number | undefined;
}

type WakeReader = ReturnType<typeof watch>;
type State = "resting" | "spinning" | "armed" | "polling";

/**
 * 20 to 50 µs, what a wake-up through the kernel takes: the answer to an answer comes within them.
 * What fewer save and cost: `zig/README.md`, "Not done, and why".
 */
const SPIN_TURNS = 20;
/** Flushes without a turn of Bun's loop in between: microtasks must not starve it. */
const FLUSHES_MAX = 16;
/** The first sleep ends within this time after the wake fd was made readable, or is not trusted. */
const SELF_TEST_MS = 50;
/** How often the ring is turned where the wake fd cannot be watched, milliseconds. */
const UNWATCHED_POLL_MS = 1;
/** Slices without work, a millisecond each at most, before a dedicated ring sleeps. */
const IDLE_SLICES = 8;
/** Looks for Bun's epoll descriptor: Bun takes the wake fd up within a turn or two. */
const SEEKS_MAX = 8;
/**
 * How often an armed ring is looked at all the same, milliseconds. The kernel looks whether the
 * signal is on after an atomic, which x86-64 makes a full barrier and arm64 does not: there a
 * completion can go by unheard.
 */
const RECHECK_MS = process.arch === "x64" ? 0 : 1000;
/** Unref'ed things are looked after this often, in milliseconds. */
const POLL_MS = 10;

/** Where this thread's Bun waits; -1 until it is found. */
let loopFd = -1;

/** Bun polls the fd for the stream and reads the counter away (eventfd(2)). */
function watch(wakeFd: number) {
  return Bun.file(wakeFd).stream().getReader();
}

export class Loop {
  readonly #ring: Turnable;
  readonly #spinTurns: number;
  readonly #recheckMs: number;
  #state: State = "resting";
  #reader: WakeReader | null = null;
  /** A read of the wake fd is under way; it stays so while we spin again. */
  #reading = false;
  #immediate: ReturnType<typeof setImmediate> | null = null;
  /** That immediate keeps the process alive. */
  #immediateHolds = false;
  #timer: ReturnType<typeof setTimeout> | null = null;
  #dryTurns = 0;
  #flushQueued = false;
  #flushes = 0;
  #pumping = false;
  #closed = false;
  /** The ring has the thread. */
  #dedicated = false;
  #accompanied = false;
  #seeks = 0;
  #watching: "untested" | "works" | "fails" = "untested";

  constructor(ring: Turnable, { spinTurns, recheckMs }: LoopOptions = {}) {
    this.#ring = ring;
    this.#spinTurns = spinTurns ?? SPIN_TURNS;
    this.#recheckMs = recheckMs ?? RECHECK_MS;
  }

  /** Work was queued: hand it to the kernel before Bun's loop sleeps. */
  touch(): void {
    if (this.#pumping || this.#flushQueued || this.#closed) return;
    if (this.#flushes >= FLUSHES_MAX) {
      this.#spin();
      return;
    }
    this.#flushQueued = true;
    this.#flushes++;
    queueMicrotask(this.#flush);
  }

  /** Keeps the loop out while somebody else turns the ring; what it was before. */
  hold(): boolean {
    const before = this.#pumping;
    this.#pumping = true;
    return before;
  }

  /** What was submitted meanwhile is the loop's business again. */
  release(before: boolean): void {
    this.#pumping = before;
    this.recount();
  }

  /** An operation was started: both, at the price of a look if a turn is coming anyway. */
  launched(): void {
    if (this.#flushQueued || this.#pumping) return;
    if (this.#immediateHolds && this.#flushes >= FLUSHES_MAX) return;
    this.recount();
    this.touch();
  }

  /** Something was opened, closed, ref'ed or unref'ed. */
  recount(): void {
    if (this.#pumping || this.#closed) return;
    if (this.#state !== "spinning") this.#spin();
  }

  /** Gives the ring the thread, or takes it back. Meanwhile the process stays alive. */
  dedicate(dedicated: boolean): void {
    this.#dedicated = dedicated;
    if (!dedicated) this.#part();
    this.recount();
  }

  close(): void {
    this.#closed = true;
    this.#state = "resting";
    this.#releaseReader();
    this.#stopTimer();
  }

  readonly #flush = (): void => {
    this.#flushQueued = false;
    if (this.#pumping || this.#closed) return;
    this.#leaveSleep();
    this.#pump();
    this.#next();
  };

  readonly #tick = (): void => {
    this.#immediate = null;
    this.#immediateHolds = false;
    this.#flushes = 0;
    if (this.#closed) return;
    if (this.#pumping) {
      // A nested loop tick inside a handler: come back when the dispatch is over (I7).
      this.#spin();
      return;
    }
    this.#leaveSleep();
    if (this.#dedicated) this.#occupy();
    else this.#pump();
    this.#next();
  };

  #pump(): void {
    this.#pumping = true;
    try {
      this.#count(this.#ring.pump());
    } finally {
      this.#pumping = false;
    }
  }

  #occupy(): void {
    if (!this.#accompanied) this.#accompany();
    this.#pumping = true;
    try {
      this.#count(this.#ring.occupy());
    } finally {
      this.#pumping = false;
    }
  }

  #count(worked: boolean): void {
    this.#dryTurns = worked ? 0 : this.#dryTurns + 1;
  }

  /** From here on Bun's own events end the waits of the ring, if its loop can be found. */
  #accompany(): void {
    if (loopFd < 0) {
      if (this.#seeks >= SEEKS_MAX || this.#watching === "fails") return;
      this.#seeks++;
      if (this.#reading) loopFd = findLoop(this.#ring.wakeFd);
      else this.#watch(); // what Bun watches tells its loop from others
    }
    if (loopFd >= 0) this.#accompanied = this.#ring.accompany(loopFd);
  }

  #part(): void {
    if (!this.#accompanied) return;
    this.#accompanied = false;
    this.#ring.accompany(-1);
  }

  #leaveSleep(): void {
    if (this.#state === "armed") {
      this.#ring.disarm();
      this.#dryTurns = 0;
    }
    this.#state = "spinning";
  }

  /** Decides, after each share of work, what comes next. */
  #next(): void {
    if (this.#closed) return;
    if (this.#ring.busy) {
      this.#spin();
    } else if (this.#dedicated) {
      if (this.#dryTurns < IDLE_SLICES) this.#spin();
      else this.#sleep();
    } else if (this.#ring.openCount === 0) {
      if (this.#hasWork()) return this.#spin(); // a time-out to take back, of what is over
      this.#state = "resting";
      this.#releaseReader();
      this.#stopTimer();
    } else if (this.#ring.refCount === 0) {
      this.#poll();
    } else if (this.#dryTurns < this.#spinTurns) {
      this.#spin();
    } else {
      this.#sleep();
    }
  }

  #sleep(): void {
    if (this.#accompanied) {
      this.#part();
      this.#pump(); // its poll is gone then, or something came
    }
    if (this.#closed) return;
    if (this.#ring.arm()) {
      this.#ring.disarm();
      this.#dryTurns = 0;
      this.#spin();
    } else {
      this.#state = "armed";
      this.#watch();
      if (this.#recheckMs > 0) this.#startTimer(this.#recheckMs);
    }
  }

  #hasWork(): boolean {
    const ready = this.#ring.arm();
    this.#ring.disarm();
    return ready;
  }

  #spin(): void {
    if (this.#state !== "armed") this.#state = "spinning";
    if (this.#immediate === null) this.#immediate = setImmediate(this.#tick);
    else if (!this.#immediateHolds) this.#immediate.ref();
    this.#immediateHolds = true;
  }

  /** Nothing holds the process: no reader, which would, and a timer that does not. */
  #poll(): void {
    this.#state = "polling";
    this.#releaseReader();
    if (this.#dryTurns < this.#spinTurns) {
      // An unref'ed immediate spins like another and does not hold the process.
      this.#immediate ??= setImmediate(this.#tick);
      this.#immediate.unref();
      this.#immediateHolds = false;
      return;
    }
    this.#stopTimer(); // one that waits for what is no more the nearest
    this.#startTimer(Math.max(POLL_MS, this.#ring.quiet));
    this.#timer?.unref();
  }

  #startTimer(milliseconds: number): void {
    this.#timer ??= setTimeout(() => {
      this.#timer = null;
      if (this.#state === "polling" || this.#state === "armed") this.#tick();
    }, milliseconds);
  }

  #stopTimer(): void {
    if (this.#timer !== null) clearTimeout(this.#timer);
    this.#timer = null;
  }

  #watch(): void {
    this.#stopTimer();
    if (this.#watching === "fails") return this.#startTimer(UNWATCHED_POLL_MS);
    if (this.#reading) return;
    const reader = this.#openReader();
    if (reader === null) return this.#startTimer(UNWATCHED_POLL_MS);
    this.#reading = true;
    reader.read().then(
      ({ done }) => this.#onRead(reader, !done),
      () => this.#onRead(reader, false),
    );
    if (this.#watching === "untested") this.#testWatch();
  }

  /** The stream duplicates the wake fd: null while the process has no descriptor left (EMFILE). */
  #openReader(): WakeReader | null {
    if (this.#reader !== null) return this.#reader;
    if (this.#ring.wakeFd < 0) return null; // nobody would signal it
    try {
      this.#reader = watch(this.#ring.wakeFd);
    } catch {
      return null; // polled until one is free again
    }
    return this.#reader;
  }

  #onRead(reader: WakeReader, works: boolean): void {
    if (reader !== this.#reader) return; // cancelled meanwhile
    this.#reading = false;
    if (!works) this.#reader = null;
    this.#watching = works ? "works" : "fails";
    if (this.#state === "armed") this.#tick();
  }

  /**
   * The wake fd is made readable once: if the read does not end, Bun cannot watch it. One that ends
   * later, on a machine that is slow or stood still, was only late.
   */
  #testWatch(): void {
    this.#ring.wake();
    const timer = setTimeout(() => {
      if (this.#watching !== "untested" || this.#closed) return;
      this.#watching = "fails";
      if (this.#state === "armed") this.#tick();
    }, SELF_TEST_MS);
    timer.unref();
  }

  #releaseReader(): void {
    if (this.#reader === null) return;
    const reader = this.#reader;
    this.#reader = null;
    this.#reading = false;
    // It closes only the stream's own duplicate of the fd; nothing of ours can fail with it.
    reader.cancel().then(undefined, () => {});
  }
}

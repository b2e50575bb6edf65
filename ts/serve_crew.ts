// The Workers of a server: started together, replaced when one dies, stopped within a limit.
//
//     starting ──ready──▶ running ──died──▶ down ──back-off──▶ starting
//        └── the first time: serve fails        running ──stop──▶ ended, or terminated
//
// One that dies is replaced after a pause that doubles each time; one that lived for a while
// begins anew. What its ring had open is closed at once: a dead listener would go on taking
// connections that nobody serves.

import { reviveError } from "./described_error.ts";
import { reportUncaught, UringError } from "./errors.ts";
import { native } from "./native.ts";
import type { Poster } from "./post.ts";
import { Ring } from "./ring.ts";
import type { Share, StartMessage, ToServer, ToWorker } from "./serve_messages.ts";

/** Told what becomes of Workers. */
export interface CrewEvents {
  /** It accepts connections. */
  started(id: number): void;
  /** It died, and another starts in so many ms; null if it goes on, or is not replaced. */
  failed(error: Error, id: number, restartIn: number | null): void;
  /** Connections that were handed to it and that it did not take are free again. */
  left(seat: Seat): void;
  /** One more can be handed connections. */
  joined(): void;
}

export interface CrewPlan {
  readonly workers: number;
  readonly start: Omit<StartMessage, "id" | "kind">;
  /** The first pause before a dead Worker is replaced, milliseconds. */
  readonly restartDelay: number;
}

const PAUSE_MAX_MS = 30_000;
/** Who lived this long is not held to have failed again. */
const SETTLED_MS = 10_000;
/** What closing connections get when the time of `stop` is up, before their Worker is ended. */
const CLOSE_GRACE_MS = 1000;
/** A Worker that is busy for longer is left out of the statistics. */
const STATS_TIMEOUT_MS = 1000;
/** A dead thread is gone some time after its Worker is: looked after so often. */
const BURY_MS = 2;
const BURY_TRIES = 500;

const program = new URL("./serve_worker.ts", import.meta.url).href;

type Answer = (share: Share | null) => void;

/** A Worker's place, which outlives the Workers that die in it. */
export class Seat {
  readonly id: number;
  state: "starting" | "running" | "down" | "ended" = "down";
  worker: Worker | null = null;
  /** To hand connections to it; null unless it is running and gets them this way. */
  poster: Poster | null = null;
  /** Deaths in a row. */
  deaths = 0;
  since = 0;
  cause: Error | null = null;
  pause: Timer | undefined = undefined;
  /** What it said at its end. */
  last: Share | null = null;
  readonly asked = new Map<number, Answer>();
  readonly begun = Promise.withResolvers<void>();
  readonly gone = Promise.withResolvers<void>();

  constructor(id: number) {
    this.id = id;
    // Whoever starts the crew has it; one that never began has nobody who waits for it.
    this.begun.promise.catch(() => {});
  }

  tell(message: ToWorker): void {
    this.worker?.postMessage(message);
  }
}

export class Crew {
  readonly seats: readonly Seat[];
  restarts = 0;
  readonly #plan: CrewPlan;
  readonly #events: CrewEvents;
  #begun = false;
  #stopping = false;
  #requests = 0;
  #referenced = true;

  constructor(plan: CrewPlan, events: CrewEvents) {
    this.#plan = plan;
    this.#events = events;
    this.seats = Array.from({ length: plan.workers }, (_, id) => new Seat(id));
  }

  /** Resolves when every Worker accepts, rejects when one cannot begin. */
  async start(): Promise<void> {
    for (const seat of this.seats) this.#hire(seat);
    await Promise.all(this.seats.map(({ begun }) => begun.promise));
    this.#begun = true;
  }

  #hire(seat: Seat): void {
    const worker = new Worker(program);
    if (!this.#referenced) worker.unref();
    seat.state = "starting";
    seat.worker = worker;
    seat.cause = null;
    worker.onmessage = ({ data }: MessageEvent<ToServer>) => this.#heard(seat, data);
    worker.addEventListener("error", (event) => {
      event.preventDefault();
      seat.cause ??= event.error instanceof Error ? event.error : new Error(event.message);
    });
    worker.addEventListener("close", () => this.#died(seat));
    seat.tell({ ...this.#plan.start, kind: "start", id: seat.id });
  }

  #heard(seat: Seat, message: ToServer): void {
    switch (message.kind) {
      case "ready":
        return this.#ready(seat, message.token);
      case "failed":
        seat.cause = reviveError(message.error);
        seat.worker?.terminate(); // unless it is ending by itself
        return;
      case "refused":
        return this.#events.failed(reviveError(message.error), seat.id, null);
      case "stats":
        return seat.asked.get(message.request)?.(message.share);
      case "stopped":
        seat.last = message.share;
        seat.worker?.terminate();
    }
  }

  #ready(seat: Seat, token: number): void {
    seat.state = "running";
    seat.since = performance.now();
    seat.poster = token === 0 ? null : Ring.open(token);
    seat.begun.resolve();
    this.#guard(() => this.#events.started(seat.id));
    this.#events.joined();
  }

  #died(seat: Seat): void {
    const { state, cause } = seat;
    seat.worker = null;
    seat.poster = null;
    for (const answer of seat.asked.values()) answer(null);
    bury(BURY_TRIES);
    this.#events.left(seat);
    const error = cause ??
      new UringError("EOWNERDEAD", "serve", `serve: Worker ${seat.id} ended`, "completion");
    if (this.#stopping) {
      seat.state = "ended";
      seat.gone.resolve();
      if (cause !== null && this.#begun) this.#tell(cause, seat, null);
    } else if (state === "starting" && !this.#begun) {
      seat.state = "ended";
      seat.gone.resolve();
      seat.begun.reject(error);
    } else {
      this.#replace(seat, error);
    }
  }

  #replace(seat: Seat, error: Error): void {
    const settled = seat.state === "running" && performance.now() - seat.since > SETTLED_MS;
    seat.deaths = settled ? 1 : seat.deaths + 1;
    seat.state = "down";
    const pause = Math.min(this.#plan.restartDelay * 2 ** (seat.deaths - 1), PAUSE_MAX_MS);
    seat.pause = setTimeout(() => {
      this.restarts++;
      this.#hire(seat);
    }, pause);
    if (!this.#referenced) seat.pause.unref();
    this.#tell(error, seat, pause);
  }

  #tell(error: Error, seat: Seat, restartIn: number | null): void {
    this.#guard(() => this.#events.failed(error, seat.id, restartIn));
  }

  #guard(call: () => void): void {
    try {
      call();
    } catch (error) {
      reportUncaught(error);
    }
  }

  /** The running Workers' shares, and what those that were stopped have left. */
  async shares(): Promise<{ running: Share[]; past: Share[] }> {
    const running = await Promise.all(this.seats.map((seat) => this.#ask(seat)));
    const isShare = (share: Share | null): share is Share => share !== null;
    return { running: running.filter(isShare), past: this.seats.map(lastOf).filter(isShare) };
  }

  #ask(seat: Seat): Promise<Share | null> {
    if (seat.state !== "running") return Promise.resolve(null);
    const request = this.#requests++;
    return new Promise((resolve) => {
      const timer = setTimeout(() => answer(null), STATS_TIMEOUT_MS);
      const answer: Answer = (share) => {
        clearTimeout(timer);
        seat.asked.delete(request);
        resolve(share);
      };
      seat.asked.set(request, answer);
      seat.tell({ kind: "stats", request });
    });
  }

  /** Every Worker ends by itself within `timeout` milliseconds, or is ended. */
  async stop(close: boolean, timeout: number): Promise<void> {
    this.#stopping = true;
    for (const seat of this.seats) this.#dismiss(seat, close);
    const cut = setTimeout(() => this.closeConnections(), timeout);
    const end = setTimeout(() => {
      for (const { worker } of this.seats) worker?.terminate();
    }, timeout + CLOSE_GRACE_MS);
    await Promise.all(this.seats.map(({ gone }) => gone.promise));
    clearTimeout(cut);
    clearTimeout(end);
  }

  #dismiss(seat: Seat, close: boolean): void {
    clearTimeout(seat.pause);
    if (seat.state === "running") return seat.tell({ kind: "stop", close });
    if (seat.state === "starting") return void seat.worker?.terminate();
    seat.state = "ended";
    seat.gone.resolve();
  }

  /** Of a crew that is stopping: does not wait for open connections any more. */
  closeConnections(): void {
    for (const seat of this.seats) seat.tell({ kind: "stop", close: true });
  }

  reference(keepsAlive: boolean): void {
    this.#referenced = keepsAlive;
    for (const { worker, pause } of this.seats) {
      if (keepsAlive) worker?.ref();
      else worker?.unref();
      if (keepsAlive) pause?.ref();
      else pause?.unref();
    }
  }
}

function lastOf({ last }: Seat): Share | null {
  return last;
}

/** What the ring of a dead Worker had open is closed once its thread is gone. */
function bury(tries: number): void {
  if (native.bu_rings_bury() === 0 || tries === 0) return;
  setTimeout(() => bury(tries - 1), BURY_MS);
}

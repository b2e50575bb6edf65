// The acceptor of a server that hands its connections over: accepts, and posts the descriptors to
// the Workers in turn. The Workers' half is serve_intake.ts.
//
// A descriptor stays the acceptor's until the Worker says that it has taken it. A Worker that dies
// leaves what it has not taken to the others. While nobody takes any, none is accepted: those that
// come wait in the kernel's backlog.

import { closeSync } from "node:fs";
import { codeOf, resultError, type UringError } from "./errors.ts";
import type { Operation } from "./operation.ts";
import type { Ring } from "./ring.ts";
import type { Accepted } from "./operation/socket.ts";
import type { Seat } from "./serve_crew.ts";

/** Keys of the posts: descriptors there, and back when they were taken. */
export const HANDOVER_KEY = 0xffff_ffff;
/** Accepts in flight: as many connections are told with one system call. */
const ACCEPTS = 8;
/** Connections on their way to a Worker; well below what a mailbox holds. */
const UNTAKEN_MAX = 1024;
/** A post holds 53 bits: 31 of them for a descriptor. */
const FD_RANGE = 2 ** 31;
const SERIALS = 2 ** 22;
/** The pause where the kernel has no descriptor or memory, milliseconds. */
export const SHORTAGE_MS = 100;
/** Errors after which accepting goes on: at once, or after the pause. See accept(2). */
const PASSING = new Set(["ECONNABORTED", "EINTR", "EAGAIN", "EPROTO"]);
const SHORTAGES = new Set(["EMFILE", "ENFILE", "ENOBUFS", "ENOMEM"]);

export class Acceptor {
  accepted = 0;
  readonly #ring: Ring;
  readonly #fd: number;
  readonly #seats: () => readonly Seat[];
  readonly #onError: (error: UringError) => void;
  /** Accepted, in order, and nobody could be found for them. */
  readonly #waiting: number[] = [];
  /** By ticket: what was handed to whom. */
  readonly #untaken = new Map<number, { readonly fd: number; readonly seat: Seat }>();
  readonly #accepts = new Set<Operation<Accepted>>();
  #next = 0;
  #tickets = 0;
  #pause: Timer | null = null;
  #stopped = false;
  /** Nobody is left to hand to. */
  #ended = false;
  /** Somebody waits for the end. */
  #check = (): void => {};

  constructor(
    ring: Ring,
    fd: number,
    seats: () => readonly Seat[],
    onError: (error: UringError) => void,
  ) {
    this.#ring = ring;
    this.#fd = fd;
    this.#seats = seats;
    this.#onError = onError;
    ring.onPost(HANDOVER_KEY, (ticket: number) => this.#taken(ticket));
  }

  /** Accepts as long as there is somebody to hand to. */
  go(): void {
    this.#handWaiting();
    if (this.#stopped || this.#pause !== null || this.#waiting.length > 0) return;
    while (this.#accepts.size < ACCEPTS && this.#untaken.size < UNTAKEN_MAX) this.#accept();
  }

  #accept(): void {
    const operation: Operation<Accepted> = this.#ring.accept(this.#fd, (result) => {
      this.#accepts.delete(operation);
      if (result >= 0) this.#hand(result);
      else if (!this.#stopped) this.#failed(result);
      this.go();
      this.#check();
    });
    this.#accepts.add(operation);
  }

  #failed(result: number): void {
    const code = codeOf(result);
    if (PASSING.has(code)) return;
    if (this.#pause !== null) return;
    const isShortage = SHORTAGES.has(code);
    if (!isShortage) this.#stopped = true;
    else {
      this.#pause = setTimeout(() => {
        this.#pause = null;
        this.go();
      }, SHORTAGE_MS);
    }
    this.#onError(resultError(result, "accept", "for the Workers", "completion"));
  }

  #hand(fd: number): void {
    this.accepted++;
    this.#waiting.push(fd);
    this.#handWaiting();
  }

  #handWaiting(): void {
    while (this.#waiting.length > 0 && this.#offer(this.#waiting[0] as number)) {
      this.#waiting.shift();
    }
  }

  /** To the next of the Workers whose mailbox has room. */
  #offer(fd: number): boolean {
    const seats = this.#seats();
    for (let tries = 0; tries < seats.length; tries++) {
      const seat = seats[this.#next++ % seats.length] as Seat;
      const ticket = ticketOf(fd, this.#tickets++);
      if (seat.poster === null || !posted(seat, ticket)) continue;
      this.#untaken.set(ticket, { fd, seat });
      return true;
    }
    return false;
  }

  #taken(ticket: number): void {
    this.#untaken.delete(ticket);
    this.go();
    this.#check();
  }

  /** What it did not take goes to the others. */
  left(seat: Seat): void {
    if (!this.#ring.closed) this.#ring.poll(); // what it took last
    for (const [ticket, { fd, seat: taker }] of this.#untaken) {
      if (taker !== seat) continue;
      this.#untaken.delete(ticket);
      this.#waiting.push(fd);
    }
    if (this.#ended) this.#drop();
    else this.go();
    this.#check();
  }

  /** Accepts no more; resolves when no accept is in flight: the socket can be closed. */
  async silence(): Promise<void> {
    this.#stopped = true;
    if (this.#pause !== null) clearTimeout(this.#pause);
    for (const operation of this.#accepts) operation.cancel();
    await this.#until(() => this.#accepts.size === 0);
  }

  /** Afterwards: resolves when what was accepted is taken, or the time is up. */
  async settle(timeout: number): Promise<void> {
    const timer = setTimeout(() => {
      this.#ended = true;
      this.#drop();
      this.#check();
    }, timeout);
    await this.#until(() => this.#ended || this.#waiting.length + this.#untaken.size === 0);
    clearTimeout(timer);
    this.#ended = true;
  }

  async #until(condition: () => boolean): Promise<void> {
    while (!condition()) await new Promise<void>((resolve) => (this.#check = resolve));
  }

  #drop(): void {
    for (const fd of this.#waiting.splice(0)) closeSync(fd);
  }
}

/** A number that stands for one handing-over, and holds the descriptor. */
function ticketOf(fd: number, serial: number): number {
  return (serial % SERIALS) * FD_RANGE + fd;
}

/** The descriptor in a ticket. */
export function descriptorOf(ticket: number): number {
  return ticket % FD_RANGE;
}

/** False if its mailbox is full, or it is gone: then its end is about to be told. */
function posted({ poster }: Seat, ticket: number): boolean {
  try {
    poster?.post(HANDOVER_KEY, ticket);
    return true;
  } catch (error) {
    const { code } = error as UringError;
    if (code === "EAGAIN" || code === "ESHUTDOWN") return false;
    throw error;
  }
}

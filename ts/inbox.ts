// Inbox: what a connection received before anybody took it, for iteration and web streams.
//
// It is bounded: at `HOLD_MAX` bytes the connection is paused, so that TCP pushes back, and below
// half of it goes on. The end and the error stand behind the chunks, and are told once those are
// taken. It knows no socket.

import type { Buffer } from "node:buffer";
import { BorrowedChunk } from "./borrowed.ts";
import { UringError } from "./errors.ts";

/** Bytes held at which a connection is paused. */
const HOLD_MAX = 65536;

const TAKEN_MAX = 64;

/** With memory of its own: a stream takes it over. */
export type Chunk = Buffer<ArrayBuffer>;

/** As an iterator gives it. */
export type Next = IteratorResult<Chunk, undefined>;

export const DONE: Next = Object.freeze({ value: undefined, done: true });

/** What an inbox asks of its connection. */
export interface Inflow {
  /** A chunk is given out; all that are here, and come, are nobody's. */
  given(chunk: Chunk): void;
  dropped(): void;
  /** There is no more room, or there is again. */
  full(full: boolean): void;
  /** The peer's FIN came and nothing before it waits for anybody: once. */
  ended(): void;
}

/** A chunk that nobody will look at, or whose reader is done with it. */
export function letGo(chunk: Chunk): void {
  if (chunk instanceof BorrowedChunk) chunk.handled();
}

export class Inbox {
  readonly #inflow: Inflow;
  #chunks: Chunk[] = [];
  #next = 0;
  #size = 0;
  #full = false;
  /** Nothing follows the chunks that are here. */
  #over = false;
  #failure: Error | undefined;
  #told = false;
  /** Nobody wants what comes. */
  #dropped = false;
  #reader: string | null = null;
  /** Those that came before their chunk, oldest first. */
  #waiting: PromiseWithResolvers<Next>[] = [];

  constructor(inflow: Inflow) {
    this.#inflow = inflow;
  }

  get reader(): string | null {
    return this.#reader;
  }

  /** One reader for all its life: two would each get a part. */
  open(reader: string): void {
    if (this.#reader !== null) {
      const message = `read: the socket is read by ${this.#reader} already`;
      throw new UringError("EBUSY", "read", message);
    }
    this.#reader = reader;
  }

  push(chunk: Chunk): void {
    if (this.#dropped) {
      this.#inflow.dropped();
      return letGo(chunk);
    }
    const waiting = this.#waiting.shift();
    if (waiting !== undefined) {
      this.#inflow.given(chunk);
      waiting.resolve({ value: chunk, done: false });
      return;
    }
    this.#chunks.push(chunk);
    this.#size += chunk.length;
    if (this.#size >= HOLD_MAX) this.#fill(true);
  }

  /** The peer's FIN, behind the chunks: what was not read yet `waits` for its reader. */
  end(waits: boolean): void {
    this.#over = true;
    const unread = waits || this.#chunks.length > 0 || this.#reader !== null;
    if (unread && !this.#dropped) this.#settle();
    else this.#tellEnd();
  }

  /** The connection is gone: after the chunks comes the error, or the end if there is none. */
  close(failure: Error | undefined): void {
    // What went wrong after the end was complete concerns no reader.
    if (!this.#over) this.#failure = failure;
    this.#over = true;
    this.#settle();
  }

  /** The next chunk, or the end; rejects with what broke the connection. */
  next(): Promise<Next> {
    const chunk = this.#shift();
    if (chunk !== undefined) return Promise.resolve({ value: chunk, done: false });
    const waiting = Promise.withResolvers<Next>();
    this.#waiting.push(waiting);
    if (this.#over) this.#settle();
    return waiting.promise;
  }

  /** The next chunk that is here. */
  take(): Chunk | undefined {
    return this.#shift();
  }

  /** Hands out what is here, for a handler that came late. */
  empty(give: (chunk: Chunk) => void): void {
    for (let chunk = this.#shift(); chunk !== undefined; chunk = this.#shift()) give(chunk);
    if (this.#over) this.#tellEnd();
  }

  /** The reader has left: the rest, and what comes, is nobody's. */
  drop(): void {
    this.#dropped = true;
    for (const chunk of this.#chunks.slice(this.#next)) letGo(chunk);
    this.#inflow.dropped();
    this.#chunks = [];
    this.#next = 0;
    this.#size = 0;
    this.#fill(false);
    if (this.#over) this.#tellEnd();
  }

  #shift(): Chunk | undefined {
    const chunk = this.#chunks[this.#next];
    if (chunk === undefined) return undefined;
    this.#next++;
    // Those that were taken go in lots: one at a time would move the others each time.
    if (this.#next === this.#chunks.length || this.#next === TAKEN_MAX) {
      this.#chunks.splice(0, this.#next);
      this.#next = 0;
    }
    this.#size -= chunk.length;
    this.#inflow.given(chunk);
    if (this.#size < HOLD_MAX / 2) this.#fill(false);
    return chunk;
  }

  #fill(full: boolean): void {
    if (this.#full === full) return;
    this.#full = full;
    this.#inflow.full(full);
  }

  /** Tells who waits for what comes after the last chunk. */
  #settle(): void {
    const waiting = this.#waiting;
    if (waiting.length === 0) return;
    this.#waiting = [];
    for (const one of waiting) {
      if (this.#failure === undefined) one.resolve(DONE);
      else one.reject(this.#failure);
    }
    this.#tellEnd();
  }

  #tellEnd(): void {
    if (this.#told || this.#failure !== undefined) return;
    this.#told = true;
    this.#inflow.ended();
  }
}

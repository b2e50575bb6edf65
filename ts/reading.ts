// Reading: the other half of a socket: `pause`, `resume`, iteration and `readable`.
//
// Bytes go to the `data` handler; without one, or while the socket is paused, they wait in an inbox
// until somebody reads them, and TCP pushes back meanwhile. A socket is read in one way only.

import { Buffer } from "node:buffer";
import { BorrowedChunk, borrowChunk } from "./borrowed.ts";
import type { HandlerResult } from "./completion.ts";
import { UringError } from "./errors.ts";
import { DONE, Inbox, letGo, type Chunk, type Next } from "./inbox.ts";
import type { BinaryType } from "./handlers.ts";
import { native } from "./native.ts";
import { Passing } from "./passing.ts";
import { readableOf } from "./streams.ts";

export abstract class Reading<Data> extends Passing<Data> implements AsyncIterable<Buffer> {
  #readable: ReadableStream<Uint8Array<ArrayBuffer>> | null = null;
  /** Asked for by the user; because the inbox is full, or descriptors are not taken. */
  #paused = false;
  #full = false;
  #crowded = false;
  /** The socket's inbox, in use or not. */
  #box: Inbox | null = null;

  /**
   * Stops receiving, so that TCP pushes back: no `data` and no `end` until `resume`. What was on
   * its way is kept until then, at most what a connection may hold (`holdBytes`) in one turn; when
   * the connection breaks it is lost.
   */
  pause(): void {
    if (this.stage !== "closed" && this.handlers.data !== undefined) this.#inbox();
    this.#pause(true, this.#full);
  }

  /** Goes on, first with what came since `pause`: soon, not within this call. */
  resume(): void {
    this.#pause(false, this.#full);
    if (this.inbox !== null) queueMicrotask(this.#goOn);
  }

  /** What came while it was paused goes to the handler, unless that pauses again. */
  readonly #goOn = (): void => {
    const { inbox } = this;
    if (inbox === null || inbox.reader !== null) return;
    while (!this.#paused && this.handlers.data !== undefined && this.stage !== "closed") {
      const chunk = inbox.take();
      if (chunk === undefined) return this.release(letGo);
      this.#give(chunk);
    }
  };

  #give(chunk: Chunk): void {
    const { data, binaryType } = this.handlers;
    if (data === undefined) return;
    this.outside(() => {
      try {
        return data(this, this.#shaped(chunk, binaryType));
      } finally {
        letGo(chunk);
      }
    });
  }

  /** A chunk as the handler of today wants it. */
  #shaped(chunk: Chunk, type: BinaryType): unknown {
    if (type === "borrowed") {
      if (chunk instanceof BorrowedChunk) return chunk;
      const { buffer, byteOffset, length } = chunk;
      return new BorrowedChunk(buffer, byteOffset, length, false, this.ring.keeping);
    }
    const own = chunk instanceof BorrowedChunk ? copyOf(chunk) : chunk;
    if (type === "buffer") return own;
    return type === "arraybuffer" ? own.buffer : new Uint8Array(own.buffer);
  }

  #pause(paused: boolean, full: boolean): void {
    const before = this.#receivesNot;
    this.#paused = paused;
    this.#full = full;
    this.#tellPause(before);
  }

  /** @internal */
  protected override crowd(crowded: boolean): void {
    const before = this.#receivesNot;
    this.#crowded = crowded;
    this.#tellPause(before);
  }

  get #receivesNot(): boolean {
    return this.#paused || this.#full || this.#crowded;
  }

  #tellPause(before: boolean): void {
    const now = this.#receivesNot;
    if (now === before || this.stage === "closed") return;
    const { handle, loop } = this.ring;
    native.bu_connection_pause(handle, this.index, this.generation, now ? 1 : 0);
    loop.touch();
  }

  /**
   * `for await (const chunk of socket)`: chunks of any length until the peer's FIN. Throws what
   * broke the connection. `break`, `return` and a throw in the loop close the socket, as Node's
   * streams do. A borrowed chunk is valid until the next one is asked for, or until `release` after
   * `keep`. For sockets without a `data` handler: else "EBUSY".
   */
  [Symbol.asyncIterator](): AsyncIterableIterator<Buffer, undefined> {
    const inbox = this.#read("for await");
    let left = false;
    const lent: Chunk[] = [];
    const letAllGo = () => lent.splice(0).forEach(letGo);
    const leave = () => {
      left = true;
      letAllGo();
      inbox.drop();
      this.close();
    };
    const nextLent = async (): Promise<Next> => {
      letAllGo();
      const next = await inbox.next();
      if (next.value !== undefined) lent.push(next.value);
      return next;
    };
    const next = this.handlers.binaryType === "borrowed" ? nextLent : () => inbox.next();
    return {
      next: () => left ? Promise.resolve(DONE) : next(),
      async return() {
        leave();
        return DONE;
      },
      async throw(error: unknown) {
        leave();
        throw error;
      },
      [Symbol.asyncIterator]() {
        return this;
      },
    };
  }

  /**
   * The same bytes as a stream of type "bytes": a reader may bring its own buffer. Cancelling it
   * ends the reading side, as `shutdown(true)` does. For sockets without a `data` handler.
   */
  get readable(): ReadableStream<Uint8Array<ArrayBuffer>> {
    if (this.#readable !== null) return this.#readable;
    const inbox = this.#read("readable");
    const nextOwn = async (): Promise<Next> => {
      const next = await inbox.next();
      const { value } = next;
      if (value instanceof BorrowedChunk) next.value = copyOf(value);
      if (value !== undefined) letGo(value);
      return next;
    };
    this.#readable = readableOf({
      next: this.handlers.binaryType === "borrowed" ? nextOwn : () => inbox.next(),
      cancel: () => {
        inbox.drop();
        this.shutdown(true);
      },
    });
    return this.#readable;
  }

  #read(reader: string): Inbox {
    if (this.handlers.data !== undefined) {
      const message = `read: the socket has a data handler; leave it out to read by ${reader}`;
      throw new UringError("EBUSY", "read", message);
    }
    const inbox = this.#inbox();
    inbox.open(reader);
    return inbox;
  }

  #inbox(): Inbox {
    if (this.inbox !== null) return this.inbox;
    this.#box ??= this.#newInbox();
    this.inbox = this.#box;
    return this.inbox;
  }

  #newInbox(): Inbox {
    const inbox = new Inbox({
      given: (chunk) => this.giveWith(chunk),
      dropped: () => this.dropUnread(),
      full: (full) => this.#pause(this.#paused, full),
      ended: () => this.outside(() => this.stage === "closed" ? undefined : super.onEnd()),
    });
    this.whenGone((failure) => {
      inbox.close(failure);
      // After `close` no handler is called.
      if (inbox.reader === null && this.handlers.data !== undefined) inbox.drop();
    });
    return inbox;
  }

  protected override hold(offset: number, length: number, buffer: number): void {
    const { memory, keeping } = this.ring;
    const chunk = this.handlers.binaryType === "borrowed"
      ? borrowChunk(memory, keeping, offset, length, buffer)
      : memory.copyAlone(offset, length);
    this.keepWith(chunk);
    this.#inbox().push(chunk);
  }

  /** Hands out what nobody has taken, and takes no more. */
  protected release(give: (chunk: Chunk) => void): void {
    const { inbox } = this;
    this.inbox = null;
    inbox?.empty(give);
  }

  /** Nobody reads the socket by the inbox. */
  protected assertUnread(operation: string): void {
    const reader = this.inbox?.reader ?? null;
    if (reader === null) return;
    const message = `${operation}: the socket is read by ${reader} already`;
    throw new UringError("EBUSY", operation, message);
  }

  /** @internal Behind what is still to be read. */
  override onEnd(): HandlerResult {
    if (this.inbox === null) return super.onEnd();
    this.inbox.end(this.#paused);
    return undefined;
  }

  /** @internal */
  override reloaded(): void {
    this.#goOn();
  }
}

/** With memory of its own. */
function copyOf(chunk: Chunk): Chunk {
  const copy = Buffer.allocUnsafeSlow(chunk.length);
  copy.set(chunk);
  return copy;
}

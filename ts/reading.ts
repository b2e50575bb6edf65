// Reading: the other half of a socket: `pause`, `resume`, iteration and `readable`.
//
// Bytes go to the `data` handler; without one they wait in an inbox until somebody reads them, and
// TCP pushes back meanwhile. A socket is read in one way only.

import type { Buffer } from "node:buffer";
import { Closing } from "./closing.ts";
import type { HandlerResult } from "./completion.ts";
import { UringError } from "./errors.ts";
import { DONE, Inbox, type Chunk } from "./inbox.ts";
import { native } from "./native.ts";
import { readableOf } from "./streams.ts";

export abstract class Reading<Data> extends Closing<Data> implements AsyncIterable<Buffer> {
  #readable: ReadableStream<Uint8Array<ArrayBuffer>> | null = null;
  /** Asked for by the user; because the inbox is full. */
  #paused = false;
  #full = false;

  /** Stops receiving, so that TCP pushes back; what is on its way is still delivered. */
  pause(): void {
    this.#pause(true, this.#full);
  }

  resume(): void {
    this.#pause(false, this.#full);
  }

  #pause(paused: boolean, full: boolean): void {
    const before = this.#paused || this.#full;
    this.#paused = paused;
    this.#full = full;
    const now = paused || full;
    if (now === before || this.stage === "closed") return;
    const { handle, loop } = this.ring;
    native.bu_connection_pause(handle, this.index, this.generation, now ? 1 : 0);
    loop.touch();
  }

  /**
   * `for await (const chunk of socket)`: chunks of any length until the peer's FIN. Throws what
   * broke the connection. `break`, `return` and a throw in the loop close the socket, as Node's
   * streams do. For sockets without a `data` handler: else "EBUSY".
   */
  [Symbol.asyncIterator](): AsyncIterableIterator<Buffer, undefined> {
    const inbox = this.#read("for await");
    let left = false;
    const leave = () => {
      left = true;
      inbox.drop();
      this.close();
    };
    return {
      next: () => left ? Promise.resolve(DONE) : inbox.next(),
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
    this.#readable = readableOf({
      next: () => inbox.next(),
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
    const inbox = new Inbox({
      full: (full) => this.#pause(this.#paused, full),
      ended: () => this.outside(() => this.stage === "closed" ? undefined : super.onEnd()),
    });
    this.inbox = inbox;
    this.whenGone((failure) => inbox.close(failure));
    return inbox;
  }

  protected override hold(offset: number, length: number): void {
    this.#inbox().push(this.ring.memory.copyAlone(offset, length));
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
    this.inbox.end();
    return undefined;
  }

  /** @internal */
  override reloaded(): void {
    const { inbox } = this;
    if (inbox === null || inbox.reader !== null || this.handlers.data === undefined) return;
    const { data, binaryType } = this.handlers;
    this.release((chunk) => {
      const { buffer } = chunk;
      const given = binaryType === "arraybuffer"
        ? buffer
        : binaryType === "uint8array"
          ? new Uint8Array(buffer)
          : chunk;
      this.outside(() => data(this, given));
    });
  }
}

// Passing: descriptors that come with a socket's bytes, from the record to whoever takes them.
//
// They are given out with the chunk that holds the first byte that they were sent with: to the
// handler, the iterator or the stream, whoever reads the socket; from then on `takeDescriptors` has
// them. Who lets many lie stops receiving. What nobody takes is closed when the socket is gone, and
// counted. What they are sent with is in `lending.ts`, the native half in passing.zig.

import { closeSync } from "node:fs";
import { DESCRIPTORS_MAX, SocketOption } from "./abi.ts";
import { Closing } from "./closing.ts";
import type { HandlerResult } from "./completion.ts";
import { native } from "./native.ts";
import type { Ring } from "./ring.ts";

/** Descriptors that were given out and not taken, beyond which nothing is received. */
const UNTAKEN_MAX = DESCRIPTORS_MAX;

/** What a socket has; it may outlive the socket. */
class Held {
  readonly ring: Ring;
  /** They came with the chunk of the next record. */
  coming: number[] = [];
  /** By the chunk that waits to be read. */
  readonly waiting = new Map<object, number[]>();
  /** They were given out and may be taken. */
  given: number[] = [];

  constructor(ring: Ring) {
    this.ring = ring;
  }

  close(): void {
    this.closeUnread();
    this.#closeAll(this.given.splice(0));
  }

  /** What came with bytes that nobody will see. */
  closeUnread(): void {
    this.#closeAll([...this.waiting.values()].flat());
    this.waiting.clear();
    this.#closeAll(this.coming.splice(0));
  }

  #closeAll(list: readonly number[]): void {
    this.ring.reclaimed += list.length;
    for (const fd of list) closeSync(fd);
  }
}

/** Sockets that nobody can reach any more, with chunks that nobody has read. */
const forgotten = new FinalizationRegistry<Held>((held) => held.close());

const NONE: readonly number[] = Object.freeze([]);

export abstract class Passing<Data> extends Closing<Data> {
  #held: Held | null = null;
  #crowded = false;

  /**
   * The descriptors that came with the bytes given out so far, in the order in which they were
   * sent, close-on-exec: yours from here on. For sockets with `passDescriptors`. Once 254 are not
   * taken nothing more is received; what is not taken when `close` was called is closed.
   */
  takeDescriptors(): number[] {
    const held = this.#held;
    if (held === null) return [];
    const taken = held.given;
    held.given = [];
    this.#weigh();
    return taken;
  }

  /** Nothing is to be received, or is again. */
  protected abstract crowd(crowded: boolean): void;

  /** @internal */
  override attach(index: number, generation: number): void {
    super.attach(index, generation);
    if (!this.handlers.passDescriptors) return;
    const { handle } = this.ring;
    const outcome =
      native.bu_connection_option(handle, index, generation, SocketOption.descriptors, 1);
    if (outcome < 0) return this.terminate(); // no memory: better than to lose them
    if (this.#held !== null) return; // another address is tried
    this.#held = new Held(this.ring);
    forgotten.register(this, this.#held);
  }

  /** @internal */
  onDescriptors(count: number): void {
    const list = new Int32Array(count);
    const bytes = new Uint8Array(list.buffer);
    const { ring, index, generation } = this;
    native.bu_connection_descriptors(ring.handle, index, generation, bytes, count);
    this.#held?.coming.push(...list);
  }

  /** @internal */
  override onData(offset: number, length: number, buffer: number): HandlerResult {
    const held = this.#held;
    if (held !== null && held.coming.length > 0 && this.#givesOut()) this.#give(held.coming);
    return super.onData(offset, length, buffer);
  }

  /** A chunk of the next record goes to the handler at once. */
  #givesOut(): boolean {
    return this.handlers.data !== undefined && this.inbox === null;
  }

  /** Bytes wait to be read, and what came with them. */
  protected keepWith(chunk: object): void {
    const held = this.#held;
    if (held === null || held.coming.length === 0) return;
    held.waiting.set(chunk, held.coming);
    held.coming = [];
  }

  /** Bytes that had waited are given out. */
  protected giveWith(chunk: object): void {
    const came = this.#held?.waiting.get(chunk);
    if (came === undefined) return;
    this.#held?.waiting.delete(chunk);
    this.#give(came);
  }

  /** Nobody will see the bytes that wait, or those of the next record. */
  protected dropUnread(): void {
    this.#held?.closeUnread();
  }

  /** Empties the list. */
  #give(came: number[]): void {
    this.#held?.given.push(...came.splice(0));
    this.#weigh();
  }

  #weigh(): void {
    const crowded = (this.#held?.given ?? NONE).length > UNTAKEN_MAX;
    if (crowded === this.#crowded) return;
    this.#crowded = crowded;
    this.crowd(crowded);
  }

  /** @internal */
  override onClose(result: number): HandlerResult {
    try {
      return super.onClose(result);
    } finally {
      // Without a handler somebody may still read, and take.
      const unread = this.inbox !== null && this.handlers.data === undefined;
      if (this.stage === "closed" && !unread) this.#held?.close();
    }
  }
}

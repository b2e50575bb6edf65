// Pools of buffers that are not JavaScript's own.
//
// A pooled buffer is the user's until it is submitted and after the last completion, never between.

import type { Engine } from "./engine.ts";
import { argumentError, checkInteger, UringError } from "./errors.ts";
import { inFlight } from "./loans.ts";

/** A page, so that every buffer serves O_DIRECT too. */
const ALIGNMENT = 4096;

export interface BufferPoolOptions {
  /** The ring whose operations use the buffers; the memory lives as long as it. */
  ring: Engine;
  /** Bytes of one buffer. */
  size: number;
  /** Number of buffers; the pool never grows. */
  count: number;
}

export interface BufferPoolStats {
  readonly size: number;
  readonly count: number;
  readonly free: number;
  /** Buffers that operations have now. */
  readonly inFlight: number;
  /** Calls of `acquire`, and those of them that found none free. */
  readonly acquires: number;
  readonly refusals: number;
  /** Buffers that were collected without `release`: they went back by themselves. */
  readonly leaked: number;
}

/** What outlives a buffer's handle: its place, until it is back. */
interface Place {
  readonly pool: BufferPool;
  readonly index: number;
  taken: boolean;
}

const abandoned = new FinalizationRegistry<Place>((place) => place.pool.reclaim(place));

/**
 * Buffers of native memory that the kernel reads and writes in place: no copy, and nobody can take
 * the memory away. One mapping, each buffer page-aligned.
 */
export class BufferPool {
  // Private, with getters: what the kernel is told must not be written over.
  readonly #ring: Engine;
  readonly #size: number;
  readonly #count: number;
  readonly #address: number;
  readonly #stride: number;
  readonly #free: number[];
  #acquires = 0;
  #refusals = 0;
  #leaked = 0;
  /** @internal */ inFlight = 0;

  /** Throws "ENOMEM" if there is no memory for it. */
  constructor(options: BufferPoolOptions) {
    if (typeof options !== "object" || options === null) {
      throw argumentError("BufferPool", "options", "an object", options);
    }
    const { ring, size, count } = options;
    if (typeof ring?.assertOpen !== "function") {
      throw argumentError("BufferPool", "ring", "a Ring", ring);
    }
    this.#size = checkInteger("BufferPool", "size", size, 1, 1 << 30);
    this.#count = checkInteger("BufferPool", "count", count, 1, 1 << 20);
    ring.assertOpen("BufferPool");
    this.#ring = ring;
    this.#stride = Math.ceil(size / ALIGNMENT) * ALIGNMENT;
    this.#address = ring.memory.map(this.#stride * count);
    if (this.#address === 0) {
      const message = `BufferPool: no memory for ${count} buffers of ${size} bytes`;
      throw new UringError("ENOMEM", "BufferPool", message);
    }
    // Popped from the end: the first ones stay warm.
    this.#free = Array.from({ length: count }, (_, index) => count - 1 - index);
  }

  get ring(): Engine {
    return this.#ring;
  }

  /** Bytes of one buffer. */
  get size(): number {
    return this.#size;
  }

  get count(): number {
    return this.#count;
  }

  /** A buffer, or null if all are taken. */
  acquire(): PooledBuffer | null {
    this.#ring.assertOpen("acquire");
    this.#acquires++;
    const index = this.#free.pop();
    if (index === undefined) {
      this.#refusals++;
      return null;
    }
    const place: Place = { pool: this, index, taken: true };
    const buffer = new PooledBuffer(place, this.#address + index * this.#stride);
    abandoned.register(buffer, place, place);
    return buffer;
  }

  get stats(): BufferPoolStats {
    return {
      size: this.#size,
      count: this.#count,
      free: this.#free.length,
      inFlight: this.inFlight,
      acquires: this.#acquires,
      refusals: this.#refusals,
      leaked: this.#leaked,
    };
  }

  /** Buffers that were collected without `release`. */
  get leaked(): number {
    return this.#leaked;
  }

  /** @internal */
  giveBack(place: Place): void {
    if (!place.taken) return;
    place.taken = false;
    abandoned.unregister(place);
    this.#free.push(place.index);
  }

  /** @internal */
  reclaim(place: Place): void {
    if (!place.taken) return;
    this.#leaked++;
    this.giveBack(place);
  }
}

export class PooledBuffer implements Disposable {
  readonly #address: number;
  readonly #place: Place;
  #view: ArrayBuffer | null = null;
  /** Operations that have it, and the first of them for messages. */
  #operations = 0;
  #holder = { kind: "", fd: -1 };
  #releases = false;

  /** @internal Buffers come from `BufferPool.acquire`. */
  constructor(place: Place, address: number) {
    this.#place = place;
    this.#address = address;
  }

  /** @internal */
  get address(): number {
    return this.#address;
  }

  get length(): number {
    return this.#place.pool.size;
  }

  get inFlight(): boolean {
    return this.#operations > 0;
  }

  /**
   * The bytes. Submitting the buffer empties every view handed out; afterwards this is a fresh one.
   * Throws "EBUSY" while an operation has the buffer, "EINVAL" when it was released.
   */
  get bytes(): Uint8Array<ArrayBuffer> {
    if (this.#operations > 0) throw inFlight("bytes", this.#holder.kind, this.#holder.fd);
    this.assertHeld("bytes");
    if (this.#view === null || this.#view.detached) {
      const { pool } = this.#place;
      this.#view = pool.ring.memory.mapped(this.#address, pool.size);
      if (this.#view === null) pool.ring.assertOpen("bytes");
    }
    return new Uint8Array(this.#view as ArrayBuffer);
  }

  /** Back to the pool: at once, or at the last completion of what is in flight. */
  release(): void {
    if (this.#operations > 0) {
      this.#releases = true;
      return;
    }
    this.#dropView();
    this.#place.pool.giveBack(this.#place);
  }

  [Symbol.dispose](): void {
    this.release();
  }

  #dropView(): void {
    if (this.#view !== null && !this.#view.detached) this.#view.transfer(0);
    this.#view = null;
  }

  /** @internal */
  assertHeld(operation: string): void {
    if (this.#place.taken && !this.#releases) return;
    throw new UringError("EINVAL", operation, `${operation}: the buffer was released`);
  }

  /** @internal Of another ring: its memory may go before this operation ends. */
  assertRing(operation: string, ring: Engine): void {
    if (this.#place.pool.ring === ring) return;
    throw new UringError("EINVAL", operation, `${operation}: the buffer is another ring's`);
  }

  /** @internal */
  board(kind: string, fd: number): void {
    this.#dropView();
    if (this.#operations++ === 0) this.#holder = { kind, fd };
    this.#place.pool.inFlight++;
  }

  /** @internal */
  land(releases: boolean): void {
    this.#operations--;
    this.#place.pool.inFlight--;
    if (releases) this.#releases = true;
    if (this.#operations === 0 && this.#releases) {
      this.#releases = false;
      this.release();
    }
  }
}

// Borrowed chunks: received bytes in the buffer that the kernel wrote them to.
//
// A chunk is lent while its handler runs, and beyond with `keep`. When it goes back its memory is
// detached, so a view that was kept is empty and never shows another connection's bytes. If the
// user moved the memory elsewhere (`transfer`, `postMessage`), the buffer goes back when that owner
// dies: its deallocator is native, and works after the socket and the ring are closed.

import { Buffer } from "node:buffer";
import { UringError } from "./errors.ts";
import type { Memory } from "./memory.ts";

/**
 * Below this many bytes a private copy is cheaper than lending and detaching: 4 KiB copy in about
 * 0.7 µs, a loan costs 0.5 to 0.6 µs up to 16 KiB, and 1.7 µs for 1 MiB (whose copy takes 100).
 */
export const LEND_MIN = 4096;

/** Chunks that `keep` holds and those that were collected without `release`; one per ring. */
export interface Keeping {
  kept: number;
  collected: number;
}

/** What outlives a kept chunk. */
interface Kept {
  readonly keeping: Keeping;
}

const abandoned = new FinalizationRegistry<Kept>(({ keeping }) => {
  // Its memory has gone back by its deallocator, or does so with the last view of it.
  keeping.kept--;
  keeping.collected++;
});

/** Bun's Buffer cannot be extended; this is what its instances are, with its methods. */
const BufferBase = Uint8Array as unknown as {
  new (memory: ArrayBuffer, byteOffset: number, length: number): Buffer<ArrayBuffer>;
};

/**
 * A received chunk with `binaryType: "borrowed"`: a Buffer that is valid until its handler returns,
 * or, after `keep`, until `release`. A handler that returns a promise has returned at its first
 * `await`.
 */
export class BorrowedChunk extends BufferBase implements Disposable {
  /** The loan; null for a private copy. */
  readonly #memory: ArrayBuffer | null;
  readonly #keeping: Keeping;
  #kept: Kept | null = null;

  /** @internal Chunks come with data. */
  constructor(
    memory: ArrayBuffer,
    byteOffset: number,
    length: number,
    lent: boolean,
    keeping: Keeping,
  ) {
    super(memory, byteOffset, length);
    this.#memory = lent ? memory : null;
    this.#keeping = keeping;
  }

  /** What `map` and `filter` make is the user's own. */
  static get [Symbol.species](): BufferConstructor {
    return Buffer;
  }

  /** The bytes lie in a receive buffer. False for a private copy, which needs no `release`. */
  get lent(): boolean {
    return this.#memory !== null && !this.#memory.detached;
  }

  /**
   * Holds the chunk beyond its handler, until `release` or the end of a `using` block. It counts in
   * what its connection may hold (`holdBuffers`, `holdBytes`): at that the connection receives no
   * more until half of it is back. Throws "EINVAL" when the chunk has gone back already.
   */
  keep(): this {
    if (this.#memory === null || this.#kept !== null) return this;
    if (this.#memory.detached) {
      const message = "keep: the chunk has gone back; call keep before its handler returns";
      throw new UringError("EINVAL", "keep", message);
    }
    this.#kept = { keeping: this.#keeping };
    this.#keeping.kept++;
    abandoned.register(this, this.#kept, this.#kept);
    return this;
  }

  /** Gives the bytes back: every view of them is empty from here on. A private copy stays. */
  release(): void {
    if (this.#kept !== null) {
      abandoned.unregister(this.#kept);
      this.#kept = null;
      this.#keeping.kept--;
    }
    if (this.#memory !== null && !this.#memory.detached) this.#memory.transfer(0);
  }

  [Symbol.dispose](): void {
    this.release();
  }

  /** @internal Its handler has returned. */
  handled(): void {
    if (this.#kept === null) this.release();
  }
}

Object.setPrototypeOf(BorrowedChunk.prototype, Buffer.prototype);

/** Received bytes, lent if that pays and enough buffers are left, else copied. */
export function borrowChunk(
  memory: Memory,
  keeping: Keeping,
  offset: number,
  length: number,
  buffer: number,
): BorrowedChunk {
  const lent = length >= LEND_MIN ? memory.lend(buffer, offset, length) : null;
  if (lent !== null) return new BorrowedChunk(lent, 0, length, true, keeping);
  const copy = memory.copyBuffer(offset, length);
  return new BorrowedChunk(copy.buffer as ArrayBuffer, copy.byteOffset, length, false, keeping);
}

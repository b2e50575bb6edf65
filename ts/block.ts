// NativeBlock: native memory that a post moves to another thread without copying it.
//
// One ArrayBuffer lies over a block's bytes. A post detaches it here, and the receiving thread gets
// a block of its own over the same bytes. Whoever has it last frees it: by `using`, or when it is
// collected; one that nobody took goes with its mailbox. The library counts the owners, so that it
// happens once, whichever thread dies.

import { argumentError, checkInteger, UringError } from "./errors.ts";
import { blockBytes } from "./memory.ts";
import { native } from "./native.ts";

/** What an ArrayBuffer can have. */
const SIZE_MAX = 0xffff_ffff;

/** A block that a post has brought. */
class Delivered {
  readonly address: number;
  readonly length: number;

  constructor(address: number, length: number) {
    this.address = address;
    this.length = length;
  }
}

export class NativeBlock implements Disposable {
  readonly #address: number;
  readonly #bytes: Uint8Array<ArrayBuffer>;

  /** So many bytes, all 0; or a copy of those of a typed array. Page-aligned. */
  constructor(source: number | Uint8Array) {
    if ((source as unknown) instanceof Delivered) {
      const { address, length } = source as unknown as Delivered;
      this.#address = address;
      this.#bytes = new Uint8Array(blockBytes(address, length));
      return;
    }
    const copied = source instanceof Uint8Array ? source : null;
    if (copied === null && typeof source !== "number") {
      throw argumentError("NativeBlock", "source", "a size in bytes or a Uint8Array", source);
    }
    const size = copied === null ? source : copied.byteLength;
    checkInteger("NativeBlock", "size", size, 1, SIZE_MAX);
    this.#address = native.bu_block_map(size as number);
    if (this.#address === 0) {
      throw new UringError("ENOMEM", "NativeBlock", `NativeBlock: no memory for ${size} bytes`);
    }
    this.#bytes = new Uint8Array(blockBytes(this.#address, size as number));
    if (copied !== null) this.#bytes.set(copied);
  }

  /** @internal The block of a post that the ring has just delivered. */
  static delivered(ring: number, address: number): NativeBlock {
    const length = native.bu_block_adopt(ring, address);
    return new NativeBlock(new Delivered(address, length) as unknown as number);
  }

  /** The bytes; none once it was posted or disposed of. */
  get bytes(): Uint8Array<ArrayBuffer> {
    return this.#bytes;
  }

  /** 0 once it was posted or disposed of. */
  get byteLength(): number {
    return this.#bytes.byteLength;
  }

  /** Frees the memory, unless it was posted. Every view of it is empty afterwards. */
  [Symbol.dispose](): void {
    this.#detach();
  }

  /** @internal Its address for `call`, which returns 0 if it has taken the block. */
  hand(operation: string, call: (address: number) => number): number {
    if (this.#bytes.buffer.detached) {
      const message = `${operation}: the block is gone: it was posted, disposed of or transferred`;
      throw new UringError("EINVAL", operation, message);
    }
    const outcome = call(this.#address);
    if (outcome >= 0) this.#detach();
    return outcome;
  }

  /** The deallocator gives up this thread's share. */
  #detach(): void {
    if (!this.#bytes.buffer.detached) this.#bytes.buffer.transfer(0);
  }
}

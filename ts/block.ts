// NativeBlock: native memory that a post moves to another thread without copying it.
//
// One ArrayBuffer lies over a block's bytes. A post detaches it here, and the receiving thread gets
// a block of its own over the same bytes. Whoever has it last frees it: by `using`, or when it is
// collected; one that nobody took goes with its mailbox. The library counts the owners, so that it
// happens once, whichever thread dies.

import { argumentError, checkInteger, UringError } from "./errors.ts";
import { adoptBlock, mapBlock, type Block } from "./memory.ts";

/** What an ArrayBuffer can have. */
const SIZE_MAX = 0xffff_ffff;

/** A block that a post has brought. */
class Delivered {
  readonly block: Block;

  constructor(block: Block) {
    this.block = block;
  }
}

export class NativeBlock implements Disposable {
  readonly #address: number;
  readonly #bytes: Uint8Array<ArrayBuffer>;

  /** So many bytes, all 0; or a copy of those of a typed array. Page-aligned. */
  constructor(source: number | Uint8Array) {
    const given: unknown = source;
    const { address, bytes } = given instanceof Delivered ? given.block : makeBlock(source);
    this.#address = address;
    this.#bytes = new Uint8Array(bytes);
    if (source instanceof Uint8Array) this.#bytes.set(source);
  }

  /** @internal The block of a post that the ring has just delivered. */
  static delivered(ring: number, address: number): NativeBlock {
    return new NativeBlock(new Delivered(adoptBlock(ring, address)) as unknown as number);
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

function makeBlock(source: number | Uint8Array): Block {
  const size = source instanceof Uint8Array ? source.byteLength : source;
  if (typeof size !== "number") {
    throw argumentError("NativeBlock", "source", "a size in bytes or a Uint8Array", source);
  }
  checkInteger("NativeBlock", "size", size, 1, SIZE_MAX);
  const block = mapBlock(size);
  if (block !== null) return block;
  throw new UringError("ENOMEM", "NativeBlock", `NativeBlock: no memory for ${size} bytes`);
}

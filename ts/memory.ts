// The only toArrayBuffer(): the slab as typed arrays that never escape.
//
// A user sees private copies, or a lent ArrayBuffer over one receive buffer alone, which is
// detached when the buffer goes back. The slab's own ArrayBuffer has a native deallocator: when it
// dies, by `release()` or with its Worker, the ring's memory goes.

import { ptr, toArrayBuffer, type Pointer } from "bun:ffi";
import {
  ADDRESS,
  ADDRESS_SIZE,
  ADDRESS_WORDS,
  ARGUMENTS_SIZE,
  ARGUMENTS_WORDS,
  BLOCK_HEADER_SIZE,
  Family,
  RECORDS_MAX,
  RECORD_SIZE,
  RING_INFO_SIZE,
  RING_INFO_WORDS,
  RING_OPTIONS_SIZE,
  RING_OPTIONS_WORDS,
  SCRATCH_SIZE,
} from "./abi.ts";
import { argumentError } from "./errors.ts";
import { native } from "./native.ts";

/** toArrayBuffer with its deallocator, which Bun's types leave out. */
const viewOver = toArrayBuffer as (
  address: Pointer,
  byteOffset: number,
  byteLength: number,
  context: Pointer,
  deallocator: Pointer,
) => ArrayBuffer;

/** The address of a symbol, which Bun's types leave out. */
function symbolAddress(symbol: unknown): Pointer {
  return (symbol as { ptr: Pointer }).ptr;
}

const bufferReleased = symbolAddress(native.bu_buffer_released);

const blockReleased = symbolAddress(native.bu_block_released);

/** A block of native memory: its address, and an ArrayBuffer whose deallocator gives it up. */
export interface Block {
  readonly address: number;
  readonly bytes: ArrayBuffer;
}

/** A new block; null if there is no memory. */
export function mapBlock(size: number): Block | null {
  const address = native.bu_block_map(size);
  return address === 0 ? null : viewBlock(address, size);
}

/** A block that the ring's last turn has delivered. */
export function adoptBlock(ring: number, address: number): Block {
  return viewBlock(address, native.bu_block_adopt(ring, address));
}

/** A Worker may be terminated anywhere in here: the library then knows that there is no view. */
function viewBlock(address: number, size: number): Block {
  const block = address as Pointer;
  try {
    const start = (address + BLOCK_HEADER_SIZE) as Pointer;
    const bytes = viewOver(start, 0, size, block, blockReleased);
    native.bu_block_viewed(address);
    return { address, bytes };
  } catch (error) {
    native.bu_block_released(null, block); // too large for an ArrayBuffer
    throw error;
  }
}

/** A numeric address as `bu_*_address` and `bu_connect` have it. */
export interface NumericAddress {
  family: keyof typeof Family;
  host: string;
  port: number;
}

type Info = { readonly [Field in keyof typeof RING_INFO_WORDS]: number };
export type RingOptionWords = {
  -readonly [Field in keyof typeof RING_OPTIONS_WORDS]?: number;
};

const F64_FIELDS = new Set<string>(["slab_address", "slab_size", "context"]);

/** Calls `bu_ring_open`; `outcome` is 0 or a negative errno, `info` says why. */
export function openRing(options: RingOptionWords): { outcome: number; info: Info } {
  const words = new Uint32Array(RING_OPTIONS_SIZE / 4);
  for (const [name, value] of Object.entries(options)) {
    if (value === undefined) continue;
    words[RING_OPTIONS_WORDS[name as keyof RingOptionWords]] = value;
  }
  // Materialised before its address is taken: small typed arrays move when `.buffer` is touched.
  const answer = new ArrayBuffer(RING_INFO_SIZE);
  const outcome = native.bu_ring_open(words, new Uint8Array(answer));
  const integers = new Uint32Array(answer);
  const doubles = new Float64Array(answer);
  const info = Object.fromEntries(
    Object.entries(RING_INFO_WORDS).map(([name, word]) => [
      name,
      (F64_FIELDS.has(name) ? doubles[word] : integers[word]) ?? 0,
    ]),
  ) as Info;
  return { outcome, info };
}

const memoryReleased = symbolAddress(native.bu_memory_released);

const WORDS = ARGUMENTS_WORDS;

/** The `Arguments` record: what the next operation is started with. */
export class Arguments {
  readonly integers: Int32Array;
  readonly doubles: Float64Array;
  /** Counts resets: whoever prepares an operation sees whether somebody came between. */
  serial = 0;

  constructor(slab: ArrayBuffer, offset: number) {
    this.integers = new Int32Array(slab, offset, ARGUMENTS_SIZE / 4);
    this.doubles = new Float64Array(slab, offset, ARGUMENTS_SIZE / 8);
  }

  /** Every field as most operations have it: no position, no flags, no time-out. */
  reset(fd: number): void {
    const { integers, doubles } = this;
    this.serial++;
    integers[WORDS.fd] = fd;
    integers[WORDS.fd_second] = -1;
    doubles[WORDS.offset] = -1;
    doubles[WORDS.offset_second] = -1;
    doubles[WORDS.address] = 0;
    integers[WORDS.length] = 0;
    integers[WORDS.flags] = 0;
    integers[WORDS.mode] = 0;
    integers[WORDS.extra] = 0;
    doubles[WORDS.timeout_ms] = -1;
    integers[WORDS.options] = 0;
  }
}

/**
 * Where memory lies. It must be memory that nobody can take away while the address is in use, and
 * the caller keeps it alive: an address roots nothing.
 */
export function addressOf(bytes: ArrayBufferLike | Uint8Array): number {
  return ptr(bytes instanceof Uint8Array ? bytes : new Uint8Array(bytes)) as number;
}

const encoder = new TextEncoder();

export class Memory {
  /** Completion records, `RECORD_SIZE / 4` words each. */
  readonly records: Int32Array;
  /** The same, half as many. */
  readonly recordDoubles: Float64Array;
  /** The words of `CONTROL`. */
  readonly control: Uint32Array;
  readonly arguments: Arguments;
  /** Where text is encoded; what stands in it is good until the next call. */
  readonly scratch: Uint8Array;
  readonly #slab: ArrayBuffer;
  readonly #address: number;
  readonly #context: Pointer;
  readonly handle: number;

  constructor(info: Info) {
    this.handle = info.handle;
    this.#address = info.slab_address;
    this.#context = info.context as Pointer;
    this.#slab = viewOver(
      info.slab_address as Pointer,
      0,
      info.slab_size,
      this.#context,
      symbolAddress(native.bu_slab_released),
    );
    native.bu_view_made(info.handle);
    const recordWords = (RECORDS_MAX * RECORD_SIZE) / 4;
    this.records = new Int32Array(this.#slab, info.records_offset, recordWords);
    this.recordDoubles = new Float64Array(this.#slab, info.records_offset, recordWords / 2);
    this.control = new Uint32Array(this.#slab, 0, 1024);
    this.arguments = new Arguments(this.#slab, info.arguments_offset);
    this.scratch = new Uint8Array(this.#slab, info.scratch_offset, SCRATCH_SIZE);
  }

  /** Gives the slab back; every view is empty afterwards. */
  release(): void {
    if (!this.#slab.detached) this.#slab.transfer(0);
  }

  /** Text as UTF-8 in `scratch`: the number of bytes, or -1 if they do not fit. */
  encode(text: string): number {
    if (text.length > SCRATCH_SIZE) return -1;
    const { read, written } = encoder.encodeInto(text, this.scratch);
    return read === text.length ? written : -1;
  }

  /** A private copy as a Buffer. */
  copyBuffer(offset: number, length: number): Buffer {
    const copy = Buffer.allocUnsafe(length);
    native.bu_slab_read(this.handle, offset, copy, length);
    return copy;
  }

  /** The same with memory of its own: a small Buffer may share its ArrayBuffer with others. */
  copyAlone(offset: number, length: number): Buffer<ArrayBuffer> {
    const copy = Buffer.allocUnsafeSlow(length);
    native.bu_slab_read(this.handle, offset, copy, length);
    return copy;
  }

  /** A private copy as a plain Uint8Array with an ArrayBuffer of its own. */
  copyBytes(offset: number, length: number): Uint8Array<ArrayBuffer> {
    const copy = new Uint8Array(length);
    native.bu_slab_read(this.handle, offset, copy, length);
    return copy;
  }

  /**
   * An ArrayBuffer over one receive buffer, which its deallocator gives back; null if too many are
   * lent.
   */
  lend(buffer: number, offset: number, length: number): ArrayBuffer | null {
    if (native.bu_buffer_lend(this.handle, buffer, offset) < 0) return null;
    const address = (this.#address + offset) as Pointer;
    return this.#made(viewOver(address, 0, length, this.#context, bufferReleased));
  }

  /** From here on its deallocator tells of its end, also when this thread dies. */
  #made(view: ArrayBuffer): ArrayBuffer {
    native.bu_view_made(this.handle);
    return view;
  }

  /** Page-aligned native memory that lives as long as the ring: its address, 0 if there is none. */
  map(size: number): number {
    return native.bu_memory_map(this.handle, size);
  }

  /** An ArrayBuffer over mapped memory; it may outlive the ring, which stays mapped for it. */
  mapped(address: number, length: number): ArrayBuffer | null {
    if (native.bu_memory_view(this.handle, address) < 0) return null;
    return this.#made(viewOver(address as Pointer, 0, length, this.#context, memoryReleased));
  }
}

const { get: byteLengthGetter } = Object.getOwnPropertyDescriptor(
  Object.getPrototypeOf(Uint8Array.prototype) as object,
  "byteLength",
) as { get(this: unknown): number };

/**
 * The true length of a view's memory, whatever its properties say: it is what the library trusts.
 * Throws for what only pretends to be a typed array.
 */
export function byteLengthOf(operation: string, view: Uint8Array): number {
  try {
    return byteLengthGetter.call(view);
  } catch {
    throw argumentError(operation, "data", "a typed array", view);
  }
}

/** An `Address` record for a call. */
export function writeAddress(address: NumericAddress): Uint8Array {
  const buffer = new ArrayBuffer(ADDRESS_SIZE);
  const words = new Uint32Array(buffer);
  const bytes = new Uint8Array(buffer);
  const text = Buffer.from(address.host, "utf8");
  words[ADDRESS_WORDS.family] = Family[address.family];
  words[ADDRESS_WORDS.port] = address.port;
  words[ADDRESS_WORDS.text_len] = text.length;
  bytes.set(text.subarray(0, ADDRESS_SIZE - ADDRESS.text), ADDRESS.text);
  return bytes;
}

/** Reads an `Address` record that a call has filled, or null if it returned an error. */
export function readAddress(call: (out: Uint8Array) => number): NumericAddress | null {
  const buffer = new ArrayBuffer(ADDRESS_SIZE);
  const record = new Uint8Array(buffer);
  return call(record) < 0 ? null : readWrittenAddress(record);
}

/** The address in a record that a call has changed. */
export function readWrittenAddress({ buffer }: Uint8Array): NumericAddress {
  const words = new Uint32Array(buffer);
  const length = words[ADDRESS_WORDS.text_len] ?? 0;
  const names = Object.keys(Family) as (keyof typeof Family)[];
  return {
    family: names[words[ADDRESS_WORDS.family] ?? 0] ?? "unix",
    host: Buffer.from(buffer, ADDRESS.text, length).toString("utf8"),
    port: words[ADDRESS_WORDS.port] ?? 0,
  };
}

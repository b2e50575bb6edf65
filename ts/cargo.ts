// Cargo: how the memory of a call reaches the kernel and comes back.
//
// The kernel itself sees only memory that nobody can take away: native memory, an ArrayBuffer that
// was moved in, shared memory. A plain typed array is copied, in when the operation starts or out
// when it ends, since no JavaScript can pin it. In a Worker only native memory is used in place:
// `terminate` frees everything else in no order that could be waited for.

import { ARGUMENTS_WORDS, ERRNO, OperationOption } from "./abi.ts";
import { PooledBuffer } from "./buffer.ts";
import type { Engine } from "./engine.ts";
import { argumentError, checkInteger, UringError } from "./errors.ts";
import { borrow, checkLoans, giveBack, type Loan } from "./loans.ts";
import { addressOf } from "./memory.ts";
import { native } from "./native.ts";
import { setOption, type Cargo } from "./operation.ts";
import { RegisteredBuffer } from "./registered.ts";

/** Memory that an operation can fill. An ArrayBuffer is moved in and handed back. */
export type Target =
  | ArrayBufferView
  | ArrayBuffer
  | SharedArrayBuffer
  | PooledBuffer
  | RegisteredBuffer;
/** Memory that an operation can take bytes from. */
export type Source = Target | string;

/** Which bytes of the buffer. */
export interface RangeOptions {
  /** First byte in the buffer. Default 0. */
  offset?: number | undefined;
  /** Bytes at most. Default: up to the end of the buffer. */
  length?: number | undefined;
  /** A pooled buffer goes back to its pool with the last completion. */
  release?: boolean | undefined;
}

/** The outcome of what moves bytes. */
export interface Transferred<B> {
  /** Bytes moved; fewer than asked for is no error. */
  bytes: number;
  /** The buffer that was passed; of an ArrayBuffer, the one that now has its memory. */
  buffer: B;
}

const WORDS = ARGUMENTS_WORDS;
/** The kernel moves at most so much at once: read(2). */
const LENGTH_MAX = 0x7fff_f000;
/** JavaScript's memory in place, on the main thread only; tests have both. */
const inPlace = Bun.isMainThread;

/** Moved-in and shared memory that the kernel may use: alive until its last completion. */
const pinned = new Set<object>();

/** What is common: it hands back what it was given. */
abstract class Carrier<B> implements Cargo<Transferred<B>> {
  input: Uint8Array | null = null;
  #buffer: B | undefined;

  constructor(buffer: B) {
    this.#buffer = buffer;
  }

  get buffer(): B | undefined {
    return this.#buffer;
  }

  protected replace(buffer: B | undefined): void {
    this.#buffer = buffer;
  }

  abstract board(engine: Engine, kind: string, fd: number): void;

  land(_engine: Engine, _index: number, result: number): number {
    return result;
  }

  // Whatever the kernel still has is native memory, unless a carrier says otherwise.
  orphan(): void {}

  value(bytes: number): Transferred<B> {
    return { bytes, buffer: this.#buffer as B };
  }

  detail(): B | undefined {
    return this.#buffer;
  }
}

/** Plain bytes to write: copied within the call. */
class PlainSource<B> extends Carrier<B> {
  constructor(buffer: B, bytes: Uint8Array) {
    super(buffer);
    this.input = bytes;
  }

  board(engine: Engine, kind: string): void {
    const bytes = this.input as Uint8Array;
    const { byteOffset, byteLength } = bytes;
    checkLoans(bytes.buffer, byteOffset, byteOffset + byteLength, false, kind);
    engine.memory.arguments.integers[WORDS.length] = byteLength;
  }

  override land(_engine: Engine, _index: number, result: number): number {
    this.input = null; // the copy was all that was needed of it
    return result;
  }
}

/** A plain view to fill: the kernel writes to native memory, the bytes are copied at the end. */
class PlainTarget<B> extends Carrier<B> {
  readonly #bytes: Uint8Array;
  readonly #length: number;
  #loan: Loan | null = null;

  constructor(buffer: B, bytes: Uint8Array) {
    super(buffer);
    this.#bytes = bytes;
    this.#length = bytes.byteLength;
  }

  board(engine: Engine, kind: string, fd: number): void {
    const { buffer, byteOffset } = this.#bytes;
    this.#loan = borrow(buffer, byteOffset, byteOffset + this.#length, true, kind, fd);
    engine.memory.arguments.integers[WORDS.length] = this.#length;
  }

  override land(engine: Engine, index: number, result: number): number {
    this.#giveBack();
    if (result <= 0 || index < 0) return result;
    if (this.#bytes.byteLength !== this.#length) return -ERRNO.EINVAL; // detached meanwhile
    // A datagram can have been longer than the buffer: recv(2), MSG_TRUNC.
    const length = Math.min(result, this.#length);
    const outcome = native.bu_operation_read(engine.handle, index, this.#bytes, length);
    return outcome < 0 ? outcome : result;
  }

  override orphan(): void {
    this.#giveBack();
  }

  #giveBack(): void {
    if (this.#loan !== null) giveBack(this.#loan);
    this.#loan = null;
  }
}

/** Shared memory, used in place. */
class SharedBytes<B> extends Carrier<B> {
  readonly #bytes: Uint8Array;
  readonly #written: boolean;
  #loan: Loan | null = null;

  constructor(buffer: B, bytes: Uint8Array, written: boolean) {
    super(buffer);
    this.#bytes = bytes;
    this.#written = written;
  }

  board(engine: Engine, kind: string, fd: number): void {
    const { buffer, byteOffset, byteLength } = this.#bytes;
    const end = byteOffset + byteLength;
    this.#loan = borrow(buffer, byteOffset, end, this.#written, kind, fd);
    pinned.add(this);
    useInPlace(engine, byteLength === 0 ? 0 : addressOf(this.#bytes), byteLength);
  }

  override land(_engine: Engine, _index: number, result: number): number {
    if (this.#loan !== null) giveBack(this.#loan);
    pinned.delete(this);
    return result;
  }
}

/**
 * An ArrayBuffer that is the operation's until it ends: the caller's views are empty meanwhile. One
 * that cannot be moved, WebAssembly's, is treated as plain bytes: growing frees it.
 */
class MovedBuffer extends Carrier<ArrayBuffer> {
  readonly #from: number;
  readonly #to: number;
  readonly #written: boolean;
  #copied: Uint8Array | null = null;
  #stays: PlainSource<ArrayBuffer> | PlainTarget<ArrayBuffer> | null = null;

  constructor(buffer: ArrayBuffer, from: number, to: number, written: boolean) {
    super(buffer);
    this.#from = from;
    this.#to = to;
    this.#written = written;
  }

  board(engine: Engine, kind: string, fd: number): void {
    const given = this.buffer as ArrayBuffer;
    if (given.detached) throw argumentError(kind, "buffer", "memory that is still there", given);
    checkLoans(given, this.#from, this.#to, true, kind);
    const length = this.#to - this.#from;
    const buffer = move(given);
    if (buffer === null) {
      const there = new Uint8Array(given, this.#from, length);
      const Plain = this.#written ? PlainTarget : PlainSource;
      this.#stays = new Plain(given, there);
      this.#stays.board(engine, kind, fd);
      this.input = this.#stays.input;
      return;
    }
    this.replace(buffer);
    const bytes = new Uint8Array(buffer, this.#from, length);
    engine.memory.arguments.integers[WORDS.length] = length;
    if (!inPlace) {
      this.#copied = bytes;
      if (!this.#written) this.input = bytes;
      return;
    }
    pinned.add(this);
    useInPlace(engine, length === 0 ? 0 : addressOf(bytes), length);
  }

  override land(engine: Engine, index: number, result: number): number {
    pinned.delete(this);
    this.input = null;
    if (this.#stays !== null) return this.#stays.land(engine, index, result);
    const copied = this.#copied;
    if (copied === null || !this.#written || result <= 0 || index < 0) return result;
    const length = Math.min(result, copied.byteLength);
    const outcome = native.bu_operation_read(engine.handle, index, copied, length);
    return outcome < 0 ? outcome : result;
  }

  override orphan(): void {
    if (this.#stays !== null) return this.#stays.orphan();
    // Still pinned: the kernel may write to it, so that nobody gets it back.
    if (inPlace) this.replace(undefined);
  }
}

/** The buffer that has its memory now, or null if it cannot be moved. */
function move(buffer: ArrayBuffer): ArrayBuffer | null {
  try {
    return buffer.transfer();
  } catch (error) {
    if (error instanceof TypeError && !buffer.detached) return null;
    throw error;
  }
}

/** A buffer of a pool, used in place. */
class PoolBytes extends Carrier<PooledBuffer> {
  readonly #from: number;
  readonly #to: number;
  readonly #written: boolean;
  readonly #releases: boolean;
  #loan: Loan | null = null;

  constructor(buffer: PooledBuffer, from: number, to: number, written: boolean, releases: boolean) {
    super(buffer);
    this.#from = from;
    this.#to = to;
    this.#written = written;
    this.#releases = releases;
  }

  board(engine: Engine, kind: string, fd: number): void {
    const buffer = this.buffer as PooledBuffer;
    buffer.assertHeld(kind);
    buffer.assertRing(kind, engine);
    this.#loan = borrow(buffer, this.#from, this.#to, this.#written, kind, fd);
    buffer.board(kind, fd);
    useInPlace(engine, buffer.address + this.#from, this.#to - this.#from);
  }

  override land(_engine: Engine, index: number, result: number): number {
    if (this.#loan !== null) {
      giveBack(this.#loan);
      this.buffer?.land(this.#releases && index >= 0);
    }
    this.#loan = null;
    return result;
  }
}

/** A registered buffer: the kernel knows it by its place. */
class FixedBytes extends Carrier<RegisteredBuffer> {
  readonly #from: number;
  readonly #to: number;
  readonly #written: boolean;
  #loan: Loan | null = null;

  constructor(buffer: RegisteredBuffer, from: number, to: number, written: boolean) {
    super(buffer);
    this.#from = from;
    this.#to = to;
    this.#written = written;
  }

  board(engine: Engine, kind: string, fd: number): void {
    const buffer = this.buffer as RegisteredBuffer;
    buffer.assertRegistered(kind, engine);
    const loan = borrow(buffer.memory, this.#from, this.#to, this.#written, kind, fd);
    try {
      buffer.board(kind, fd);
    } catch (error) {
      giveBack(loan);
      throw error;
    }
    this.#loan = loan;
    pinned.add(this); // shared memory, also if the kernel never gives it back
    const { integers, doubles } = engine.memory.arguments;
    integers[WORDS.extra] = buffer.index;
    doubles[WORDS.offset_second] = this.#from;
    integers[WORDS.length] = this.#to - this.#from;
  }

  override land(_engine: Engine, _index: number, result: number): number {
    pinned.delete(this);
    if (this.#loan !== null) {
      giveBack(this.#loan);
      this.buffer?.land();
    }
    this.#loan = null;
    return result;
  }
}

/** Paths and addresses: copied in the call, and the result is the call's own. */
export class CopiedInput implements Cargo<number> {
  readonly input: Uint8Array;
  readonly buffer = undefined;

  constructor(input: Uint8Array) {
    this.input = input;
  }

  // There is nothing to take and nothing to give back.
  board(): void {}
  orphan(): void {}

  land(_engine: Engine, _index: number, result: number): number {
    return result;
  }

  value(result: number): number {
    return result;
  }

  detail(): undefined {
    return undefined;
  }
}

function useInPlace(engine: Engine, address: number, length: number): void {
  const words = engine.memory.arguments;
  words.integers[WORDS.length] = length;
  if (length === 0) return; // nothing is touched, and 0 is no address
  words.doubles[WORDS.address] = address;
  setOption(engine, OperationOption.native_memory);
}

// Choosing -------------------------------------------------------------------------------------

/** The bytes of a plain or shared view, rebuilt from the memory: a view may lie about itself. */
export function bytesOf(kind: string, data: unknown): Uint8Array {
  let bytes: Uint8Array;
  try {
    if (ArrayBuffer.isView(data)) {
      bytes = new Uint8Array(data.buffer, data.byteOffset, data.byteLength);
    } else if (data instanceof SharedArrayBuffer || data instanceof ArrayBuffer) {
      bytes = new Uint8Array(data);
    } else {
      throw argumentError(kind, "buffer", "an ArrayBuffer, a view of one or a buffer", data);
    }
  } catch (cause) {
    if (cause instanceof UringError) throw cause;
    const error = argumentError(kind, "buffer", "memory that is still there", data);
    error.cause = cause;
    throw error;
  }
  refuseResizable(kind, bytes.buffer);
  return bytes;
}

function refuseResizable(kind: string, memory: ArrayBufferLike): void {
  const resizes = memory instanceof SharedArrayBuffer ? memory.growable : memory.resizable;
  if (!resizes) return;
  const message = `${kind}: a resizable buffer can shrink under the kernel; use one that cannot`;
  throw new UringError("EINVAL", kind, message);
}

/** [from, to) of `total` bytes. */
function rangeOf(kind: string, total: number, options: RangeOptions): [number, number] {
  const { offset, length } = options;
  const from = offset === undefined ? 0 : checkInteger(kind, "offset", offset, 0, total);
  const most = Math.min(total - from, LENGTH_MAX);
  const count = length === undefined ? most : checkInteger(kind, "length", length, 0, most);
  return [from, from + count];
}

/** The carrier for the buffer of a call; `written`: the kernel writes to it. */
export function carry<B>(
  kind: string,
  buffer: B,
  options: RangeOptions,
  written: boolean,
): Cargo<Transferred<B>> {
  return choose(kind, buffer, options, written) as unknown as Cargo<Transferred<B>>;
}

function choose(
  kind: string,
  buffer: unknown,
  options: RangeOptions,
  written: boolean,
): Cargo<Transferred<unknown>> {
  if (buffer instanceof PooledBuffer) {
    const [from, to] = rangeOf(kind, buffer.length, options);
    return new PoolBytes(buffer, from, to, written, options.release === true);
  }
  if (buffer instanceof RegisteredBuffer) {
    // The library says EOVERFLOW of what reaches beyond it.
    const from = checkInteger(kind, "offset", options.offset ?? 0, 0, Number.MAX_SAFE_INTEGER);
    const rest = Math.max(buffer.length - from, 0);
    const length = checkInteger(kind, "length", options.length ?? Math.max(rest, 1), 1, LENGTH_MAX);
    return new FixedBytes(buffer, from, from + length, written);
  }
  if (buffer instanceof ArrayBuffer) {
    refuseResizable(kind, buffer);
    const [from, to] = rangeOf(kind, buffer.byteLength, options);
    return new MovedBuffer(buffer, from, to, written);
  }
  const text = typeof buffer === "string" && !written;
  const whole = text ? Buffer.from(buffer) : bytesOf(kind, buffer);
  const [from, to] = rangeOf(kind, whole.byteLength, options);
  const bytes = whole.subarray(from, to);
  if (bytes.buffer instanceof SharedArrayBuffer && inPlace) {
    return new SharedBytes(buffer, bytes, written);
  }
  return written ? new PlainTarget(buffer, bytes) : new PlainSource(buffer, bytes);
}

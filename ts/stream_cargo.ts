// Stream cargo: what a send of a connection carries: one buffer, or parts that go in order.
//
// It is made of the cargo of operations (`cargo.ts`), one for each part: the same memory is lent by
// the same rules. Parts that cannot be lent are copied behind the list of all of them. The outcome
// says to the byte what was sent, whatever became of the rest.

import { ARGUMENTS_WORDS, ERRNO, OperationOption, SendFlag } from "./abi.ts";
import { carry, type RangeOptions, type Transferred } from "./cargo.ts";
import type { Engine } from "./engine.ts";
import { argumentError, completionError, type UringError } from "./errors.ts";
import { native } from "./native.ts";
import type { Cargo } from "./operation.ts";
import { RegisteredBuffer } from "./registered.ts";

/** What a chain yields. */
export interface ChainResult<B> extends Transferred<readonly B[]> {
  /** Bytes of all parts; `bytes` is less if the chain broke. */
  total: number;
  /** Why it broke; null if it did not, or broke without an errno: the next send hears of it. */
  error: UringError | null;
}

/** Told how many bytes were sent, once: the socket. */
interface Sender {
  wrote(bytes: number): void;
}

const WORDS = ARGUMENTS_WORDS;
/** IOV_MAX of writev(2). */
const PARTS_MAX = 1024;
/** What the cargo of operations takes at once: read(2). */
const LENGTH_MAX = 0x7fff_f000;
const ALL_SENT = 1;

/** What all of them share: the exact bytes, and a time-out that only JavaScript knows of. */
export abstract class StreamCargo<T> implements Cargo<T> {
  /** @internal Its time is up: what was cancelled for it says so. */
  expired = false;
  /** @internal They go with the first byte. */
  passed: readonly number[] = [];
  abstract readonly payload: Uint8Array | null;
  abstract readonly buffer: unknown;
  /** Bytes to send, and those that were sent. */
  protected total = 0;
  protected bytes = 0;
  readonly #flags: number;
  readonly #sender: Sender;
  #timer: Timer | undefined;

  constructor(flags: number, sender: Sender) {
    this.#flags = flags;
    this.#sender = sender;
  }

  /** Descriptors stand before everything else. */
  get input(): Uint8Array | null {
    const { passed, payload } = this;
    if (passed.length === 0) return payload;
    const words = new Uint8Array(Int32Array.from(passed).buffer);
    return payload === null ? words : Buffer.concat([words, payload]);
  }

  /** Bytes that were sent before it failed. */
  get sent(): number {
    return this.bytes;
  }

  /** @internal */
  limit(milliseconds: number, expire: () => void): void {
    this.#timer = setTimeout(() => {
      this.expired = true;
      expire();
    }, milliseconds);
  }

  board(engine: Engine, kind: string, fd: number): void {
    this.load(engine, kind, fd);
    const { integers } = engine.memory.arguments;
    integers[WORDS.flags] = this.#flags;
    integers[WORDS.mode] = this.passed.length;
  }

  land(engine: Engine, index: number, result: number): number {
    clearTimeout(this.#timer);
    this.unload(engine, index, result);
    if (index >= 0) {
      const { handle } = engine;
      this.bytes = result === ALL_SENT ? this.total : native.bu_operation_sent(handle, index);
      this.#sender.wrote(this.bytes);
    }
    const timedOut = this.expired && result === -ERRNO.ECANCELED;
    return this.outcome(timedOut ? -ERRNO.ETIMEDOUT : result);
  }

  orphan(): void {
    clearTimeout(this.#timer);
    this.strand();
  }

  abstract load(engine: Engine, kind: string, fd: number): void;
  abstract unload(engine: Engine, index: number, result: number): void;
  abstract strand(): void;
  /** The operation's result, ≥ 0 where it is a success. */
  protected abstract outcome(result: number): number;
  abstract value(result: number): T;

  detail(): undefined {
    return undefined;
  }
}

/** One buffer. */
export class OneBuffer<B> extends StreamCargo<Transferred<B>> {
  readonly #cargo: Cargo<Transferred<B>>;

  constructor(kind: string, buffer: B, options: RangeOptions, flags: number, sender: Sender) {
    super(flags, sender);
    refuse(kind, buffer, options);
    this.#cargo = carry(kind, buffer, options, false);
  }

  get payload(): Uint8Array | null {
    return this.#cargo.input as Uint8Array | null;
  }

  get buffer(): unknown {
    return this.#cargo.buffer;
  }

  load(engine: Engine, kind: string, fd: number): void {
    this.#cargo.board(engine, kind, fd);
    this.total = engine.memory.arguments.integers[WORDS.length] ?? 0;
  }

  unload(engine: Engine, index: number, result: number): void {
    this.#cargo.land(engine, index, result);
  }

  strand(): void {
    this.#cargo.orphan();
  }

  protected outcome(result: number): number {
    return result < 0 ? result : this.bytes;
  }

  value(bytes: number): Transferred<B> {
    return this.#cargo.value(bytes);
  }
}

/** Parts in order: gathered, or a chain. */
abstract class Parts<B, T> extends StreamCargo<T> {
  payload: Uint8Array | null = null;
  readonly #cargos: Cargo<Transferred<B>>[];
  /** Those that have their memory. */
  #boarded = 0;

  constructor(kind: string, parts: readonly B[], flags: number, sender: Sender) {
    super(flags, sender);
    if (!Array.isArray(parts) || parts.length === 0 || parts.length > PARTS_MAX) {
      throw argumentError(kind, "parts", `an array of 1 to ${PARTS_MAX} buffers`, parts);
    }
    this.#cargos = [...(parts as readonly B[])].map((part) => {
      refuse(kind, part, {});
      return carry(kind, part, {}, false);
    });
  }

  /** What was passed; of each ArrayBuffer, the one that now has its memory. */
  get buffer(): readonly B[] {
    return this.#cargos.map((cargo) => cargo.buffer as B);
  }

  load(engine: Engine, kind: string, fd: number): void {
    const words = engine.memory.arguments;
    const pairs: number[] = [];
    const copies: Uint8Array[] = [];
    for (const cargo of this.#cargos) {
      words.reset(fd);
      this.#board(engine, cargo, kind, fd);
      const length = words.integers[WORDS.length] ?? 0;
      const lent = ((words.integers[WORDS.options] ?? 0) >> OperationOption.native_memory) & 1;
      pairs.push(lent === 1 ? (words.doubles[WORDS.address] ?? 0) : 0, length);
      if (lent === 0 && length > 0) copies.push(cargo.input as Uint8Array);
      this.total += length;
    }
    words.reset(fd);
    words.integers[WORDS.extra] = this.#cargos.length;
    this.payload = Buffer.concat([new Uint8Array(new Float64Array(pairs).buffer), ...copies]);
  }

  #board(engine: Engine, cargo: Cargo<Transferred<B>>, kind: string, fd: number): void {
    try {
      cargo.board(engine, kind, fd);
      this.#boarded++;
    } catch (error) {
      // What has moved in already goes back with the error.
      this.unload(engine, -1, -ERRNO.EINVAL);
      if (this.#boarded > 0) (error as UringError).buffer = this.buffer;
      throw error;
    }
  }

  unload(engine: Engine, index: number, result: number): void {
    this.payload = null;
    for (const cargo of this.#cargos.slice(0, this.#boarded)) cargo.land(engine, index, result);
  }

  strand(): void {
    for (const cargo of this.#cargos) cargo.orphan();
  }

  protected buffers(): readonly B[] {
    return this.#cargos.map((cargo) => cargo.value(0).buffer);
  }
}

export class Gathered<B> extends Parts<B, Transferred<readonly B[]>> {
  protected outcome(result: number): number {
    return result < 0 ? result : this.bytes;
  }

  value(bytes: number): Transferred<readonly B[]> {
    return { bytes, buffer: this.buffers() };
  }
}

export class ChainOfParts<B> extends Parts<B, ChainResult<B>> {
  readonly #reports: boolean;
  #error: UringError | null = null;

  constructor(parts: readonly B[], flags: number, sender: Sender) {
    super("chain", parts, flags | (1 << SendFlag.chained), sender);
    this.#reports = (flags & (1 << SendFlag.report_break)) !== 0;
  }

  protected outcome(result: number): number {
    if (result < 0 && !this.#reports) return result;
    if (result < 0) this.#error = completionError(result, "chain", -1, this.expired);
    return this.bytes;
  }

  value(bytes: number): ChainResult<B> {
    return { bytes, total: this.total, buffer: this.buffers(), error: this.#error };
  }
}

/** What is no memory for a send, or more than goes in one: it promises to send all of it. */
function refuse(kind: string, buffer: unknown, { offset = 0, length }: RangeOptions): void {
  if (buffer instanceof RegisteredBuffer) {
    const expected = "no registered buffer: those are for read and write";
    throw argumentError(kind, "buffer", expected, buffer);
  }
  const { byteLength = 0 } = Object(buffer ?? 0) as { byteLength?: number };
  // What is no number is refused with what else is wrong.
  const sizes = typeof byteLength === "number" && typeof offset === "number";
  if (length !== undefined || !sizes || byteLength - offset <= LENGTH_MAX) return;
  const expected = `at most ${LENGTH_MAX} bytes; send it in pieces, by offset and length`;
  throw argumentError(kind, "buffer", expected, byteLength);
}

// Vectors: several buffers that one operation fills or empties, in order.
//
// Where all of them are pooled, the kernel uses them in place. Otherwise one contiguous piece of
// native memory stands for them: gathered when the operation starts, scattered when it ends.

import { ARGUMENTS_WORDS, ERRNO, OperationOption } from "./abi.ts";
import { PooledBuffer } from "./buffer.ts";
import { bytesOf, type Source, type Transferred } from "./cargo.ts";
import type { Engine } from "./engine.ts";
import { argumentError } from "./errors.ts";
import { borrow, checkLoans, giveBack, record, type Loan } from "./loans.ts";
import { native } from "./native.ts";
import { setOption, type Cargo } from "./operation.ts";

const WORDS = ARGUMENTS_WORDS;
/** IOV_MAX of writev(2). */
const VECTORS_MAX = 1024;
const LENGTH_MAX = 0x7fff_f000;

export function carryVectors<B extends Source>(
  kind: string,
  buffers: readonly B[],
  written: boolean,
): Cargo<Transferred<readonly B[]>> {
  if (!Array.isArray(buffers) || buffers.length === 0 || buffers.length > VECTORS_MAX) {
    throw argumentError(kind, "buffers", `an array of 1 to ${VECTORS_MAX} buffers`, buffers);
  }
  const given = [...(buffers as readonly B[])];
  if (given.every((buffer) => buffer instanceof PooledBuffer)) {
    return new PooledVectors(buffers, given as unknown as PooledBuffer[], written);
  }
  return new CopiedVectors(kind, buffers, given, written);
}

abstract class Vectors<B> implements Cargo<Transferred<readonly B[]>> {
  input: Uint8Array | Float64Array | null = null;
  readonly buffer: readonly B[];

  constructor(buffers: readonly B[]) {
    this.buffer = buffers;
  }

  abstract board(engine: Engine, kind: string, fd: number): void;
  abstract land(engine: Engine, index: number, result: number): number;
  // Native memory all of it: nothing can be freed too early.
  orphan(): void {}

  value(bytes: number): Transferred<readonly B[]> {
    return { bytes, buffer: this.buffer };
  }

  detail(): readonly B[] {
    return this.buffer;
  }
}

class CopiedVectors<B> extends Vectors<B> {
  readonly #parts: Uint8Array[];
  readonly #lengths: number[];
  readonly #total: number;
  readonly #written: boolean;
  #loans: Loan[] = [];

  constructor(kind: string, buffers: readonly B[], given: readonly B[], written: boolean) {
    super(buffers);
    this.#parts = given.map((buffer) => {
      if (buffer instanceof PooledBuffer) return buffer.bytes;
      if (typeof buffer === "string" && !written) return Buffer.from(buffer);
      return bytesOf(kind, buffer);
    });
    this.#lengths = this.#parts.map((part) => part.byteLength);
    this.#total = this.#lengths.reduce((sum, length) => sum + length, 0);
    this.#written = written;
    if (this.#total > LENGTH_MAX) {
      throw argumentError(kind, "buffers", `at most ${LENGTH_MAX} bytes together`, this.#total);
    }
  }

  board(engine: Engine, kind: string, fd: number): void {
    for (const { buffer, byteOffset, byteLength } of this.#parts) {
      checkLoans(buffer, byteOffset, byteOffset + byteLength, this.#written, kind);
    }
    if (this.#written) {
      // Parts may overlap each other, which is the caller's wish; nobody else's may.
      this.#loans = this.#parts.map(({ buffer, byteOffset, byteLength }) => {
        return record(buffer, byteOffset, byteOffset + byteLength, true, kind, fd);
      });
    } else {
      this.input = gather(this.#parts, this.#total);
    }
    engine.memory.arguments.integers[WORDS.length] = this.#total;
  }

  land(engine: Engine, index: number, result: number): number {
    this.input = null;
    for (const loan of this.#loans) giveBack(loan);
    this.#loans = [];
    if (!this.#written || result <= 0 || index < 0) return result;
    const whole = new Uint8Array(Math.min(result, this.#total));
    const outcome = native.bu_operation_read(engine.handle, index, whole, whole.byteLength);
    if (outcome < 0) return outcome;
    let from = 0;
    for (const [place, part] of this.#parts.entries()) {
      if (part.byteLength !== this.#lengths[place]) return -ERRNO.EINVAL; // detached meanwhile
      if (from >= whole.byteLength) break;
      const piece = whole.subarray(from, from + part.byteLength);
      part.set(piece);
      from += piece.byteLength;
    }
    return result;
  }
}

function gather(parts: Uint8Array[], total: number): Uint8Array {
  const whole = new Uint8Array(total);
  let at = 0;
  for (const part of parts) {
    whole.set(part, at);
    at += part.byteLength;
  }
  return whole;
}

class PooledVectors<B> extends Vectors<B> {
  readonly #parts: PooledBuffer[];
  readonly #written: boolean;
  #loans: Loan[] = [];

  constructor(buffers: readonly B[], parts: PooledBuffer[], written: boolean) {
    super(buffers);
    this.#parts = parts;
    this.#written = written;
  }

  board(engine: Engine, kind: string, fd: number): void {
    for (const part of this.#parts) {
      part.assertHeld(kind);
      part.assertRing(kind, engine);
    }
    try {
      for (const part of this.#parts) {
        this.#loans.push(borrow(part, 0, part.length, this.#written, kind, fd));
      }
    } catch (error) {
      this.#giveBack();
      throw error;
    }
    for (const part of this.#parts) part.board(kind, fd);
    const pairs = this.#parts.flatMap((part) => [part.address, part.length]);
    this.input = new Float64Array(pairs);
    engine.memory.arguments.integers[WORDS.length] = this.#parts.length;
    setOption(engine, OperationOption.native_memory);
  }

  land(_engine: Engine, _index: number, result: number): number {
    this.input = null;
    if (this.#loans.length > 0) for (const part of this.#parts) part.land(false);
    this.#giveBack();
    return result;
  }

  #giveBack(): void {
    for (const loan of this.#loans) giveBack(loan);
    this.#loans = [];
  }
}

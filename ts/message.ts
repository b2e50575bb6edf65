// Messages: what travels with the vectors of sendmsg and recvmsg: an address, descriptors.
//
// Both come and go in native memory. Descriptors that are sent stay the caller's; those that are
// received are whoever's takes them, and are closed if nobody does.

import { Buffer } from "node:buffer";
import { ARGUMENTS_WORDS, DESCRIPTORS_MAX, OperationOption } from "./abi.ts";
import type { Transferred } from "./cargo.ts";
import type { Engine } from "./engine.ts";
import { argumentError, checkInteger } from "./errors.ts";
import { readAddress, type NumericAddress } from "./memory.ts";
import { native } from "./native.ts";
import { setOption, type Cargo } from "./operation.ts";

const WORDS = ARGUMENTS_WORDS;

/** What `recvmsg` yields. */
export interface Message<B> extends Transferred<readonly B[]> {
  /** The sender of a datagram; null on a stream, or if the sender has no address. */
  address: NumericAddress | null;
  /** Descriptors that came with it, in order, close-on-exec; yours to close. */
  descriptors: readonly number[];
}

/** Null for a peer without a name, such as a Unix socket that was never bound. */
export function addressOfOperation(engine: Engine, index: number): NumericAddress | null {
  const address = readAddress((out) => native.bu_operation_address(engine.handle, index, out));
  return address?.host === "" ? null : address;
}

/** The list of descriptors of a call. */
export function readDescriptors(kind: string, given: unknown): readonly number[] {
  if (given === undefined) return [];
  if (!Array.isArray(given) || given.length > DESCRIPTORS_MAX) {
    const expected = `an array of at most ${DESCRIPTORS_MAX} descriptors`;
    throw argumentError(kind, "descriptors", expected, given);
  }
  const list = [...(given as unknown[])];
  return list.map((fd) => checkInteger(kind, "a descriptor", fd, 0, 0x7fff_ffff));
}

/** How many descriptors a call takes. */
export function readRoom(kind: string, given: unknown): number {
  return checkInteger(kind, "descriptors", given ?? 0, 0, DESCRIPTORS_MAX);
}

/** Vectors behind the address that they go to and the descriptors that go with them. */
export class SentMessage<B> implements Cargo<Transferred<readonly B[]>> {
  readonly #vectors: Cargo<Transferred<readonly B[]>>;
  readonly #to: Uint8Array | null;
  readonly #descriptors: readonly number[];

  constructor(
    vectors: Cargo<Transferred<readonly B[]>>,
    to: Uint8Array | null,
    descriptors: readonly number[],
  ) {
    this.#vectors = vectors;
    this.#to = to;
    this.#descriptors = descriptors;
  }

  get input(): Uint8Array {
    const { input } = this.#vectors;
    const parts: Uint8Array[] = this.#to === null ? [] : [this.#to];
    const descriptors = Int32Array.from(this.#descriptors);
    parts.push(new Uint8Array(descriptors.buffer));
    if (input !== null) {
      parts.push(new Uint8Array(input.buffer, input.byteOffset, input.byteLength));
    }
    return Buffer.concat(parts);
  }

  get buffer(): unknown {
    return this.#vectors.buffer;
  }

  board(engine: Engine, kind: string, fd: number): void {
    this.#vectors.board(engine, kind, fd);
    if (this.#to !== null) setOption(engine, OperationOption.addressed);
    if (this.#descriptors.length === 0) return;
    setOption(engine, OperationOption.descriptors);
    engine.memory.arguments.integers[WORDS.extra] = this.#descriptors.length;
  }

  land(engine: Engine, index: number, result: number): number {
    return this.#vectors.land(engine, index, result);
  }

  orphan(): void {
    this.#vectors.orphan();
  }

  value(bytes: number): Transferred<readonly B[]> {
    return this.#vectors.value(bytes);
  }

  detail(result: number): unknown {
    return this.#vectors.detail(result);
  }
}

/** Vectors to fill, the sender's address, and the descriptors that came. */
export class ReceivedMessage<B> implements Cargo<Message<B>> {
  descriptors: readonly number[] = [];
  readonly #vectors: Cargo<Transferred<readonly B[]>>;
  readonly #room: number;
  #address: NumericAddress | null = null;

  constructor(vectors: Cargo<Transferred<readonly B[]>>, room: number) {
    this.#vectors = vectors;
    this.#room = room;
  }

  get input(): Uint8Array | Float64Array | null {
    return this.#vectors.input;
  }

  get buffer(): unknown {
    return this.#vectors.buffer;
  }

  board(engine: Engine, kind: string, fd: number): void {
    this.#vectors.board(engine, kind, fd);
    if (this.#room === 0) return;
    setOption(engine, OperationOption.descriptors);
    engine.memory.arguments.integers[WORDS.extra] = this.#room;
  }

  land(engine: Engine, index: number, result: number): number {
    if (result >= 0 && index >= 0) {
      this.#address = addressOfOperation(engine, index);
      if (this.#room > 0) this.descriptors = takeDescriptors(engine, index);
    }
    return this.#vectors.land(engine, index, result);
  }

  orphan(): void {
    this.#vectors.orphan();
  }

  value(bytes: number): Message<B> {
    const { descriptors } = this;
    return { ...this.#vectors.value(bytes), address: this.#address, descriptors };
  }

  detail(result: number): Message<B> {
    return this.value(Math.max(result, 0));
  }
}

function takeDescriptors(engine: Engine, index: number): readonly number[] {
  const out = new Int32Array(DESCRIPTORS_MAX);
  const bytes = new Uint8Array(out.buffer);
  const count = native.bu_operation_descriptors(engine.handle, index, bytes, DESCRIPTORS_MAX);
  return [...out.subarray(0, Math.max(count, 0))];
}

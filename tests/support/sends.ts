// For tests of sends in place: buffers of every kind with given bytes, and a send that cannot end
// before somebody lets it.

import {
  BufferPool,
  type Operation,
  type PooledBuffer,
  type Ring,
  type Transferred,
  type UringError,
} from "../../ts/index.ts";
import type { Pair } from "./pair.ts";
import type { Random } from "./random.ts";
import { turns, until } from "./until.ts";

/** What a send can be given, by name. */
export const MEMORY = ["string", "typed array", "moved", "shared", "pooled"] as const;
export type Kind = (typeof MEMORY)[number];
export type Sendable = string | Uint8Array | ArrayBuffer | SharedArrayBuffer | PooledBuffer;

/** A buffer of the kind with these bytes in it; of a string only its low seven bits count. */
export function filled(kind: Kind, bytes: Uint8Array, pool: BufferPool): Sendable {
  switch (kind) {
    case "string":
      return Buffer.from(bytes).toString("latin1");
    case "typed array":
      return new Uint8Array(bytes);
    case "moved":
      return new Uint8Array(bytes).buffer;
    case "shared": {
      const shared = new SharedArrayBuffer(bytes.length);
      new Uint8Array(shared).set(bytes);
      return shared;
    }
    case "pooled": {
      const buffer = pool.acquire();
      if (buffer === null) throw new Error("the pool is empty");
      buffer.bytes.set(bytes);
      return buffer;
    }
  }
}

/** Bytes that a string can carry one to one. */
export function ascii(random: Random, length: number): Buffer {
  const bytes = random.bytes(length);
  for (let i = 0; i < length; i++) bytes[i] = (bytes[i] ?? 0) & 0x7f;
  return bytes;
}

/** A pool whose buffers have exactly this size. */
export function poolOf(ring: Ring, size: number, count = 4): BufferPool {
  return new BufferPool({ ring, size, count });
}

/** The error of an operation that has to fail. */
export function failure(operation: PromiseLike<unknown>): Promise<UringError> {
  return Promise.resolve(operation).then(
    () => {
      throw new Error("it did not fail");
    },
    (error: unknown) => error as UringError,
  );
}

/** More bytes than both ends of a connection over loopback take. */
export const STUCK = 16 * 1024 * 1024;

export function numbered(length: number): Buffer {
  const numbers = new Uint32Array(length / 4);
  for (let i = 0; i < numbers.length; i++) numbers[i] = i;
  return Buffer.from(numbers.buffer);
}

/** Resolves when the kernel takes no more of what is sent. */
export async function stalled(ring: Ring): Promise<void> {
  let before = -1;
  await until(async () => {
    const { bytes_sent } = ring.stats();
    const still = bytes_sent === before;
    before = bytes_sent;
    await turns(20);
    return still && ring.stats().bytes_sent === before;
  });
}

/** A send of the client's that cannot end, since the server does not read, and its bytes. */
export async function stuck(
  both: Pair,
): Promise<{ operation: Operation<Transferred<ArrayBuffer>>; bytes: Buffer }> {
  both.server.pause();
  const bytes = numbered(STUCK);
  const operation = both.client.send(new Uint8Array(bytes).buffer);
  await stalled(both.ring);
  return { operation, bytes };
}

// binaryType "borrowed": a large chunk is the receive buffer itself while its handler runs. A view
// kept beyond it is empty; memory that the user moved away stays his until he lets it go, and never
// shows another connection's bytes meanwhile.

import { ptr } from "bun:ffi";
import { describe, expect, test } from "bun:test";
import { Ring, type Socket } from "../ts/index.ts";
import { mappings } from "./support/descriptors.ts";
import { pair, writeAll, type Pair } from "./support/pair.ts";
import { turns, until } from "./support/until.ts";

const BUFFER_SIZE = 16384;
const BUFFERS = 8;

/** Out here, so that it holds no scope of a test and what lies in it. */
const ignore = (): void => undefined;

interface Borrowing extends AsyncDisposable {
  ring: Ring;
  both: Pair;
  /** What the next chunks are given to. */
  onChunk: (chunk: Buffer<ArrayBuffer>) => void;
  /** Sends one chunk that is lent, filled with `byte`, and waits until it was handled. */
  send(byte: number): Promise<void>;
  free(): number;
}

/** A ring with few receive buffers and one connection that borrows from it. */
async function borrowing(): Promise<Borrowing> {
  const ring = new Ring({ receiveBuffers: BUFFERS, receiveBufferSize: BUFFER_SIZE });
  let received = 0;
  const both = await pair({
    ring,
    serverSocket: {
      binaryType: "borrowed",
      data(_socket: Socket, chunk: Buffer<ArrayBuffer>) {
        received += chunk.length;
        self.onChunk(chunk);
      },
    },
  });
  const self: Borrowing = {
    ring,
    both,
    onChunk: ignore,
    async send(byte) {
      const before = received;
      await writeAll(both.client, both.atClient, Buffer.alloc(BUFFER_SIZE, byte));
      await until(() => received === before + BUFFER_SIZE);
    },
    free: () => ring.stats().receive_buffers_free,
    async [Symbol.asyncDispose]() {
      both.listener.stop(true);
      await ring.close();
    },
  };
  return self;
}

const filledWith = (bytes: Uint8Array, byte: number) => bytes.every((one) => one === byte);

describe("a lent chunk", () => {
  test("lies in the ring's own memory, a copied one does not", async () => {
    await using own = await borrowing();
    // The largest mapping that this chunk lies in is the slab: receive and staging blocks together.
    const places: { size: number; lent: boolean }[] = [];
    own.onChunk = (chunk) => {
      const address = ptr(chunk);
      const slab = own.ring.memory.records;
      const start = ptr(new Uint8Array(slab.buffer));
      const lent = address >= start && address + chunk.length <= start + slab.buffer.byteLength;
      places.push({ size: chunk.length, lent });
      expect(mappings().some(({ from, to }) => from <= address && address < to)).toBe(true);
    };
    await own.send(1);
    own.both.client.write(Buffer.alloc(64));
    await until(() => places.some(({ size }) => size === 64));
    const large = places.filter(({ size }) => size >= 8192);
    expect(large.length).toBeGreaterThan(0);
    expect(large.every(({ lent }) => lent)).toBe(true);
    expect(places.find(({ size }) => size === 64)?.lent).toBe(false);
  });

  test("has an ArrayBuffer of its own, with nothing else in it", async () => {
    await using own = await borrowing();
    const sizes: number[][] = [];
    own.onChunk = ({ length, buffer, byteOffset }) => {
      sizes.push([length, buffer.byteLength, byteOffset]);
    };
    await own.send(7);
    for (const [length, whole, offset] of sizes.filter(([length = 0]) => length >= 4096)) {
      expect([whole, offset]).toEqual([length as number, 0]);
    }
  });

  test("is empty once its handler has returned, and so is every view of it", async () => {
    await using own = await borrowing();
    const kept: (Uint8Array | DataView)[] = [];
    own.onChunk = (chunk) => {
      if (chunk.length < 4096) return;
      expect(filledWith(chunk, 7)).toBe(true);
      kept.push(chunk, chunk.subarray(10, 20), new Uint8Array(chunk.buffer, 5, 5));
      kept.push(new DataView(chunk.buffer));
    };
    await own.send(7);
    expect(kept.length).toBeGreaterThan(0);
    const [chunk, ...views] = kept as [Buffer, ...Uint8Array[]];
    expect([chunk.length, chunk[0], chunk.toString()]).toEqual([0, undefined, ""]);
    for (const view of views) {
      if (view instanceof DataView) expect(() => view.getUint8(0)).toThrow(TypeError);
      else expect([view.length, view[0]]).toEqual([0, undefined]);
    }
    await until(() => own.free() === BUFFERS);
  });

  test("goes back when the handler throws, too", async () => {
    await using own = await borrowing();
    const errors: string[] = [];
    let kept: Buffer | undefined;
    using thrower = await pair({
      ring: own.ring,
      serverSocket: {
        binaryType: "borrowed",
        data(_socket: Socket, chunk: Buffer) {
          if (chunk.length >= 4096) kept = chunk;
          throw new RangeError("mine");
        },
        error: (_socket: Socket, error: Error) => void errors.push(error.message),
      },
    });
    thrower.client.write(Buffer.alloc(BUFFER_SIZE, 1));
    await until(() => kept !== undefined);
    await until(() => own.free() === BUFFERS);
    expect(kept?.length).toBe(0);
    expect(errors[0]).toBe("mine");
  });
});

/** Ways to take the memory away from the chunk, and to keep it. */
const MOVES: Record<string, (memory: ArrayBuffer) => ArrayBuffer> = {
  "transfer()": (memory) => memory.transfer(),
  structuredClone: (memory) => structuredClone(memory, { transfer: [memory] }),
};

describe.each(Object.keys(MOVES))("memory moved away by %s", (way) => {
  /** Moves one lent buffer out, filled with 0xaa; alone in a function, so that nothing holds it. */
  async function moveOne(own: Borrowing): Promise<Uint8Array[]> {
    const moved: Uint8Array[] = [];
    own.onChunk = (chunk) => {
      if (chunk.length < 4096 || moved.length > 0) return;
      const memory = MOVES[way]?.(chunk.buffer) ?? new ArrayBuffer(0);
      moved.push(new Uint8Array(memory));
      expect(chunk.length).toBe(0);
    };
    await own.send(0xaa);
    own.onChunk = ignore;
    // Not expect(moved): it would hold what it was given.
    expect(moved.length).toBe(1);
    return moved;
  }

  test("stays readable and unchanged while others receive", async () => {
    await using own = await borrowing();
    const [kept] = (await moveOne(own)) as [Uint8Array];
    expect(own.free()).toBeLessThan(BUFFERS);
    for (let i = 0; i < 5 * BUFFERS; i++) await own.send(i);
    expect(kept.length).toBeGreaterThanOrEqual(4096);
    expect(filledWith(kept, 0xaa)).toBe(true);
  });

  test("gives its buffer back when it is collected", async () => {
    await using own = await borrowing();
    await (async () => void (await moveOne(own)))();
    await until(async () => {
      Bun.gc(true);
      // Turns of the ring take it back; an event makes them.
      await own.send(1);
      await turns(10);
      return own.free() === BUFFERS;
    }, "the buffer is free again");
  });

  test("outlives its ring", async () => {
    const own = await borrowing();
    const [kept] = (await moveOne(own)) as [Uint8Array];
    await own[Symbol.asyncDispose]();
    await using other = await borrowing();
    for (let i = 0; i < BUFFERS; i++) await other.send(i);
    expect(filledWith(kept, 0xaa)).toBe(true);
    kept.fill(0xbb);
    expect(filledWith(kept, 0xbb)).toBe(true);
  });
});

describe("buffers that the user holds", () => {
  test("stop at three quarters: further chunks are copies, and others receive", async () => {
    await using own = await borrowing();
    const held: ArrayBuffer[] = [];
    own.onChunk = (chunk) => {
      if (chunk.length >= 4096) held.push(chunk.buffer.transfer());
    };
    const { client, atClient } = own.both;
    using other = await pair({ ring: own.ring });
    const most = (BUFFERS * 3) / 4;
    while (held.length < 2 * BUFFERS) {
      const before = held.length;
      await writeAll(client, atClient, Buffer.alloc(BUFFER_SIZE, 3));
      await until(() => held.length > before);
    }
    expect(own.ring.stats().receive_buffers_lent).toBe(most);
    expect(held.every((memory) => filledWith(new Uint8Array(memory), 3))).toBe(true);
    other.client.write("not waiting");
    expect((await other.atServer.received(11)).toString()).toBe("not waiting");

    // From outside of any handler.
    own.onChunk = ignore;
    for (const memory of held) memory.transfer(0);
    await turns(10);
    expect(own.ring.stats().receive_buffers_lent).toBe(0);
  });
});

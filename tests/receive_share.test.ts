// What one connection may take: its share of the receive buffers, pauses that reach the peer, and
// the line in which connections wait for a buffer.

import { describe, expect, test } from "bun:test";
import { Ring, type BorrowedChunk, type RingOptions, type Socket } from "../ts/index.ts";
import { backend, features } from "./support/backend.ts";
import { program, run } from "./support/child.ts";
import { thrown } from "./support/operations.ts";
import { pair, writeAll, type Pair } from "./support/pair.ts";
import { seeded } from "./support/random.ts";
import { turns, until } from "./support/until.ts";

const KIB = 1024;
const MIB = 1024 * KIB;

/** Writes as long as the other side takes anything: what TCP and both ends hold in between. */
async function fill(both: Pair): Promise<number> {
  const bytes = Buffer.alloc(256 * KIB, 1);
  let total = 0;
  for (let dry = 0; dry < 30; ) {
    const taken = both.client.write(bytes);
    total += taken;
    dry = taken > 0 ? 0 : dry + 1;
    await turns(1);
  }
  return total;
}

describe("a paused socket", () => {
  test("makes its peer stop, and loses nothing", async () => {
    await using ring = new Ring();
    using both = await pair({ ring });
    both.server.pause();
    const sent = await fill(both);
    expect(both.client.write("more")).toBe(0);
    const before = ring.stats().bytes_received;
    await turns(200);
    expect(ring.stats().bytes_received).toBe(before);
    expect([both.atServer.length, before]).toEqual([0, 0]);
    both.server.resume();
    await both.atServer.received(sent);
    expect(both.atServer.length).toBe(sent);
  });

  test.each(["buffer", "uint8array", "arraybuffer", "borrowed"] as const)(
    "hears nothing from the call of pause on, whatever is on its way: %s",
    async (binaryType) => {
      await seeded(async (random) => {
        const bytes = random.bytes(3 * MIB);
        const parts: Buffer[] = [];
        let paused = false;
        let length = 0;
        await using ring = new Ring();
        using both = await pair({
          ring,
          serverSocket: {
            binaryType,
            data(socket: Socket, chunk: Uint8Array | ArrayBuffer) {
              expect(paused).toBe(false);
              const part = Buffer.from(new Uint8Array(chunk));
              parts.push(part);
              length += part.length;
              paused = true;
              socket.pause();
              const count = random.between(0, 3);
              void turns(count).then(() => {
                paused = false;
                socket.resume();
              });
            },
            end: () => void expect([paused, length]).toEqual([false, bytes.length]),
          },
        });
        await writeAll(both.client, both.atClient, bytes);
        both.client.end();
        await both.atClient.closed.promise;
        expect(Buffer.concat(parts).equals(bytes)).toBe(true);
      });
    },
  );

  test("keeps no more than its share of what was on its way", async () => {
    await using ring = new Ring({ holdBytes: 64 * KIB, receiveBlocks: 0 });
    let delivered = 0;
    using both = await pair({
      ring,
      serverSocket: {
        data(socket: Socket, chunk: Buffer) {
          delivered += chunk.length;
          socket.pause();
        },
      },
    });
    await fill(both);
    const { bytes_received: received } = ring.stats();
    expect(delivered).toBeGreaterThan(0);
    // Without the kernel's own limit it has handed over what the socket held.
    const most = ring.features.has("receive_limit") ? 64 * KIB : MIB;
    expect(received - delivered).toBeLessThanOrEqual(most);
  });

  test("hears of the end after it was resumed, behind the bytes before it", async () => {
    using both = await pair();
    both.client.write("last words");
    await both.atServer.received(10);
    both.server.pause();
    both.client.end("and more");
    await turns(100);
    expect(both.atServer.order).toEqual(["open", "data"]);
    both.server.resume();
    await both.atServer.ended.promise;
    expect(both.atServer.bytes.toString()).toBe("last wordsand more");
    expect(both.atServer.order).toEqual(["open", "data", "end", "close"].slice(0, 3));
  });

  test("goes on after resume, not within it", async () => {
    const seen: string[] = [];
    using both = await pair({
      serverSocket: {
        data(socket: Socket, chunk: Buffer) {
          seen.push(chunk.toString());
          if (seen.length === 1) socket.pause();
        },
      },
    });
    both.client.write("one");
    await until(() => seen.length === 1);
    both.client.write("two");
    await turns(50);
    expect(seen).toEqual(["one"]);
    both.server.resume();
    expect(seen).toEqual(["one"]);
    await until(() => seen.length === 2);
    expect(seen).toEqual(["one", "two"]);
  });

  test("that is paused again by the first chunk keeps the others", async () => {
    const bytes = Buffer.alloc(100_000, 7);
    let length = 0;
    let calls = 0;
    using both = await pair({
      serverSocket: {
        data(socket: Socket, chunk: Buffer) {
          calls++;
          length += chunk.length;
          socket.pause();
        },
      },
    });
    await writeAll(both.client, both.atClient, bytes);
    while (length < bytes.length) {
      const before = calls;
      await until(() => calls > before || length === bytes.length);
      expect(calls).toBeLessThanOrEqual(before + 1);
      await turns(5);
      expect(calls).toBeLessThanOrEqual(before + 1);
      both.server.resume();
    }
    expect(length).toBe(bytes.length);
  });

  test("that breaks closes at once; what was kept is gone", async () => {
    using both = await pair();
    both.server.pause();
    both.client.write("unheard");
    await turns(20);
    both.client.terminate();
    both.server.resume();
    await both.atServer.closed.promise;
    await turns(20);
    expect(both.atServer.order.at(-1)).toBe("close");
  });

  test("can be paused and resumed any number of times, at any stage", async () => {
    using both = await pair();
    for (let i = 0; i < 100; i++) {
      both.server.pause();
      both.server.pause();
      both.server.resume();
    }
    both.client.write("heard");
    await both.atServer.received(5);
    both.client.terminate();
    await both.atServer.closed.promise;
    both.server.pause();
    both.server.resume();
    expect(both.atServer.order).toEqual(["open", "data", "close"]);
  });
});

/** A pair whose server keeps every chunk that is lent. */
async function keeping(options: RingOptions) {
  const ring = new Ring(options);
  const kept: BorrowedChunk[] = [];
  const both = await pair({
    ring,
    serverSocket: {
      binaryType: "borrowed",
      data: (_socket: Socket, chunk: BorrowedChunk) => {
        if (chunk.lent) kept.push(chunk.keep());
      },
    },
  });
  return {
    ring,
    kept,
    both,
    async [Symbol.asyncDispose]() {
      both.listener.stop(true);
      await ring.close();
    },
  };
}

describe("a connection that holds its share", () => {
  test.each([
    ["eight buffers", {}, 8],
    ["128 KiB", { holdBuffers: 100, receiveBufferSize: 32 * KIB }, 4],
    ["two buffers", { holdBuffers: 2 }, 2],
    ["100 bytes", { holdBytes: 100 }, 1],
  ] as const)("stops at %s, and goes on when half of it is back", async (_name, options, most) => {
    await using own = await keeping({ receiveBlocks: 0, ...options });
    const { kept, ring } = own;
    await fill(own.both);
    // Without the kernel's own limit a few more are on their way.
    const limited = ring.features.has("receive_limit");
    if (limited) expect(kept.length).toBe(most);
    else expect(kept.length).toBeGreaterThanOrEqual(most);
    const stopped = ring.stats().bytes_received;
    expect(ring.stats()).toMatchObject({ chunks_kept: kept.length, receive_held: 1 });

    const half = kept.length - Math.floor(most / 2);
    for (let i = 0; i < half - 1; i++) kept.shift()?.release();
    await turns(50);
    if (limited) expect(ring.stats().bytes_received).toBe(stopped);
    kept.shift()?.release();
    await until(() => ring.stats().bytes_received > stopped);
    for (const chunk of kept) chunk.release();
  });

  test("does not hold up others", async () => {
    await using own = await keeping({});
    await fill(own.both);
    using other = await pair({ ring: own.ring });
    const bytes = Buffer.alloc(4 * MIB, 3);
    await writeAll(other.client, other.atClient, bytes);
    expect((await other.atServer.received(bytes.length)).equals(bytes)).toBe(true);
    for (const chunk of own.kept) chunk.release();
  });

  // Single receives take a buffer at a time, which never is much.
  const large = test.if(features.has("multishot_receive"));
  large("receives nothing while it keeps one large block", async () => {
    await using own = await keeping({ holdBytes: 64 * KIB });
    await fill(own.both);
    const { ring, kept } = own;
    while (ring.stats().receive_large === 0) {
      for (const chunk of kept.splice(0)) chunk.release();
      await turns(2);
    }
    await turns(50);
    const { bytes_received: stopped, receive_blocks_free: free } = ring.stats();
    // Without the kernel's own limit the next one may be full before this one counts.
    expect(free).toBeWithin(ring.features.has("receive_limit") ? 15 : 14, 16);
    await turns(50);
    expect(ring.stats().bytes_received).toBe(stopped);
    for (const chunk of kept.splice(0)) chunk.release();
    await until(() => ring.stats().bytes_received > stopped);
    for (const chunk of kept) chunk.release();
  });

  test.each([
    { holdBuffers: 0 }, { holdBuffers: 1.5 }, { holdBytes: 0 }, { holdBytes: 2 ** 31 },
    { receiveBlocks: 3 }, { receiveBlocks: -1 }, { receiveBlocks: 2048 },
    { receiveBlockSize: 5000 }, { receiveBlockSize: 2 ** 25 }, { onStarved: 1 },
  ])("is refused with %p", (options) => {
    const error = thrown(() => new Ring(options as RingOptions)) as Error & { code?: string };
    expect(error.code).toBe("EINVAL");
  });
});

describe("connections that find no buffer", () => {
  /** Floods from many connections into a ring with two buffers. */
  async function crowd(options: RingOptions, count: number) {
    const starvations: number[] = [];
    const ring = new Ring({
      receiveBuffers: 2,
      receiveBufferSize: 4096,
      receiveBlocks: 0,
      onStarved: (waiting) => void starvations.push(waiting),
      ...options,
    });
    const pairs = await Promise.all(Array.from({ length: count }, () => pair({ ring })));
    return {
      ring,
      pairs,
      starvations,
      async [Symbol.asyncDispose]() {
        for (const both of pairs) both.listener.stop(true);
        await ring.close();
      },
    };
  }

  test.each([{}, { disable: ["defer_taskrun", "receive_limit"] as const }])(
    "are all served, in turn: %p",
    async (options) => {
      await using own = await crowd(options as RingOptions, 24);
      const size = 200_000;
      // Each waits for nobody: a full send buffer and more.
      const bytes = Buffer.alloc(size, 1);
      const written = own.pairs.map((both) => writeAll(both.client, both.atClient, bytes));
      // When one has half of it, none has nothing, and none is far behind.
      await until(() => own.pairs.some((both) => both.atServer.length > size / 2));
      const lengths = own.pairs.map((both) => both.atServer.length);
      expect(Math.min(...lengths)).toBeGreaterThan(size / 8);
      await Promise.all(written);
      await Promise.all(own.pairs.map((both) => both.atServer.received(size)));
      const stats = own.ring.stats();
      expect(stats.parks).toBeGreaterThan(0);
      expect(stats.receive_starved).toBeGreaterThanOrEqual(stats.parks);
      await until(() => own.ring.stats().receive_buffers_free === 2);
      expect(own.starvations.length).toBeGreaterThan(0);
      expect(Math.max(...own.starvations)).toBeGreaterThan(1);
    },
  );

  test("are served though `onStarved` throws, and the process hears of it", async () => {
    const { code, stdout } = await run(program("starved_throws"));
    expect(JSON.parse(stdout)).toEqual({ came: 1_200_000, told: true, errors: ["starved"] });
    expect(code).toBe(0);
  });

  test("one that pauses or closes while it waits is out of the line", async () => {
    await using own = await crowd({}, 12);
    for (const both of own.pairs) both.client.write(Buffer.alloc(50_000, 1));
    const [first, second, third] = own.pairs as [Pair, Pair, Pair];
    first.server.pause();
    second.server.terminate();
    third.client.terminate();
    await Promise.all(own.pairs.slice(3).map((both) => both.atServer.received(50_000)));
    expect(first.atServer.length).toBe(0);
    first.server.resume();
    await first.atServer.received(50_000);
    await second.atServer.closed.promise;
    await third.atServer.closed.promise;
  });

  // epoll hands over so few at a time that the first buffers are enough.
  test.if(backend === "uring")("the ring grows while it runs empty, then shrinks", async () => {
    await using ring = new Ring({ receiveBufferSize: 64 });
    expect(ring.stats().receive_buffers_target).toBe(64);
    using both = await pair({ ring });
    await writeAll(both.client, both.atClient, Buffer.alloc(300_000, 1));
    await both.atServer.received(300_000);
    const others = await Promise.all(Array.from({ length: 80 }, () => pair({ ring })));
    for (const other of others) other.client.write(Buffer.alloc(64 * 8, 1));
    await Promise.all(others.map((other) => other.atServer.received(64 * 8)));
    const grown = ring.stats().receive_buffers_target;
    expect(grown).toBeGreaterThan(64);
    for (let i = 0; ring.stats().receive_buffers_target === grown; i++) {
      both.client.write("x");
      await both.atServer.received(300_001 + i);
      if (i > 20_000) throw new Error("it never shrinks");
    }
    for (const other of others) other[Symbol.dispose]();
  });
});

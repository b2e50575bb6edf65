// Borrowed chunks that outlive their handler: `keep`, `release`, iteration, streams, collection;
// and a long run in which every kind of stale view is kept, and none ever shows other bytes.

import { describe, expect, test } from "bun:test";
import { Ring, type BorrowedChunk, type RingOptions, type Socket } from "../ts/index.ts";
import { features } from "./support/backend.ts";
import { thrown } from "./support/operations.ts";
import { pair, writeAll, type Pair } from "./support/pair.ts";
import { seeded, type Random } from "./support/random.ts";
import { turn, turns, until } from "./support/until.ts";

const SIZE = 16384;
const filledWith = (bytes: Uint8Array, byte: number) => bytes.every((one) => one === byte);

/** Out here, so that it holds no scope of a test and what lies in it. */
const ignore = (): void => undefined;

interface Borrower extends AsyncDisposable {
  ring: Ring;
  both: Pair;
  onChunk: (chunk: BorrowedChunk, socket: Socket) => unknown;
  /** Sends bytes and waits until they were handled. */
  send(bytes: Uint8Array): Promise<void>;
  sendOne(byte: number): Promise<void>;
}

async function borrower(options: RingOptions = {}): Promise<Borrower> {
  const ring = new Ring({ receiveBuffers: 16, holdBuffers: 100, holdBytes: 1 << 24, ...options });
  let handled = 0;
  const both = await pair({
    ring,
    serverSocket: {
      binaryType: "borrowed",
      data(socket: Socket, chunk: BorrowedChunk) {
        handled += chunk.length;
        return self.onChunk(chunk, socket);
      },
    },
  });
  const self: Borrower = {
    ring,
    both,
    onChunk: ignore,
    async send(bytes) {
      const before = handled;
      await writeAll(both.client, both.atClient, bytes);
      await until(() => handled === before + bytes.length);
    },
    sendOne: (byte) => self.send(Buffer.alloc(SIZE, byte)),
    async [Symbol.asyncDispose]() {
      both.listener.stop(true);
      await ring.close();
    },
  };
  return self;
}

/** One lent chunk that is kept, filled with `byte`. */
async function keepOne(own: Borrower, byte: number): Promise<BorrowedChunk> {
  let kept: BorrowedChunk | undefined;
  own.onChunk = (chunk) => {
    if (kept === undefined && chunk.lent) kept = chunk.keep();
  };
  while (kept === undefined) await own.sendOne(byte);
  own.onChunk = ignore;
  return kept;
}

describe("a borrowed chunk", () => {
  test("is a Buffer with all that belongs to one", async () => {
    await using own = await borrower();
    const text = "abc".repeat(3000);
    const seen: unknown[] = [];
    own.onChunk = (chunk) => {
      if (!chunk.lent) return;
      const head = chunk.subarray(0, 3);
      seen.push(chunk instanceof Buffer, Buffer.isBuffer(chunk), chunk instanceof Uint8Array);
      seen.push(head.toString(), chunk.toString("latin1", 3, 6), chunk.indexOf("cab"));
      seen.push(head.constructor === Buffer, chunk.map((byte) => byte + 1).constructor === Buffer);
      seen.push(chunk.slice(0, 3).equals(Buffer.from("abc")), chunk.readUInt8(1), chunk.at(0));
      seen.push(Buffer.concat([chunk, head]).length - chunk.length);
    };
    await own.send(Buffer.from(text));
    const expected = [true, true, true, "abc", "abc", 2, true, true, true, 98, 97, 3];
    expect(seen.slice(0, expected.length)).toEqual(expected);
  });

  test("stays where it is with keep, until release empties every view of it", async () => {
    await using own = await borrower();
    const kept = await keepOne(own, 7);
    const views = [kept, kept.subarray(5, 10), new Uint8Array(kept.buffer)];
    for (let i = 0; i < 50; i++) await own.sendOne(i);
    expect([kept.length > 0, filledWith(kept, 7), kept.lent]).toEqual([true, true, true]);
    expect(own.ring.stats()).toMatchObject({ chunks_kept: 1, receive_buffers_lent: 1 });
    kept.release();
    expect(views.map((view) => view.length)).toEqual([0, 0, 0]);
    expect(kept.lent).toBe(false);
    await until(() => own.ring.stats().receive_buffers_lent === 0);
    expect(own.ring.stats()).toMatchObject({ chunks_kept: 0, chunks_collected: 0 });
  });

  test("goes back at the end of a using block, also of one that waits", async () => {
    await using own = await borrower();
    const done = Promise.withResolvers<BorrowedChunk>();
    own.onChunk = async (chunk) => {
      if (!chunk.lent) return;
      {
        using kept = chunk.keep();
        await turns(20);
        expect(filledWith(kept, 3)).toBe(true);
      }
      done.resolve(chunk);
    };
    await own.sendOne(3);
    expect((await done.promise).length).toBe(0);
    expect(own.ring.stats().chunks_kept).toBe(0);
  });

  test("can be kept and released any number of times", async () => {
    await using own = await borrower();
    const kept = await keepOne(own, 1);
    expect(kept.keep()).toBe(kept);
    expect(kept.keep().keep()).toBe(kept);
    expect(own.ring.stats().chunks_kept).toBe(1);
    kept.release();
    kept.release();
    kept[Symbol.dispose]();
    expect(own.ring.stats().chunks_kept).toBe(0);
    await until(() => own.ring.stats().receive_buffers_lent === 0);
  });

  test("that has gone back cannot be kept, and says so", async () => {
    await using own = await borrower();
    let late: BorrowedChunk | undefined;
    let early: unknown;
    own.onChunk = (chunk) => {
      if (!chunk.lent) return;
      if (late === undefined) late = chunk;
      else {
        chunk.release();
        early = thrown(() => chunk.keep());
      }
    };
    while (early === undefined) await own.sendOne(1);
    for (const error of [early, thrown(() => late?.keep())]) {
      expect(error).toMatchObject({ code: "EINVAL", operation: "keep" });
      expect((error as Error).message).toContain("before its handler returns");
    }
  });

  test("that is small is a copy, and remains one", async () => {
    await using own = await borrower();
    let small: BorrowedChunk | undefined;
    own.onChunk = (chunk) => void (small ??= chunk);
    await own.send(Buffer.from("small"));
    expect([small?.lent, small?.toString(), small?.keep().toString()]).toEqual([
      false, "small", "small",
    ]);
    small?.release();
    expect([small?.toString(), own.ring.stats().chunks_kept]).toEqual(["small", 0]);
  });

  test("is a copy once three quarters of the buffers are out", async () => {
    await using own = await borrower({ receiveBuffers: 8 });
    const kept: BorrowedChunk[] = [];
    own.onChunk = (chunk) => {
      if (chunk.length >= 4096) kept.push(chunk.keep());
    };
    for (let i = 0; kept.length < 20; i++) await own.sendOne(i);
    const lent = kept.filter((chunk) => chunk.lent);
    expect(lent.length).toBe(6);
    expect(own.ring.stats()).toMatchObject({ chunks_kept: 6, receive_buffers_lent: 6 });
    expect(kept.every((chunk) => filledWith(chunk, chunk[0] as number))).toBe(true);
    for (const chunk of kept) chunk.release();
    expect(kept.filter((chunk) => chunk.length === 0)).toEqual(lent);
  });

  // Single receives take a buffer at a time, which never is much.
  const large = test.if(features.has("multishot_receive"));
  large("in a large block is kept like any other", async () => {
    await using own = await borrower({ holdBytes: 32768, holdBuffers: 2 });
    const bytes = Buffer.alloc(2 << 20, 9);
    let block: BorrowedChunk | undefined;
    own.onChunk = (chunk) => {
      if (block === undefined && chunk.length > SIZE) block = chunk.keep();
    };
    void writeAll(own.both.client, own.both.atClient, bytes);
    await until(() => block !== undefined);
    expect(filledWith(block as BorrowedChunk, 9)).toBe(true);
    // The next one may be full before this one counts in the share.
    await until(() => own.ring.stats().receive_blocks_free === 15);
    block?.release();
    await until(() => own.ring.stats().receive_blocks_free === 16);
  });
});

describe("a kept chunk outlives", () => {
  test.each(["end", "close", "terminate"] as const)("its socket's %s", async (way) => {
    await using own = await borrower();
    const kept = await keepOne(own, 5);
    own.both.server[way]();
    own.both.client.end();
    await until(() => own.both.server.readyState === -1);
    await turns(20);
    expect([filledWith(kept, 5), kept.length]).toEqual([true, kept.buffer.byteLength]);
    kept.release();
    await until(() => own.ring.stats().receive_buffers_lent === 0);
    // The buffer serves the next connection.
    using next = await pair({ ring: own.ring });
    next.client.write("next");
    expect((await next.atServer.received(4)).toString()).toBe("next");
  });

  test("its ring, and can be released after it", async () => {
    const own = await borrower();
    const kept = [await keepOne(own, 5), await keepOne(own, 6)] as const;
    await own[Symbol.asyncDispose]();
    await using other = await borrower();
    for (let i = 0; i < 20; i++) await other.sendOne(i);
    expect([filledWith(kept[0], 5), filledWith(kept[1], 6)]).toEqual([true, true]);
    expect(kept[0].keep()).toBe(kept[0]);
    kept[0].fill(1);
    kept[0].release();
    kept[1].release();
    expect([kept[0].length, kept[1].length]).toEqual([0, 0]);
  });

  test("its handler's throw", async () => {
    await using own = await borrower();
    let kept: BorrowedChunk | undefined;
    own.both.server.reload({
      socket: {
        binaryType: "borrowed",
        data(_socket: unknown, chunk: BorrowedChunk) {
          kept ??= chunk.lent ? chunk.keep() : undefined;
          throw new RangeError("mine");
        },
        error: () => undefined,
      },
    });
    while (kept === undefined) {
      own.both.client.write(Buffer.alloc(SIZE, 4));
      await turns(5);
    }
    expect(filledWith(kept, 4)).toBe(true);
    kept.release();
  });

  test("a move of its memory: release then has nothing to do", async () => {
    await using own = await borrower();
    const kept = await keepOne(own, 8);
    const moved = structuredClone(kept.buffer, { transfer: [kept.buffer] });
    kept.release();
    expect(own.ring.stats()).toMatchObject({ chunks_kept: 0, receive_buffers_lent: 1 });
    expect(filledWith(new Uint8Array(moved), 8)).toBe(true);
    moved.transfer(0);
    await until(() => own.ring.stats().receive_buffers_lent === 0);
  });
});

test("a kept chunk that is collected goes back, and is counted", async () => {
  await using own = await borrower();
  await (async () => {
    for (let i = 0; i < 3; i++) await keepOne(own, i);
  })();
  expect(own.ring.stats().chunks_kept).toBe(3);
  await until(async () => {
    Bun.gc(true);
    await own.sendOne(1);
    await turns(5);
    return own.ring.stats().receive_buffers_lent === 0;
  }, "the buffers are back");
  await until(() => own.ring.stats().chunks_collected === 3);
  expect(own.ring.stats().chunks_kept).toBe(0);
});

/** A pair whose server has no `data` handler and borrows. */
const reader = (ring: Ring) =>
  pair({ ring, serverSocket: { data: undefined, binaryType: "borrowed" } });

describe("for await with borrowed chunks", () => {
  test("gives each until the next one is asked for, and all bytes", async () => {
    await seeded(async (random) => {
      await using ring = new Ring();
      using both = await reader(ring);
      const bytes = random.bytes(3_000_000);
      const written = writeAll(both.client, both.atClient, bytes).then(() => both.client.end());
      const copies: Buffer[] = [];
      let before: Buffer | null = null;
      let lent = 0;
      for await (const chunk of both.server) {
        const was = before as BorrowedChunk | null;
        if (was !== null && copies.at(-1)?.length !== was.length) lent++;
        copies.push(Buffer.from(chunk));
        await turn();
        expect(chunk.equals(copies.at(-1) as Buffer)).toBe(true);
        before = chunk;
      }
      await written;
      expect(Buffer.concat(copies).equals(bytes)).toBe(true);
      expect(lent).toBeGreaterThan(0);
      await until(() => ring.stats().receive_buffers_lent === 0);
    });
  });

  test("a kept one stays beyond it; leaving the loop gives the others back", async () => {
    await using ring = new Ring();
    using both = await reader(ring);
    void writeAll(both.client, both.atClient, Buffer.alloc(1_000_000, 6)).catch((error: Error) => {
      expect(error.message).toContain("closed after");
    });
    let kept: BorrowedChunk | undefined;
    for await (const chunk of both.server) {
      const borrowed = chunk as BorrowedChunk;
      if (kept !== undefined) break;
      if (borrowed.lent) kept = borrowed.keep();
    }
    await until(() => ring.stats().receive_buffers_lent === 1);
    expect(filledWith(kept as BorrowedChunk, 6)).toBe(true);
    kept?.release();
    await until(() => ring.stats().receive_buffers_lent === 0);
  });

  test("a stream's chunks are its reader's own", async () => {
    await seeded(async (random) => {
      await using ring = new Ring();
      using both = await reader(ring);
      const bytes = random.bytes(2_000_000);
      void writeAll(both.client, both.atClient, bytes).then(() => both.client.end());
      const chunks: Uint8Array[] = [];
      for await (const chunk of both.server.readable) chunks.push(chunk);
      expect(Buffer.concat(chunks).equals(bytes)).toBe(true);
      await until(() => ring.stats().receive_buffers_lent === 0);
    });
  });
});

interface Stale {
  view: Uint8Array;
  byte: number;
  release: () => void;
}

/** Does something with a chunk of this byte, and leaves a view that may be stale. */
function useChunk(chunk: BorrowedChunk, byte: number, random: Random, stale: Stale[]): void {
  const nothing = () => undefined;
  switch (random.between(0, 6)) {
    case 0:
      stale.push({ view: chunk, byte, release: nothing });
      break;
    case 1:
      stale.push({ view: chunk.subarray(1, chunk.length >> 1), byte, release: nothing });
      break;
    case 2:
      stale.push({ view: new Uint8Array(chunk.buffer), byte, release: nothing });
      break;
    case 3:
      stale.push({ view: chunk.keep(), byte, release: () => chunk.release() });
      break;
    case 4:
      chunk.keep(); // and never released
      break;
    case 5: {
      const view = new Uint8Array(chunk.lent ? chunk.buffer.transfer() : chunk);
      stale.push({ view, byte, release: nothing });
      break;
    }
    default: {
      const memory = chunk.lent ? chunk.buffer : Buffer.from(chunk).buffer;
      const view = new Uint8Array(structuredClone(memory, { transfer: [memory] }));
      stale.push({ view: chunk.lent ? chunk : view, byte, release: nothing });
    }
  }
}

test("no stale view ever shows another connection's bytes", async () => {
  await seeded(async (random) => {
    await using ring = new Ring({ receiveBuffers: 16, receiveBlocks: 2, holdBytes: 65536 });
    const stale: Stale[] = [];
    let handled = 0;
    const connections = await Promise.all(Array.from({ length: 8 }, (_, byte) => pair({
      ring,
      serverSocket: {
        binaryType: "borrowed",
        data(_socket: Socket, chunk: BorrowedChunk) {
          handled++;
          expect(filledWith(chunk, byte)).toBe(true);
          useChunk(chunk, byte, random, stale);
        },
      },
    })));
    const sending = connections.map(async ({ client, atClient }, byte) => {
      for (let i = 0; i < 60; i++) {
        await writeAll(client, atClient, Buffer.alloc(random.size(1, 300_000), byte));
        await turn();
      }
    });
    let over = false;
    let emptied = 0;
    const sent = Promise.all(sending).finally(() => void (over = true));
    while (!over) {
      await turn();
      // A view is empty, or shows the bytes of its own connection.
      for (const { view, byte } of stale) {
        expect(view.length === 0 || filledWith(view, byte)).toBe(true);
        emptied += Number(view.length === 0);
      }
      while (stale.length > 40) stale.splice(random.between(0, 40), 1)[0]?.release();
      if (random.chance(0.05)) Bun.gc(true);
    }
    await sent;
    expect(handled).toBeGreaterThan(200);
    expect(emptied).toBeGreaterThan(0);
    for (const both of connections) both[Symbol.dispose]();
  });
});

// What arrives is what was sent: echoes of random sizes checked byte by byte, over every kind of
// socket, against node:net on either side, with slow readers and both ways of ending.
// Sizes and bytes come from a seed, which a failing run prints.

import { describe, expect, test } from "bun:test";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { listen, Ring, type Socket } from "../ts/index.ts";
import {
  echoClient,
  echoServer,
  expectEchoes,
  planOf,
  type Kind,
} from "./support/echo.ts";
import { pair, writeAll } from "./support/pair.ts";
import { seeded } from "./support/random.ts";
import { turns } from "./support/until.ts";

const KIB = 1024;

/** A directory for Unix sockets, gone afterwards. */
function directory(): { path: string } & Disposable {
  const path = mkdtempSync(join(tmpdir(), "bun-uring-"));
  return { path, [Symbol.dispose]: () => rmSync(path, { recursive: true, force: true }) };
}

const PAIRINGS: { server: Kind; client: Kind }[] = [
  { server: "ours", client: "node" },
  { server: "node", client: "ours" },
  { server: "ours", client: "ours" },
];

describe.each(PAIRINGS)("server $server, client $client", ({ server, client }) => {
  test.each(["127.0.0.1", "::1", "unix"])(
    "96 connections of random sizes over %s get back what they sent",
    async (family) => {
      using folder = directory();
      const where = family === "unix" ? { unix: join(folder.path, "echo") } : { hostname: family };
      await seeded(async (random) => {
        await using echo = await echoServer(server, where);
        const plans = Array.from({ length: 96 }, () => planOf(random, 256 * KIB));
        await expectEchoes(plans.map((plan) => echoClient(client, echo.place, plan)), plans);
      });
    },
  );

  test("512 connections of 64 bytes get back what they sent", async () => {
    await seeded(async (random) => {
      await using echo = await echoServer(server, { hostname: "127.0.0.1" });
      const plans = Array.from({ length: 512 }, () => {
        return { bytes: random.bytes(64), pieces: [64], halfClose: random.chance(0.5) };
      });
      await expectEchoes(plans.map((plan) => echoClient(client, echo.place, plan)), plans);
    });
  });
});

describe("chunks of every kind carry the bytes", () => {
  test.each(["buffer", "uint8array", "arraybuffer", "borrowed"] as const)(
    "binaryType %s",
    async (binaryType) => {
      await seeded(async (random) => {
        await using echo = await echoServer("ours", { hostname: "127.0.0.1" }, { binaryType });
        const plans = Array.from({ length: 32 }, () => planOf(random, 256 * KIB));
        await expectEchoes(plans.map((plan) => echoClient("ours", echo.place, plan)), plans);
      });
    },
  );

  test("a ring with few buffers, blocks and entries loses nothing", async () => {
    await seeded(async (random) => {
      await using ring = new Ring({
        entries: 8,
        receiveBuffers: 4,
        receiveBufferSize: 4096,
        stagingBlocks: 16,
        highWaterMark: 16 * KIB,
      });
      await using echo = await echoServer("ours", { hostname: "127.0.0.1" }, { ring });
      const plans = Array.from({ length: 64 }, () => planOf(random, 64 * KIB));
      const echoes = plans.map((plan) => echoClient("ours", echo.place, plan, ring));
      await expectEchoes(echoes, plans);
      expect(ring.stats().staging_blocks_used).toBe(0);
      expect(ring.stats().receive_buffers_free).toBe(4);
    });
  });
});

describe("a slow reader", () => {
  test("makes write take less, drain fires once per refusal, and nothing is lost", async () => {
    await seeded(async (random) => {
      using both = await pair();
      const { server, client, atServer, atClient } = both;
      const bytes = random.bytes(16 * 1024 * KIB);
      server.pause();
      let at = 0;
      for (let taken = 1; taken > 0 && at < bytes.length; at += taken) {
        taken = client.write(bytes.subarray(at, at + 256 * KIB));
        expect(taken).toBeGreaterThanOrEqual(0);
      }
      expect(at).toBeLessThan(bytes.length);
      expect(client.write(bytes.subarray(at, at + 1))).toBe(0);
      await turns(50);
      expect(atClient.order).toEqual(["open"]);

      const drained = atClient.drained.promise;
      server.resume();
      await drained;
      // Nothing was refused since, so the one drain is all, however much room there is.
      await atServer.received(at);
      await turns(50);
      expect(atClient.log.filter((event) => event === "drain")).toHaveLength(1);

      await writeAll(client, atClient, bytes.subarray(at));
      client.end();
      await atServer.ended.promise;
      expect(atServer.length).toBe(bytes.length);
      expect(Buffer.compare(atServer.bytes, bytes)).toBe(0);
    });
  });

  test("does not hold up another connection of the same ring", async () => {
    await seeded(async (random) => {
      using slow = await pair();
      using quick = await pair();
      slow.server.pause();
      const bytes = random.bytes(4 * 1024 * KIB);
      while (slow.client.write(bytes) > 0);
      await writeAll(quick.client, quick.atClient, bytes);
      expect(Buffer.compare(await quick.atServer.received(bytes.length), bytes)).toBe(0);
    });
  });
});

describe("the end of a connection", () => {
  test("data before FIN is delivered before end, whatever its size", async () => {
    await seeded(async (random) => {
      for (let round = 0; round < 40; round++) {
        using both = await pair({ allowHalfOpen: true });
        const bytes = random.bytes(random.size(1, 200 * KIB));
        expect(both.client.end(bytes)).toBe(bytes.length);
        await both.atServer.ended.promise;
        expect(both.atServer.order).toEqual(["open", "data", "end"]);
        expect(Buffer.compare(both.atServer.bytes, bytes)).toBe(0);
      }
    });
  });

  test("close sends what was written before it", async () => {
    await seeded(async (random) => {
      for (let round = 0; round < 40; round++) {
        using both = await pair();
        const bytes = random.bytes(random.size(1, 200 * KIB));
        expect(both.client.write(bytes)).toBe(bytes.length);
        both.client.close();
        await both.atServer.closed.promise;
        expect(Buffer.compare(both.atServer.bytes, bytes)).toBe(0);
        expect(both.atServer.order).toEqual(["open", "data", "end", "close"]);
      }
    });
  });

  test("both ends may write and end at the same moment", async () => {
    await seeded(async (random) => {
      using both = await pair({ allowHalfOpen: true });
      const [up, down] = [random.bytes(100 * KIB), random.bytes(150 * KIB)];
      both.client.end(up);
      both.server.end(down);
      await Promise.all([both.atServer.closed.promise, both.atClient.closed.promise]);
      expect(Buffer.compare(both.atServer.bytes, up)).toBe(0);
      expect(Buffer.compare(both.atClient.bytes, down)).toBe(0);
      expect(both.atClient.closeError).toBeUndefined();
      expect(both.atServer.closeError).toBeUndefined();
    });
  });

  test("a write larger than one send arrives whole and in order", async () => {
    await seeded(async (random) => {
      await using ring = new Ring({ highWaterMark: 8 * 1024 * KIB });
      using both = await pair({ ring });
      both.server.pause();
      const bytes = random.bytes(6 * 1024 * KIB);
      expect(both.client.write(bytes.subarray(0, 5000))).toBe(5000);
      expect(both.client.write(bytes.subarray(5000))).toBe(bytes.length - 5000);
      both.server.resume();
      expect(Buffer.compare(await both.atServer.received(bytes.length), bytes)).toBe(0);
    });
  });

  test("what a handler wrote first goes out first", async () => {
    const texts = ["", "é", "𝄞".repeat(3000), "x".repeat(70_000), "end"];
    using both = await pair({
      serverSocket: {
        data(socket: Socket) {
          for (const text of texts) socket.write(text);
          socket.write(new Uint16Array([0x6261, 0x6463]));
          socket.write(new TextEncoder().encode("012345").buffer, 2, 3);
          socket.end("!");
        },
      },
    });
    both.client.write("go");
    await both.atClient.ended.promise;
    expect(both.atClient.bytes.toString()).toBe(`${texts.join("")}abcd234!`);
  });

  test("bytes are the caller's again as soon as write returns", async () => {
    using both = await pair();
    const bytes = new Uint8Array(100_000).fill(1);
    expect(both.client.write(bytes)).toBe(bytes.length);
    bytes.fill(2);
    expect(both.client.write(bytes.subarray(0, 1000))).toBe(1000);
    bytes.fill(3);
    const received = await both.atServer.received(101_000);
    expect(received.subarray(0, 100_000).every((byte) => byte === 1)).toBe(true);
    expect(received.subarray(100_000).every((byte) => byte === 2)).toBe(true);
  });
});

describe("a private copy", () => {
  test.each(["buffer", "uint8array", "arraybuffer"] as const)(
    "of type %s stays as it was while more arrives",
    async (binaryType) => {
      const kept: Uint8Array[] = [];
      const done = Promise.withResolvers<void>();
      let length = 0;
      using listener = listen<undefined, typeof binaryType>({
        hostname: "127.0.0.1",
        port: 0,
        socket: {
          binaryType,
          data(_socket, chunk) {
            const bytes = chunk instanceof ArrayBuffer ? new Uint8Array(chunk) : chunk;
            kept.push(bytes);
            length += bytes.length;
            if (length >= 200_000) done.resolve();
          },
        },
      });
      const place = { hostname: "127.0.0.1", port: listener.port };
      const bytes = Buffer.alloc(200_000);
      for (let i = 0; i < bytes.length; i++) bytes[i] = (i * 31) >> 3;
      const client = echoClient("node", place, { bytes, pieces: [bytes.length], halfClose: true });
      await done.promise;
      expect(Buffer.compare(Buffer.concat(kept), bytes)).toBe(0);
      await client;
    },
  );
});

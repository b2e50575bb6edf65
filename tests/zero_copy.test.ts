// Sends without a copy: when they are used, when they turn themselves off, when memory is free.
//
// Loopback copies zero-copy sends as they are received, and says so: what they gain cannot be seen
// here, only that they are right.

import { describe, expect, test } from "bun:test";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { connect, listen, Ring, type Socket } from "../ts/index.ts";
import { backend, missing } from "./support/backend.ts";
import { pair } from "./support/pair.ts";
import { failure, numbered, poolOf } from "./support/sends.ts";
import { turns, until } from "./support/until.ts";

const KIB = 1024;

function expectSame(received: Uint8Array, sent: Uint8Array): void {
  expect(received.length).toBe(sent.length);
  expect(Buffer.compare(received, sent)).toBe(0);
}

const offered = await (async () => {
  await using ring = new Ring();
  return ring.features.has("zero_copy_send");
})();

test("is a feature of the ring, unless it is masked", async () => {
  await using ring = new Ring({ disable: ["zero_copy_send"] });
  expect(ring.features.has("zero_copy_send")).toBe(false);
  // System calls of the twin copy: offering it would only cost a notification.
  expect(offered).toBe(backend === "uring" && !missing.has("zero_copy_send"));
});

/** A ring's options, and whether it sends without copies. */
function setting(enabled: boolean) {
  const disable = enabled ? [] : ["zero_copy_send" as const];
  return { options: { disable, zeroCopyThreshold: 4096 }, lends: enabled && offered };
}

describe("with the feature and without it", () => {
  const EITHER = [true, false];

  test.each(EITHER)("sends, lists and chains arrive whole, in order: %p", async (enabled) => {
    const { options, lends } = setting(enabled);
    await using ring = new Ring(options);
    using both = await pair({ ring });
    const { client, server, atServer } = both;
    const bytes = numbered(700 * KIB);
    const expected: Buffer[] = [];
    const take = (length: number): Buffer => {
      expected.push(bytes.subarray(0, length));
      return bytes.subarray(0, length);
    };
    const promises: PromiseLike<unknown>[] = [];
    server.pause();
    for (let round = 0; round < 6; round++) {
      client.write(take(100));
      promises.push(client.send(new Uint8Array(take(700 * KIB)).buffer));
      client.write(take(50));
      promises.push(client.writev([take(10), new Uint8Array(take(5000)).buffer, take(6000)]));
      promises.push(client.chain([take(7), new Uint8Array(take(9000)).buffer, take(100), take(3)]));
      server.resume();
      await turns(20);
    }
    await Promise.all(promises);
    client.end();
    await atServer.ended.promise;
    expectSame(atServer.bytes, Buffer.concat(expected));
    expect(ring.stats().sends_zero_copy > 0).toBe(lends);
    expect(ring.stats().notifications_stray).toBe(0);
  });

  test.each(EITHER)("memory comes back when the peer has read: %p", async (enabled) => {
    const { options, lends } = setting(enabled);
    await using ring = new Ring(options);
    using both = await pair({ ring });
    const { client, server, atServer } = both;
    server.pause();
    const pool = poolOf(ring, 64 * KIB);
    const buffer = pool.acquire();
    if (buffer === null) throw new Error("no buffer");
    const operation = client.send(buffer);
    await until(() => ring.stats().bytes_sent === 64 * KIB, "all of it is sent");
    await turns(50);
    expect([operation.pending, buffer.inFlight]).toEqual([lends, lends]);
    // Written bytes do not wait for it, nor does a copy that the library has made.
    client.write("x");
    expect((await client.send(new Uint8Array(8 * KIB))).bytes).toBe(8 * KIB);
    server.resume();
    await operation;
    expect(buffer.inFlight).toBe(false);
    await atServer.received(72 * KIB + 1);
  });

  test.each(EITHER)("a connection may end before its memory is back: %p", async (enabled) => {
    const { options, lends } = setting(enabled);
    await using ring = new Ring(options);
    const closed = Promise.withResolvers<void>();
    const accepted = Promise.withResolvers<Socket>();
    const bytes = numbered(64 * KIB);
    const received: Buffer[] = [];
    const ended = Promise.withResolvers<void>();
    using listener = listen({
      ring,
      hostname: "127.0.0.1",
      port: 0,
      socket: {
        open(socket: Socket) {
          socket.pause();
          accepted.resolve(socket);
        },
        data: (_, chunk) => void received.push(Buffer.from(chunk)),
        end: () => ended.resolve(),
      },
    });
    const client = await connect({
      ring,
      hostname: "127.0.0.1",
      port: listener.port,
      socket: { close: () => closed.resolve() },
    });
    const server = await accepted.promise;
    await turns(50); // the pause is carried out: nobody reads, so the memory stays on loan
    const operation = client.send(new Uint8Array(bytes).buffer);
    client.close();
    await closed.promise;
    expect(operation.pending).toBe(lends);
    server.resume();
    expect((await operation).bytes).toBe(64 * KIB);
    await ended.promise;
    expectSame(Buffer.concat(received), bytes);
  });

  test.each(EITHER)("a ring may be closed before its memory is back: %p", async (enabled) => {
    const { options } = setting(enabled);
    const ring = new Ring({ ...options, closeTimeout: 50 });
    const both = await pair({ ring });
    both.server.pause();
    const operation = both.client.send(new ArrayBuffer(64 * KIB));
    await until(() => ring.stats().bytes_sent === 64 * KIB, "all of it is sent");
    const outcome = operation.then(() => "sent", (error) => (error as { code: string }).code);
    await ring.close({ cancel: true });
    expect(["sent", "ECANCELED"]).toContain(await outcome);
  });

  test.each(EITHER)("cancel and the peer's reset give it back: %p", async (enabled) => {
    const { options } = setting(enabled);
    await using ring = new Ring(options);
    {
      using both = await pair({ ring });
      both.server.pause();
      const operation = both.client.send(new ArrayBuffer(16 * 1024 * KIB));
      await turns(100);
      operation.cancel();
      both.server.resume();
      const error = await failure(operation);
      expect(error.code).toBe("ECANCELED");
      both.client.end();
      await both.atServer.ended.promise;
      expect(both.atServer.length).toBe(error.bytes ?? -1);
    }
    using both = await pair({ ring });
    both.server.pause();
    const operation = both.client.send(new ArrayBuffer(16 * 1024 * KIB));
    await turns(100);
    both.server.terminate();
    expect(["ECONNRESET", "EPIPE"]).toContain((await failure(operation)).code);
  });
});

/** Where the kernel has none of it, nothing is sent so. */
const times = (count: number): number => (offered ? count : 0);

describe("the use of it", () => {
  test("is turned off by loopback for the connection, and for no other", async () => {
    await using ring = new Ring({ zeroCopyThreshold: 1024 });
    using first = await pair({ ring });
    for (let i = 0; i < 10; i++) await first.client.send(new ArrayBuffer(8 * KIB));
    expect(ring.stats()).toMatchObject({ sends_zero_copy: times(1), zero_copy_copied: times(1) });
    using second = await pair({ ring });
    await second.client.send(new ArrayBuffer(8 * KIB));
    expect(ring.stats()).toMatchObject({ sends_zero_copy: times(2), zero_copy_copied: times(2) });
  });

  test("ends with the first refusal on a Unix socket, which gets copies", async () => {
    const folder = mkdtempSync(join(tmpdir(), "bun-uring-"));
    try {
      await using ring = new Ring({ zeroCopyThreshold: 1024 });
      using both = await pair({ ring, unix: join(folder, "s") });
      const bytes = numbered(200 * KIB);
      const chain = both.client.chain([bytes, new Uint8Array(bytes).buffer]);
      await both.client.send(new Uint8Array(bytes).buffer);
      expect((await chain).bytes).toBe(400 * KIB);
      expectSame(await both.atServer.received(600 * KIB), Buffer.concat([bytes, bytes, bytes]));
      expect(ring.stats().sends_zero_copy).toBeLessThanOrEqual(times(2));
    } finally {
      rmSync(folder, { recursive: true });
    }
  });

  test("begins at the threshold of the ring or of the connection", async () => {
    const sent = async (
      ringThreshold: number | undefined,
      own: number | undefined,
      length: number,
      options = {},
    ): Promise<number> => {
      await using ring = new Ring(
        ringThreshold === undefined ? {} : { zeroCopyThreshold: ringThreshold },
      );
      const ended = Promise.withResolvers<void>();
      using listener = listen({
        ring,
        hostname: "127.0.0.1",
        port: 0,
        socket: { data() {}, end: () => ended.resolve() },
      });
      const client = await connect({
        ring,
        hostname: "127.0.0.1",
        port: listener.port,
        ...(own === undefined ? {} : { zeroCopyThreshold: own }),
        socket: {},
      });
      await client.send(new ArrayBuffer(length), options);
      client.end();
      await ended.promise;
      return ring.stats().sends_zero_copy;
    };
    expect(await sent(undefined, undefined, 1024 * KIB)).toBe(0); // off unless asked for
    expect(await sent(1000, undefined, 999)).toBe(0);
    expect(await sent(1000, undefined, 1000)).toBe(times(1));
    expect(await sent(undefined, 1000, 1000)).toBe(times(1));
    expect(await sent(1000, 5000, 4999)).toBe(0);
    expect(await sent(1000, Infinity, 100 * KIB)).toBe(0);
    expect(await sent(1000, undefined, 5000, { zeroCopy: false })).toBe(0);
  });

  test("wants a threshold that is one", () => {
    for (const zeroCopyThreshold of [0, -1, 1.5, "1", 2 ** 33] as never[]) {
      expect(() => new Ring({ zeroCopyThreshold })).toThrow("zeroCopyThreshold must be an integer");
    }
  });
});

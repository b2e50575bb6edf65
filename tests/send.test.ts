// Sends of memory in place: order, ownership, cancel, the ends of a connection.
//
// Chains are in chain.test.ts, zero copy in zero_copy.test.ts; cork and watermarks in
// write.test.ts.

import { describe, expect, test } from "bun:test";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { Ring, type UringError } from "../ts/index.ts";
import { pair, writeAll } from "./support/pair.ts";
import { seeded } from "./support/random.ts";
import {
  ascii,
  failure,
  filled,
  MEMORY,
  poolOf,
  STUCK,
  stuck,
  type Sendable,
} from "./support/sends.ts";
import { turns, until } from "./support/until.ts";

const KIB = 1024;

function expectSame(received: Uint8Array, sent: Uint8Array): void {
  // Not toEqual: a difference would print all of it.
  expect(received.length).toBe(sent.length);
  expect(Buffer.compare(received, sent)).toBe(0);
}


describe("what is written, sent and chained arrives in the order of the calls", () => {
  const families = ["127.0.0.1", "::1", "unix"];
  test.each(families)("over %s, with a reader that dribbles", async (family) => {
    const folder = mkdtempSync(join(tmpdir(), "bun-uring-"));
    try {
      await seeded(async (random) => {
        await using ring = new Ring({ zeroCopyThreshold: random.chance(0.5) ? 4096 : Infinity });
        const pool = poolOf(ring, 32 * KIB, 256);
        const where = family === "unix" ? { unix: join(folder, "s") } : { hostname: family };
        using both = await pair({ ...where, ring });
        const { server, client, atServer, atClient } = both;
        const expected: Buffer[] = [];
        const promises: PromiseLike<unknown>[] = [];
        const take = (length: number): Buffer => {
          const bytes = ascii(random, length);
          expected.push(bytes);
          return bytes;
        };
        const one = (): Sendable => {
          const kind = MEMORY[random.between(0, MEMORY.length - 1)] as (typeof MEMORY)[number];
          return filled(kind, take(kind === "pooled" ? 32 * KIB : random.size(1, 200 * KIB)), pool);
        };
        let reading = true;
        for (let step = 0; step < 60; step++) {
          const choice = random.between(0, 9);
          if (choice < 3) await writeAll(client, atClient, take(random.size(1, 100 * KIB)));
          else if (choice < 6) promises.push(client.send(one()));
          else if (choice < 8) promises.push(client.writev([one(), one(), one()]));
          else promises.push(client.chain([one(), one()]));
          if (random.chance(0.2)) {
            if (reading) server.pause();
            else server.resume();
            reading = !reading;
          }
          if (!reading && random.chance(0.5)) {
            server.resume();
            reading = true;
          }
          if (random.chance(0.3)) await turns(random.between(1, 5));
        }
        server.resume();
        client.end();
        await Promise.all(promises);
        await atServer.ended.promise;
        const all = Buffer.concat(expected);
        expectSame(atServer.bytes, all);
        expect(client.bytesWritten).toBe(all.length);
        await until(() => ring.stats().staging_blocks_used === 0);
        expect(pool.stats.inFlight).toBe(0);
      });
    } finally {
      rmSync(folder, { recursive: true });
    }
  });

  test("a ring with few entries and blocks loses nothing", async () => {
    await using ring = new Ring({ entries: 4, stagingBlocks: 4, highWaterMark: 4 * KIB });
    using both = await pair({ ring });
    const { client, atServer, atClient } = both;
    const expected: Buffer[] = [];
    const promises: PromiseLike<unknown>[] = [];
    await seeded(async (random) => {
      for (let step = 0; step < 50; step++) {
        const bytes = ascii(random, random.size(1, 20 * KIB));
        expected.push(bytes);
        if (step % 3 === 0) await writeAll(client, atClient, bytes);
        else if (step % 3 === 1) promises.push(client.send(new Uint8Array(bytes).buffer));
        else promises.push(client.writev([bytes.subarray(0, 10), bytes.subarray(10)]));
      }
      client.end();
      await Promise.all(promises);
      await atServer.ended.promise;
      expectSame(atServer.bytes, Buffer.concat(expected));
    });
  });
});

test("what the kernel takes at once is told before Bun's loop goes round", async () => {
  using both = await pair();
  await turns(50); // no flush is left to be waited for
  let round = false;
  setImmediate(() => (round = true));
  expect((await both.client.send("at once")).bytes).toBe(7);
  expect(round).toBe(false);
});

describe("the memory of a send", () => {
  test("that is moved in or pooled is the library's until its end", async () => {
    using both = await pair();
    const { client, server } = both;
    server.pause();
    const pool = poolOf(both.ring, 64);
    const pooled = pool.acquire();
    if (pooled === null) throw new Error("no buffer");
    pooled.bytes.fill(7);
    const moved = new ArrayBuffer(STUCK);
    const view = new Uint8Array(moved).fill(9);
    const first = client.send(moved);
    const second = client.send(pooled);
    expect([moved.detached, view.length, pooled.inFlight]).toEqual([true, 0, true]);
    expect(() => pooled.bytes).toThrow("EBUSY: bytes: buffer is in flight: send");
    await turns(20);
    expect([first.pending, second.pending]).toEqual([true, true]);
    server.resume();
    const [one, two] = await Promise.all([first, second]);
    expect([one.bytes, one.buffer.byteLength, two.bytes]).toEqual([STUCK, STUCK, 64]);
    expect(new Uint8Array(one.buffer)[STUCK - 1]).toBe(9);
    expect(two.buffer).toBe(pooled);
    expect(pooled.bytes[0]).toBe(7);
    pooled.release();
    expect(pool.stats.free).toBe(4);
  });

  test("that is a plain typed array is the caller's at once", async () => {
    using both = await pair();
    const { client, server, atServer } = both;
    server.pause();
    const bytes = new Uint8Array(100 * KIB).fill(1);
    const operation = client.send(bytes);
    bytes.fill(2);
    const text = client.send("grüße");
    server.resume();
    expect((await operation).buffer).toBe(bytes);
    expect((await text).bytes).toBe(7);
    const received = await atServer.received(100 * KIB + 7);
    expectSame(received, Buffer.concat([Buffer.alloc(100 * KIB, 1), Buffer.from("grüße")]));
  });

  test("goes with `offset` and `length`, and back to its pool with `release`", async () => {
    using both = await pair();
    const { client, atServer } = both;
    const pool = poolOf(both.ring, 16);
    const buffer = pool.acquire();
    if (buffer === null) throw new Error("no buffer");
    buffer.bytes.set(Buffer.from("0123456789abcdef"));
    expect((await client.send(buffer, { offset: 4, length: 6, release: true })).bytes).toBe(6);
    expect((await atServer.received(6)).toString()).toBe("456789");
    expect(pool.stats.free).toBe(4);
    expect(() => client.send(buffer)).toThrow("EINVAL: send: the buffer was released");
  });

  test("may be sent twice at a time, but not while something writes to it", async () => {
    using both = await pair();
    const { client, server, atServer, ring } = both;
    server.pause();
    const pool = poolOf(ring, 8);
    const buffer = pool.acquire();
    if (buffer === null) throw new Error("no buffer");
    buffer.bytes.set(Buffer.from("twofold!"));
    const sends = [client.send(buffer), client.writev([buffer, buffer])];
    server.resume();
    await Promise.all(sends);
    expect((await atServer.received(24)).toString()).toBe("twofold!".repeat(3));
    const fd = await ring.socket("unix", "datagram");
    const receive = ring.recv(fd, buffer);
    expect(() => client.send(buffer)).toThrow("EBUSY: send: buffer is in flight: recv");
    receive.cancel();
    expect((await failure(receive)).code).toBe("ECANCELED");
    await ring.close(fd);
  });
});

describe("cancel", () => {
  test("of a send that waits takes it out, and what comes behind it goes on", async () => {
    using both = await pair();
    const { client, server, atServer } = both;
    const { operation, bytes } = await stuck(both);
    client.write("before ");
    const given = new ArrayBuffer(1000);
    const waiting = client.send(given);
    client.write("after");
    expect(waiting.cancel()).toBe(true);
    const error = await failure(waiting);
    expect([error.code, error.name, error.bytes]).toEqual(["ECANCELED", "AbortError", 0]);
    expect((error.buffer as ArrayBuffer).byteLength).toBe(1000);
    expect([waiting.pending, waiting.cancel()]).toEqual([false, false]);
    server.resume();
    await operation;
    client.end();
    await atServer.ended.promise;
    expectSame(atServer.bytes, Buffer.concat([bytes, Buffer.from("before after")]));
  });

  test("of a send in flight says to the byte what was sent", async () => {
    using both = await pair();
    const { client, server, atServer } = both;
    const { operation, bytes } = await stuck(both);
    client.write("behind");
    operation.cancel();
    const error = await failure(operation);
    expect([error.code, error.name]).toEqual(["ECANCELED", "AbortError"]);
    const sent = error.bytes ?? 0;
    expect(sent).toBeGreaterThan(0);
    expect(sent).toBeLessThan(bytes.length);
    expectSame(new Uint8Array(error.buffer as ArrayBuffer), bytes);
    server.resume();
    client.end();
    await atServer.ended.promise;
    expectSame(atServer.bytes, Buffer.concat([bytes.subarray(0, sent), Buffer.from("behind")]));
    expect(client.bytesWritten).toBe(sent + 6);
  });

  test("comes too late for what was sent", async () => {
    using both = await pair();
    const operation = both.client.send("done");
    await both.atServer.received(4);
    operation.cancel();
    expect((await operation).bytes).toBe(4);
  });

  test("by a signal carries its reason; one that is aborted already submits nothing", async () => {
    using both = await pair();
    const { operation } = await stuck(both);
    const controller = new AbortController();
    const waiting = both.client.send("x", { signal: controller.signal });
    controller.abort(new Error("enough"));
    const error = await failure(waiting);
    expect([error.name, (error.cause as Error).message]).toEqual(["AbortError", "enough"]);
    const still = both.client.send(new ArrayBuffer(5), { signal: controller.signal });
    expect(still.pending).toBe(false);
    expect((await failure(still)).code).toBe("ECANCELED");
    operation.cancel();
    await failure(operation);
  });

  test("by a time-out is a TimeoutError", async () => {
    using both = await pair();
    const { operation } = await stuck(both);
    const error = await failure(both.client.send("x", { timeout: 20 }));
    expect([error.name, error.code, error.bytes]).toEqual(["TimeoutError", "ETIMEDOUT", 0]);
    const late = await failure(both.client.writev(["not", "late"], { timeout: 0 }));
    expect(late.code).toBe("ETIMEDOUT");
    operation.cancel();
    await failure(operation);
  });
});

describe("the end of a connection", () => {
  test.each(["end", "close"] as const)("by %s waits for all that is queued", async (how) => {
    using both = await pair();
    const { client, server, atServer } = both;
    const { operation, bytes } = await stuck(both);
    client.write("one ");
    const second = client.writev(["two ", "three"]);
    client[how]();
    expect(() => client.send("late")).toThrow("ESHUTDOWN: send: the socket is ending");
    await turns(20);
    expect(atServer.log).not.toContain("end");
    server.resume();
    await Promise.all([operation, second]);
    await atServer.ended.promise;
    expectSame(atServer.bytes, Buffer.concat([bytes, Buffer.from("one two three")]));
  });

  test("by terminate gives everything back at once", async () => {
    using both = await pair();
    const { client, atClient } = both;
    const { operation, bytes } = await stuck(both);
    const waiting = client.send(new ArrayBuffer(77));
    client.terminate();
    const errors = [await failure(operation), await failure(waiting)];
    expect(errors.map(({ code }) => code)).toEqual(["ECANCELED", "ECANCELED"]);
    expect(errors[0]?.bytes).toBeLessThan(bytes.length);
    expect(errors[1]?.bytes).toBe(0);
    expect(errors.map(({ buffer }) => (buffer as ArrayBuffer).byteLength)).toEqual([STUCK, 77]);
    await atClient.closed.promise;
    expect(() => client.send("late")).toThrow("ESHUTDOWN: send: the socket is closed");
  });

  test("by the peer's reset fails what is queued with the connection's error", async () => {
    using both = await pair();
    const { client, server, atClient } = both;
    const { operation } = await stuck(both);
    const waiting = client.writev([new ArrayBuffer(10), "x"]);
    server.terminate();
    const errors = [await failure(operation), await failure(waiting)];
    for (const { code } of errors) expect(["ECONNRESET", "EPIPE"]).toContain(code);
    expect((errors[1]?.buffer as [ArrayBuffer, string])[0].byteLength).toBe(10);
    await atClient.closed.promise;
    expect(atClient.closeError).toBeDefined();
  });

  test("of its ring gives the memory back, or keeps it for ever", async () => {
    const ring = new Ring();
    const both = await pair({ ring });
    const { operation } = await stuck(both);
    const waiting = both.client.send(new ArrayBuffer(5));
    const errors = [failure(operation), failure(waiting)];
    await ring.close({ cancel: true });
    for (const { code } of await Promise.all(errors)) expect(code).toBe("ECANCELED");
    expect(() => both.client.send("x")).toThrow("ESHUTDOWN");
  });
});

describe("wrong arguments", () => {
  test("are refused before anything is queued", async () => {
    using both = await pair();
    const { client, server, atServer } = both;
    const socket = client as unknown as Record<string, (...given: unknown[]) => unknown>;
    for (const wrong of [undefined, null, 5, {}, Symbol("s"), () => {}]) {
      expect(() => socket["send"]?.(wrong)).toThrow("EINVAL: send");
      expect(() => socket["writev"]?.([wrong])).toThrow("EINVAL: writev");
      expect(() => socket["writev"]?.(wrong)).toThrow("EINVAL: writev: parts must be an array");
    }
    expect(() => client.writev([])).toThrow("an array of 1 to 1024 buffers");
    expect(() => client.writev(new Array(1025).fill("x"))).toThrow("an array of 1 to 1024");
    expect(() => client.send("x", 5 as never)).toThrow("options must be an object");
    expect(() => client.send("x", { zeroCopy: 1 as never })).toThrow("zeroCopy must be true or");
    expect(() => client.send("x", { timeout: -1 })).toThrow("timeout must be milliseconds");
    expect(() => client.send("x", { signal: {} as never })).toThrow("an AbortSignal");
    expect(() => client.send("abc", { offset: 4 })).toThrow("offset must be an integer");
    const symbol = Symbol("s") as never;
    expect(() => client.send("abc", { offset: symbol })).toThrow("offset must be an integer");
    expect(() => client.send({ byteLength: symbol } as never)).toThrow("EINVAL: send");
    expect(() => client.send(new ArrayBuffer(8, { maxByteLength: 16 }))).toThrow("resizable");
    const gone = new ArrayBuffer(8);
    gone.transfer();
    expect(() => client.send(gone)).toThrow("memory that is still there");
    server.write("ok");
    await both.atClient.received(2);
    expect(atServer.length).toBe(0);
  });

  test("of more than goes in one send are refused, not cut", async () => {
    using both = await pair();
    const { client, atServer } = both;
    const large = new ArrayBuffer(2 ** 31); // its pages are never touched
    expect(() => client.send(large)).toThrow("buffer must be at most 2147479552 bytes; send it in");
    expect(() => client.writev(["x", large])).toThrow("EINVAL: writev: buffer");
    expect(large.detached).toBe(false);
    expect((await client.send(large, { offset: 2 ** 31 - 5 })).bytes).toBe(5);
    expect((await atServer.received(5)).length).toBe(5);
  });

  test("in a list give back what had moved in before", async () => {
    using both = await pair();
    const first = new ArrayBuffer(6);
    const gone = new ArrayBuffer(8);
    gone.transfer();
    let error: UringError | null = null;
    try {
      void both.client.writev([first, gone]);
    } catch (thrown) {
      error = thrown as UringError;
    }
    expect(error?.code).toBe("EINVAL");
    expect((error?.buffer as ArrayBuffer[])[0]?.byteLength).toBe(6);
  });

  test("of another ring's pool, or a registered buffer, are refused", async () => {
    using both = await pair();
    await using other = new Ring();
    const buffer = poolOf(other, 8).acquire();
    expect(() => both.client.send(buffer as never)).toThrow("the buffer is another ring's");
    const pool = poolOf(both.ring, 8);
    const mine = pool.acquire();
    if (mine === null) throw new Error("no buffer");
    const [registered] = both.ring.buffers.register([mine]);
    for (const socket of [both.client, both.server]) {
      expect(() => socket.send(registered as never)).toThrow("no registered buffer");
      expect(() => socket.writev([registered as never])).toThrow("no registered buffer");
    }
    expect(both.ring.buffers.requestUnregister()).toBe(true);
  });

  test("empty buffers and parts are sent, as nothing", async () => {
    using both = await pair();
    const { client, atServer } = both;
    const results = await Promise.all([
      client.send(""),
      client.send(new ArrayBuffer(0)),
      client.writev(["", new Uint8Array(0), "a", ""]),
    ]);
    expect(results.map(({ bytes }) => bytes)).toEqual([0, 0, 1]);
    expect((await atServer.received(1)).toString()).toBe("a");
  });
});

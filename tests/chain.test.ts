// Chains of sends: members in order, breaks, exact byte counts, company of other sends and the end.
//
// The accounting by itself, row by row of what the kernel does, is tested in zig/send_chain.zig.

import { describe, expect, test } from "bun:test";
import { Ring } from "../ts/index.ts";
import { pair, writeAll } from "./support/pair.ts";
import { seeded } from "./support/random.ts";
import { failure, numbered, poolOf, STUCK, stalled, stuck } from "./support/sends.ts";
import { turns } from "./support/until.ts";

const KIB = 1024;

function expectSame(received: Uint8Array, sent: Uint8Array): void {
  // Not toEqual: a difference would print all of it.
  expect(received.length).toBe(sent.length);
  expect(Buffer.compare(received, sent)).toBe(0);
}

describe("a chain", () => {
  test("sends its parts in order, each as a send of its own", async () => {
    using both = await pair();
    const { client, atServer, ring } = both;
    const pool = poolOf(ring, 5);
    const pooled = pool.acquire();
    if (pooled === null) throw new Error("no buffer");
    pooled.bytes.set(Buffer.from("POOL!"));
    await turns(10); // its receives are armed by then
    const before = ring.stats();
    const moved = new Uint8Array(Buffer.from("moved")).buffer;
    const parts = ["head ", pooled, new Uint8Array([32]), moved];
    const result = await client.chain(parts);
    expect([result.bytes, result.total, result.error]).toEqual([16, 16, null]);
    expect(result.buffer.slice(0, 3)).toEqual(parts.slice(0, 3));
    expect(Buffer.from(result.buffer[3] as ArrayBuffer).toString()).toBe("moved");
    expect(moved.detached).toBe(true);
    expect((await atServer.received(16)).toString()).toBe("head POOL! moved");
    const after = ring.stats();
    expect(after.chain_windows - before.chain_windows).toBe(1);
    expect(after.chain_operations_complete - before.chain_operations_complete).toBe(1);
  });

  test("is one outcome, however many members it has and however few the queue holds", async () => {
    await seeded(async (random) => {
      await using ring = new Ring({ entries: 8 });
      using both = await pair({ ring });
      const { client, atServer } = both;
      const parts = Array.from({ length: 1024 }, () => random.bytes(random.between(0, 300)));
      const whole = Buffer.concat(parts);
      let outcomes = 0;
      const chain = client.chain(parts).then((result) => {
        outcomes++;
        return result;
      });
      client.write("behind");
      expect(await chain).toMatchObject({ bytes: whole.length, total: whole.length, error: null });
      expectSame(await atServer.received(whole.length + 6), Buffer.concat([
        whole, Buffer.from("behind"),
      ]));
      expect(outcomes).toBe(1);
      expect(ring.stats().chain_windows).toBeGreaterThanOrEqual(Math.floor(1024 / 8) - 8);
      expect(ring.stats().chain_operations_complete).toBe(ring.stats().chain_windows);
    });
  });

  test("of large members arrives whole, through a reader that pauses", async () => {
    using both = await pair();
    const { client, server, atServer, ring } = both;
    const bytes = numbered(1024 * KIB);
    const pool = poolOf(ring, bytes.length, 1);
    const buffer = pool.acquire();
    if (buffer === null) throw new Error("no buffer");
    buffer.bytes.set(bytes);
    server.pause();
    const chain = client.chain([buffer, buffer, "-", buffer, buffer, buffer, buffer, buffer]);
    await stalled(ring);
    expect([chain.pending, buffer.inFlight]).toEqual([true, true]);
    server.resume();
    expect((await chain).bytes).toBe(7 * bytes.length + 1);
    const received = await atServer.received(7 * bytes.length + 1);
    const dash = Buffer.from("-");
    expectSame(received, Buffer.concat([bytes, bytes, dash, bytes, bytes, bytes, bytes, bytes]));
  });

  test("of empty parts sends nothing, and succeeds", async () => {
    using both = await pair();
    const result = await both.client.chain(["", new Uint8Array(0), new ArrayBuffer(0)]);
    expect([result.bytes, result.total, result.error]).toEqual([0, 0, null]);
    expect((await both.client.chain(["x"])).bytes).toBe(1);
  });

  test("without members, with too many or of wrong ones is refused", async () => {
    using both = await pair();
    const { client } = both;
    expect(() => client.chain([])).toThrow("EINVAL: chain: parts must be an array of 1 to 1024");
    expect(() => client.chain(new Array(1025).fill("x"))).toThrow("EINVAL: chain: parts");
    expect(() => client.chain("parts" as never)).toThrow("EINVAL: chain: parts");
    expect(() => client.chain([5 as never])).toThrow("EINVAL: chain: buffer");
    expect(() => client.chain(["x"], { onBreak: "stop" as never }))
      .toThrow("onBreak must be \"resume\" or \"report\"");
  });
});

describe("a chain that is cancelled", () => {
  test("in flight says to the byte what was sent, as an error or as a report", async () => {
    for (const onBreak of ["resume", "report"] as const) {
      using both = await pair();
      const { client, server, atServer } = both;
      server.pause();
      const bytes = numbered(STUCK);
      const parts = [0, 1, 2, 3].map((i) => bytes.subarray(i * STUCK / 4, (i + 1) * STUCK / 4));
      const moved = parts.map((part) => new Uint8Array(part).buffer);
      const chain = client.chain(moved, { onBreak });
      client.write("behind");
      await stalled(both.ring);
      expect(chain.cancel()).toBe(true);
      const error = onBreak === "resume" ? await failure(chain) : (await chain).error;
      expect([error?.code, error?.name]).toEqual(["ECANCELED", "AbortError"]);
      const result = onBreak === "resume" ? error : await chain;
      const sent = result?.bytes ?? 0;
      expect(sent).toBeGreaterThan(0);
      expect(sent).toBeLessThan(STUCK);
      const back = (result?.buffer as ArrayBuffer[]).map((buffer) => new Uint8Array(buffer));
      expectSame(Buffer.concat(back), bytes);
      server.resume();
      client.end();
      await atServer.ended.promise;
      expectSame(atServer.bytes, Buffer.concat([bytes.subarray(0, sent), Buffer.from("behind")]));
    }
  });

  test("while it waits sends nothing", async () => {
    using both = await pair();
    const { client, server, atServer } = both;
    const { operation, bytes } = await stuck(both);
    client.write("a");
    const chain = client.chain(["never ", "sent"], { onBreak: "report" });
    client.write("b");
    chain.cancel();
    const result = await chain;
    expect([result.bytes, result.total, result.error?.code]).toEqual([0, 10, "ECANCELED"]);
    server.resume();
    await operation;
    client.end();
    await atServer.ended.promise;
    expectSame(atServer.bytes, Buffer.concat([bytes, Buffer.from("ab")]));
  });

  test("by a time-out reports that", async () => {
    using both = await pair();
    const { operation } = await stuck(both);
    const result = await both.client.chain(["x"], { onBreak: "report", timeout: 10 });
    expect([result.bytes, result.error?.name]).toEqual([0, "TimeoutError"]);
    operation.cancel();
    await failure(operation);
  });
});

describe("in company", () => {
  test("chains, sends and writes keep the order of the calls", async () => {
    await seeded(async (random) => {
      await using ring = new Ring({ entries: 16 });
      using both = await pair({ ring });
      const { client, server, atServer, atClient } = both;
      const expected: Buffer[] = [];
      const take = (length: number): Buffer => {
        const bytes = random.bytes(length);
        expected.push(bytes);
        return bytes;
      };
      const promises: PromiseLike<unknown>[] = [];
      for (let step = 0; step < 80; step++) {
        const choice = random.between(0, 4);
        if (choice < 2) {
          const count = random.between(1, 40);
          const parts = Array.from({ length: count }, () => take(random.size(1, 8 * KIB)));
          const onBreak = random.chance(0.5) ? "report" : "resume";
          promises.push(client.chain(parts, { onBreak }));
        } else if (choice === 2) {
          promises.push(client.send(take(random.size(1, 64 * KIB))));
        } else {
          await writeAll(client, atClient, take(random.size(1, 32 * KIB)));
        }
        if (random.chance(0.3)) server.pause();
        await turns(random.between(0, 3));
        server.resume();
      }
      client.end();
      await Promise.all(promises);
      await atServer.ended.promise;
      expectSame(atServer.bytes, Buffer.concat(expected));
    });
  });

  test.each(["end", "close"] as const)("%s waits for chains that are queued", async (how) => {
    using both = await pair();
    const { client, server, atServer } = both;
    const { operation, bytes } = await stuck(both);
    const chains = [client.chain(["a", "b"]), client.chain(["c", "d"], { onBreak: "report" })];
    client[how]();
    expect(() => client.chain(["late"])).toThrow("ESHUTDOWN: chain: the socket is ending");
    server.resume();
    for (const chain of chains) expect(await chain).toMatchObject({ bytes: 2, error: null });
    await operation;
    await atServer.ended.promise;
    expectSame(atServer.bytes, Buffer.concat([bytes, Buffer.from("abcd")]));
  });

  test("terminate ends a chain in flight and those behind it", async () => {
    using both = await pair();
    const { client, atClient } = both;
    both.server.pause();
    const parts = Array.from({ length: 4 }, () => new ArrayBuffer(STUCK / 4));
    const flying = client.chain(parts);
    const waiting = client.chain(["x"], { onBreak: "report" });
    await stalled(both.ring);
    client.terminate();
    const error = await failure(flying);
    expect(error.code).toBe("ECANCELED");
    expect(error.bytes).toBeGreaterThan(0);
    expect((error.buffer as ArrayBuffer[]).map((buffer) => buffer.byteLength))
      .toEqual([STUCK / 4, STUCK / 4, STUCK / 4, STUCK / 4]);
    expect(await waiting).toMatchObject({ bytes: 0, error: { code: "ECANCELED" } });
    await atClient.closed.promise;
  });

  test("the peer's reset ends a chain; what was sent before is told", async () => {
    for (const onBreak of ["resume", "report"] as const) {
      using both = await pair();
      const { client, server, atClient } = both;
      server.pause();
      const chain = client.chain(
        Array.from({ length: 4 }, () => new ArrayBuffer(STUCK / 4)),
        { onBreak },
      );
      const waiting = client.chain(["x"]);
      await stalled(both.ring);
      server.terminate();
      const result = onBreak === "resume" ? await failure(chain) : await chain;
      expect(result.bytes).toBeGreaterThan(0);
      expect(result.bytes).toBeLessThan(STUCK);
      const { code } = await failure(waiting);
      expect(["ECONNRESET", "EPIPE"]).toContain(code);
      await atClient.closed.promise;
    }
  });
});

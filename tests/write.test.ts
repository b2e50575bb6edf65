// Written bytes: text, watermarks, the flush of a full queue, cork.
//
// Back-pressure with slow readers is in content.test.ts, memory in place in send.test.ts.

import { describe, expect, test } from "bun:test";
import { connect, listen, Ring, type Socket } from "../ts/index.ts";
import { pair } from "./support/pair.ts";
import { stuck } from "./support/sends.ts";
import { turns } from "./support/until.ts";

const KIB = 1024;

function expectSame(received: Uint8Array, sent: Uint8Array): void {
  // Not toEqual: a difference would print all of it.
  expect(received.length).toBe(sent.length);
  expect(Buffer.compare(received, sent)).toBe(0);
}

describe("text", () => {
  const texts = [
    "",
    "a",
    "\0in\0between\0",
    "grüße, 世界, 😀",
    "\ud800 alone \udc00",
    "x".repeat(65_536),
    "x".repeat(65_537),
    "€".repeat(21_845), // 65 535 bytes
    "€".repeat(21_846), // 65 538
    "😀".repeat(40_000),
  ];

  test("has no other encoding: the error names the way", async () => {
    const both = await pair();
    for (const call of ["write", "end"] as const) {
      const asked = () => both.client[call]("6869", "hex" as never);
      expect(asked).toThrow("Buffer.from(text, encoding)");
      expect(asked).toThrow(expect.objectContaining({ code: "EINVAL" }) as Error);
    }
    both.client.write(Buffer.from("6869", "hex"));
    expect((await both.atServer.received(2)).toString()).toBe("hi");
    both.listener.stop(true);
  });

  test("is written as its UTF-8 bytes, whatever its size", async () => {
    await using ring = new Ring({ highWaterMark: 1024 * KIB });
    using both = await pair({ ring });
    const { client, atServer } = both;
    const expected = Buffer.concat(texts.map((text) => Buffer.from(text)));
    for (const text of texts) expect(client.write(text)).toBe(Buffer.byteLength(text));
    expectSame(await atServer.received(expected.length), expected);
    expect(client.bytesWritten).toBe(expected.length);
    client.terminate();
    expect(client.write("late")).toBe(-1);
  });

  test("that is not all taken is told by its bytes", async () => {
    await using ring = new Ring({ highWaterMark: 10 });
    using both = await pair({ ring });
    expect([both.client.write("ää€€"), both.client.write("x")]).toEqual([10, 0]);
    expect((await both.atServer.received(10)).toString()).toBe("ää€€");
  });
});

describe("watermarks", () => {
  test("of listen and connect bound what write takes, apart from the ring's", async () => {
    const taken: number[] = [];
    const told = Promise.withResolvers<void>();
    await using ring = new Ring({ highWaterMark: 64 * KIB });
    using listener = listen({
      ring,
      hostname: "127.0.0.1",
      port: 0,
      highWaterMark: 3000,
      socket: {
        open(socket: Socket) {
          taken.push(socket.write(new Uint8Array(2000)), socket.write(new Uint8Array(2000)));
          told.resolve();
        },
      },
    });
    using client = await connect({
      ring,
      hostname: "127.0.0.1",
      port: listener.port,
      highWaterMark: 100,
      socket: {},
    });
    expect([client.write(new Uint8Array(60)), client.write(new Uint8Array(60))]).toEqual([60, 40]);
    await told.promise;
    expect(taken).toEqual([2000, 1000]);
    const place = { hostname: "127.0.0.1", port: listener.port, socket: {} };
    for (const highWaterMark of [0, -1, 0.5, "1", 2 ** 31] as never[]) {
      expect(() => connect({ ...place, highWaterMark })).toThrow("highWaterMark must be an int");
    }
  });

  test("memory in place does not count", async () => {
    await using ring = new Ring({ highWaterMark: 1000 });
    using both = await pair({ ring });
    const { operation } = await stuck(both);
    expect(both.client.write(new Uint8Array(1500))).toBe(1000);
    void both.client.send(new ArrayBuffer(5000)).catch(() => 0);
    expect(both.client.write("x")).toBe(0);
    const drained = both.atClient.drained.promise;
    both.server.resume();
    await operation;
    await drained;
    expect(both.client.write("x")).toBe(1);
  });

  test("a queue that is full leaves at once, not at the end of the turn", async () => {
    await using ring = new Ring({ highWaterMark: 8 * KIB });
    using both = await pair({ ring });
    await turns(10); // its receives are armed by then
    const before = ring.stats();
    for (let taken = 1; taken > 0; ) taken = both.client.write(new Uint8Array(1000));
    expect(ring.stats().sqes).toBe(before.sqes + 1);
    expect(ring.stats().enters).toBe(before.enters + 1);
    await both.atServer.received(8 * KIB);
  });
});

describe("cork", () => {
  test("sends what was written inside as one, when it returns", async () => {
    using both = await pair();
    const { client, atServer } = both;
    await turns(10); // its receives are armed by then
    const before = both.ring.stats().sqes;
    const answer = client.cork((socket) => {
      expect(socket).toBe(client);
      for (const word of ["all ", "of ", "it"]) {
        socket.write(word);
        socket.flush();
        both.ring.submit();
      }
      expect(both.ring.stats().sqes).toBe(before);
      return 42;
    });
    expect(answer).toBe(42);
    expect(both.ring.stats().sqes).toBe(before + 1);
    expect((await atServer.received(9)).toString()).toBe("all of it");
    expect(atServer.chunks).toHaveLength(1);
  });

  test("holds large writes, sends and the end back, and counts corks in corks", async () => {
    using both = await pair();
    const { client, atServer } = both;
    const sends: PromiseLike<unknown>[] = [];
    client.cork(() => {
      expect(client.write(new Uint8Array(100 * KIB))).toBe(100 * KIB);
      client.cork(() => sends.push(client.send("sent")));
      client.end();
      both.ring.submit();
      expect(atServer.length).toBe(0);
    });
    await Promise.all(sends);
    await atServer.ended.promise;
    expect(atServer.length).toBe(100 * KIB + 4);
  });

  test("ends with a callback that throws, and wants a function", async () => {
    using both = await pair();
    const { client, atServer } = both;
    expect(() => client.cork(() => {
      client.write("kept");
      throw new Error("out");
    })).toThrow("out");
    expect((await atServer.received(4)).toString()).toBe("kept");
    expect(() => client.cork(5 as never)).toThrow("EINVAL: cork: callback must be a function");
    client.terminate();
    await both.atClient.closed.promise;
    expect(client.cork(() => client.write("x"))).toBe(-1);
  });
});

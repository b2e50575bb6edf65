// Operations on sockets that the user owns, polls and watches.
//
// Every socket here is made by the ring itself, on this machine, with port 0.

import { describe, expect, test } from "bun:test";
import { closeSync, readFileSync, readlinkSync, writeSync } from "node:fs";
import { BufferPool, prepare, Ring, type WatchEvent } from "../ts/index.ts";
import { missing } from "./support/backend.ts";
import { rejected, SOCKET_KINDS, thrown } from "./support/operations.ts";
import { eventfd } from "./support/descriptors.ts";
import { turns, until } from "./support/until.ts";

/** Two connected TCP sockets on this machine, and their listener's address. */
async function pair(ring: Ring) {
  const listener = await ring.socket("ipv4");
  await ring.bind(listener, { hostname: "127.0.0.1", port: 0 });
  await ring.listen(listener, 8);
  const port = portOf(listener);
  const client = await ring.socket("ipv4", "stream");
  const [accepted] = await Promise.all([
    ring.accept(listener),
    ring.connect(client, { hostname: "127.0.0.1", port }),
  ]);
  const open = new Set([listener, client, accepted.fd]);
  return {
    client,
    server: accepted.fd,
    address: accepted.address,
    /** The client's descriptor, for the caller to close. */
    reset: () => (open.delete(client), client),
    [Symbol.dispose]: () => open.forEach((fd) => closeSync(fd)),
  };
}

/** Adds to an eventfd's counter, eventfd(2). */
function write(bell: number, value: bigint): void {
  writeSync(bell, new Uint8Array(BigUint64Array.of(value).buffer));
}

const text = (bytes: Uint8Array = new Uint8Array()) => Buffer.from(bytes).toString();

/** The port that a bound descriptor has, as the kernel tells it in /proc. */
function portOf(fd: number): number {
  const link = readlinkSync(`/proc/self/fd/${fd}`);
  const inode = /\d+/.exec(link)?.[0];
  const tables = ["tcp", "tcp6", "udp", "udp6"].map((name) => `/proc/net/${name}`);
  const rows = tables.flatMap((path) => readFileSync(path, "utf8").trim().split("\n"));
  for (const row of rows) {
    const columns = row.trim().split(/\s+/);
    if (columns[9] === inode) return Number.parseInt(columns[1]?.split(":")[1] ?? "", 16);
  }
  throw new Error(`no row for descriptor ${fd}`);
}

describe("sockets", () => {
  test("connect, send and receive; the end of the stream is 0 bytes", async () => {
    await using ring = new Ring();
    using both = await pair(ring);
    expect(both.address?.host).toBe("127.0.0.1");
    expect((await ring.send(both.client, "hello")).bytes).toBe(5);
    const bytes = new Uint8Array(16);
    expect((await ring.recv(both.server, bytes)).bytes).toBe(5);
    expect(Buffer.from(bytes.subarray(0, 5)).toString()).toBe("hello");
    expect(await ring.shutdown(both.client, "write")).toBe(0);
    expect((await ring.recv(both.server, bytes)).bytes).toBe(0);
  });

  test("messages of several buffers; on a stream they name no sender", async () => {
    await using ring = new Ring();
    using both = await pair(ring);
    expect((await ring.sendmsg(both.client, ["ab", Buffer.from("cde")])).bytes).toBe(5);
    const parts = [new Uint8Array(1), new Uint8Array(9)];
    const message = await ring.recvmsg(both.server, parts);
    expect([message.bytes, message.buffer, message.address]).toEqual([5, parts, null]);
    expect(Buffer.from(parts[1]?.subarray(0, 4) ?? "").toString()).toBe("bcde");
  });

  test("a connection that nobody takes is refused in the completion", async () => {
    await using ring = new Ring();
    const fd = await ring.socket("ipv4");
    const error = await rejected(ring.connect(fd, { hostname: "127.0.0.1", port: 1 }));
    expect([error.code, error.phase]).toEqual(["ECONNREFUSED", "completion"]);
    closeSync(fd);
  });

  test("the callback of accept gets descriptor and address", async () => {
    await using ring = new Ring();
    const listener = await ring.socket("ipv4");
    await ring.bind(listener, { hostname: "127.0.0.1", port: 0 });
    await ring.listen(listener);
    const client = await ring.socket("ipv4");
    const accepted = Promise.withResolvers<[number, string | undefined]>();
    ring.accept(listener, (fd, address) => accepted.resolve([fd, address?.host]));
    await ring.connect(client, { hostname: "127.0.0.1", port: portOf(listener) });
    const [fd, host] = await accepted.promise;
    expect([fd >= 0, host]).toEqual([true, "127.0.0.1"]);
    for (const own of [listener, client, fd]) closeSync(own);
  });

  test("Unix sockets by path", async () => {
    await using ring = new Ring();
    const listener = await ring.socket("unix");
    const unix = `\0bun-uring-${process.pid}`;
    await ring.bind(listener, { unix });
    await ring.listen(listener);
    const client = await ring.socket("unix");
    const [accepted] = await Promise.all([ring.accept(listener), ring.connect(client, { unix })]);
    expect(accepted.address).toBeNull();
    await ring.send(accepted.fd, "over unix");
    const bytes = new Uint8Array(9);
    await ring.recv(client, bytes);
    expect(Buffer.from(bytes).toString()).toBe("over unix");
    for (const fd of [listener, client, accepted.fd]) closeSync(fd);
  });
});

describe.each(["ring", "plain"] as const)("by way of the %s", (way) => {
  test("sockets are made, named, opened and shut with the same results", async () => {
    await using ring = new Ring({ disable: way === "plain" ? SOCKET_KINDS : [] });
    using both = await pair(ring);
    const bytes = new Uint8Array(2);
    expect(await ring.poll(both.client, "write")).toBe(4);
    await ring.send(both.client, "a");
    await ring.sendmsg(both.client, ["b"]);
    await ring.recv(both.server, bytes, { length: 1 });
    await ring.recvmsg(both.server, [bytes.subarray(1)]);
    expect(text(bytes)).toBe("ab");
    expect(await ring.shutdown(both.client, "write")).toBe(0);
    expect((await ring.recv(both.server, bytes)).bytes).toBe(0);
    // What fails, fails the same way.
    expect((await rejected(ring.shutdown(9999))).code).toBe("EBADF");
    expect((await rejected(ring.bind(both.client, { unix: "x" }))).code).toBe("EINVAL");
    expect((await rejected(ring.listen(both.client))).code).toBe("EINVAL");
    expect((await rejected(ring.socket(99, "stream"))).code).toBe("EAFNOSUPPORT");
    const kinds = [
      "accept", "connect", "send", "recv", "sendmsg", "recvmsg", "poll", ...SOCKET_KINDS,
    ] as const;
    for (const kind of kinds) {
      const { ring: through, plain } = ring.operationCount(kind);
      const plainly = way === "plain" && (SOCKET_KINDS as readonly string[]).includes(kind);
      const masked = plainly || missing.has(kind);
      expect([kind, through > 0, plain > 0]).toEqual([kind, !masked, masked]);
    }
  });
});

describe("datagrams", () => {
  const families = {
    ipv4: { bind: { hostname: "127.0.0.1", port: 0 }, host: "127.0.0.1" },
    ipv6: { bind: { hostname: "::1", port: 0 }, host: "::1" },
  } as const;

  test.each(["ipv4", "ipv6"] as const)("over %s go to an address, and say theirs", async (name) => {
    await using ring = new Ring();
    const { bind, host } = families[name];
    const [one, other] = [await ring.socket(name, "datagram"), await ring.socket(name, "datagram")];
    for (const fd of [one, other]) await ring.bind(fd, bind);
    const [from, to] = [one, other].map((fd) => ({ hostname: host, port: portOf(fd) }));
    if (from === undefined || to === undefined) throw new Error("no address");
    expect((await ring.sendmsg(one, ["da", Buffer.from("tagram")], { to })).bytes).toBe(8);
    const parts = [new Uint8Array(3), new Uint8Array(16)];
    const message = await ring.recvmsg(other, parts);
    expect([message.bytes, text(parts[0]), text(parts[1]?.subarray(0, 5))]).toEqual([
      8, "dat", "agram",
    ]);
    expect(message.address).toEqual({ family: name, host, port: from.port });
    // The answer goes where it came from, out of memory that is used in place.
    using buffer = new BufferPool({ ring, size: 5, count: 1 }).acquire();
    buffer?.bytes.set(Buffer.from("reply"));
    if (buffer === null) throw new Error("no buffer");
    expect((await ring.sendmsg(other, [buffer], { to: from })).bytes).toBe(5);
    expect(text(buffer.bytes)).toBe("reply");
    const reply = new Uint8Array(8);
    const seen: unknown[] = [];
    ring.recvmsg(one, [reply], (result, received) => seen.push(result, received.address));
    await ring.drain();
    expect(seen).toEqual([5, { family: name, host, port: to.port }]);
    expect(text(reply.subarray(0, 5))).toBe("reply");
    for (const fd of [one, other]) closeSync(fd);
  });

  test("over Unix sockets go to a name; who has none is null", async () => {
    await using ring = new Ring();
    const unix = `\0bun-uring-datagrams-${process.pid}`;
    const [named, nameless] = [
      await ring.socket("unix", "datagram"),
      await ring.socket("unix", "datagram"),
    ];
    await ring.bind(named, { unix });
    const bytes = new Uint8Array(8);
    expect((await ring.sendmsg(named, ["own"], { to: { unix } })).bytes).toBe(3);
    expect((await ring.recvmsg(named, [bytes])).address).toEqual({
      family: "unix", host: unix, port: 0,
    });
    expect((await ring.sendmsg(nameless, ["who"], { to: { unix } })).bytes).toBe(3);
    expect((await ring.recvmsg(named, [bytes])).address).toBeNull();
    await prepare.sendmsg({ to: { unix } }).file(nameless).buffer(["prepared"]).submit(ring);
    expect((await ring.recvmsg(named, [bytes])).bytes).toBe(8);
    expect(text(bytes)).toBe("prepared");
    for (const fd of [named, nameless]) closeSync(fd);
  });

  test("go nowhere without an address, and to none that is no address", async () => {
    await using ring = new Ring();
    const fd = await ring.socket("ipv4", "datagram");
    expect((await rejected(ring.sendmsg(fd, ["x"]))).code).toBe("EDESTADDRREQ");
    for (const to of [{}, { hostname: "localhost", port: 1 }, { hostname: "::1" }, "x", null]) {
      const { code, phase } = thrown(() => ring.sendmsg(fd, ["x"], { to: to as never }));
      expect([Bun.inspect(to), code, phase]).toEqual([Bun.inspect(to), "EINVAL", "submission"]);
    }
    closeSync(fd);
  });
});

describe("poll of a descriptor", () => {
  test("completes when it is readable", async () => {
    await using ring = new Ring();
    using both = await pair(ring);
    const polled = ring.poll(both.server, "read");
    await ring.send(both.client, "x");
    expect((await polled) & 1).toBe(1);
  });

  test("with multishot tells every change until it is cancelled", async () => {
    await using ring = new Ring();
    using both = await pair(ring);
    const seen: number[] = [];
    const bytes = new Uint8Array(8);
    const polled = ring.poll(both.server, "read", { multishot: true }, (events) => {
      seen.push(events);
    });
    for (let round = 1; round <= 3; round++) {
      await ring.send(both.client, "x");
      await until(() => seen.length >= round);
      await ring.recv(both.server, bytes);
    }
    expect([polled.pending, polled.cancel()]).toEqual([true, true]);
    await ring.drain();
    expect(seen.at(-1)).toBe(-125);
  });
});

describe("a watch", () => {
  test("tells descriptor, context and what happened; modify and remove", async () => {
    await using ring = new Ring();
    using both = await pair(ring);
    const seen: string[] = [];
    using watch = ring.watch(both.server, "read", "mine", (event) => {
      seen.push([
        event.fd === both.server, event.context, event.readable && "readable",
        event.writable && "writable", event.hangUp && "hung up", event.error && "error",
      ].filter(Boolean).join(" "));
    });
    await ring.send(both.client, "x");
    await until(() => seen.length === 1);
    expect(seen).toEqual(["true mine readable"]);
    await ring.recv(both.server, new Uint8Array(1));
    watch.modify("write");
    await until(() => seen.length === 2);
    expect(seen[1]).toBe("true mine writable");
    watch.modify("read");
    await ring.shutdown(both.client, "write");
    await until(() => seen.length >= 3);
    expect(seen[2]).toBe("true mine readable hung up");
    watch.remove();
    expect(watch.active).toBe(false);
    await ring.drain();
    expect(ring.pendingCount).toBe(0);
  });

  test("tells an error and a hang-up of what was not asked for, and goes on", async () => {
    await using ring = new Ring();
    using both = await pair(ring);
    const seen: WatchEvent<null>[] = [];
    using watch = ring.watch(both.server, "write", null, (event) => seen.push(event));
    await until(() => seen.length === 1);
    // Unread bytes at its close: the peer answers with RST.
    await ring.send(both.server, "unread");
    closeSync(both.reset());
    await until(() => seen.some(({ error }) => error));
    const last = seen.find(({ error }) => error);
    expect([last?.hangUp, last?.fd, watch.active]).toEqual([true, both.server, true]);
  });

  test("hears every write to an eventfd while the ring sleeps in Bun's loop", async () => {
    await using ring = new Ring();
    const bell = eventfd();
    let seen = 0;
    using watch = ring.watch(bell, "read", null, () => seen++);
    for (let round = 1; round <= 5; round++) {
      await turns(20); // dry ones: the ring is asleep, only its wake fd can tell it
      write(bell, 1n);
      await until(() => seen === round);
    }
    watch.remove();
    for (let round = 1; round <= 3; round++) {
      const counter = new BigUint64Array(1);
      const reading = ring.read(bell, counter);
      if (round > 1) {
        await turns(20);
        write(bell, BigInt(round));
      }
      await reading;
      expect(counter[0]).toBe(round === 1 ? 5n : BigInt(round));
    }
    closeSync(bell);
  });

  test("of what cannot be polled ends with an error", async () => {
    await using ring = new Ring();
    const seen: number[] = [];
    const watch = ring.watch(9999, "read", null, (event) => {
      seen.push(event.result);
    });
    await ring.drain();
    expect([seen, watch.active]).toEqual([[-9], false]);
  });
});

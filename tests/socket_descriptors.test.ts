// Descriptors that go with the bytes of a Unix socket: in order with them, once, to whoever reads
// the socket, and closed and counted where nobody takes them.

import { afterEach, describe, expect, test } from "bun:test";
import { closeSync, fstatSync, openSync, readFileSync, readSync } from "node:fs";
import { devNull } from "node:os";
import { fileURLToPath } from "node:url";
import { connect, listen, Ring, UringError, type Socket } from "../ts/index.ts";
import { program } from "./support/child.ts";
import { descriptors, linkOf } from "./support/descriptors.ts";
import { seeded, type Random } from "./support/random.ts";
import { until } from "./support/until.ts";

const HERE = fileURLToPath(import.meta.url);

const opened: number[] = [];
/** A descriptor of a file of its own, closed after the test. */
function open(path = devNull): number {
  const fd = openSync(path, "r");
  opened.push(fd);
  return fd;
}
afterEach(() => opened.splice(0).forEach((fd) => closeSync(fd)));

const name = () => `\0bun-uring-${crypto.randomUUID()}`;
const identity = (fd: number) => `${fstatSync(fd).dev} ${fstatSync(fd).ino}`;
const closeAll = (fds: readonly number[]) => fds.forEach((fd) => closeSync(fd));

/** FD_CLOEXEC, as the kernel tells it. */
function isCloseOnExec(fd: number): boolean {
  const flags = /^flags:\s+(\d+)/m.exec(readFileSync(`/proc/self/fdinfo/${fd}`, "utf8"))?.[1];
  return (Number.parseInt(flags ?? "", 8) & 0o2000000) !== 0;
}

interface Both {
  client: Socket;
  server: Socket;
  ring: Ring;
}

type Data = (socket: Socket, chunk: Buffer) => void;

/** Two sockets that are connected; `data` is the server's handler, which takes descriptors. */
async function pair(
  ring: Ring,
  data?: Data,
  more: { close?: (socket: Socket, error?: Error) => void; passDescriptors?: boolean } = {},
): Promise<Both> {
  const { close = () => undefined, passDescriptors = true } = more;
  const accepted = Promise.withResolvers<Socket>();
  const unix = name();
  const open = (socket: Socket) => accepted.resolve(socket);
  const socket = data === undefined ? { open, close } : { open, data, close };
  using _listener = listen({ unix, ring, passDescriptors, socket });
  const client = await connect({ unix, ring, passDescriptors: true, socket: {} });
  return { client, server: await accepted.promise, ring };
}

const ends = ({ client, server }: Both) => {
  client.terminate();
  server.terminate();
};

test("descriptors come with their bytes, in order, work, and are the taker's", async () => {
  await using ring = new Ring();
  const own = [open(HERE), open(), open(HERE)];
  const seen: [string, number[]][] = [];
  const both = await pair(ring, (socket, chunk) => {
    seen.push([chunk.toString(), socket.takeDescriptors()]);
  });
  const { bytes } = await both.client.send("take these", { descriptors: own });
  expect(bytes).toBe(10);
  await until(() => seen.length === 1);
  const [text, taken] = seen[0] as [string, number[]];
  expect(text).toBe("take these");
  expect(taken.map(identity)).toEqual(own.map(identity));
  expect(taken.filter((fd) => own.includes(fd))).toEqual([]);
  expect(taken.map(isCloseOnExec)).toEqual([true, true, true]);
  const head = Buffer.alloc(14);
  readSync(taken[0] as number, head, 0, 14, 0);
  expect(head.toString()).toBe("// Descriptors");
  expect(both.server.takeDescriptors()).toEqual([]);
  closeAll(taken);
  ends(both);
});

test("they are the caller's to close at once, whatever waits before them", async () => {
  await using ring = new Ring();
  const taken: number[] = [];
  let size = 0;
  const both = await pair(ring, (socket, chunk) => {
    size += chunk.length;
    taken.push(...socket.takeDescriptors());
  });
  both.server.pause();
  const large = both.client.send(Buffer.alloc(3 << 20));
  const fd = openSync(HERE, "r");
  const expected = identity(fd);
  const sent = both.client.writev(["with", " it"], { descriptors: [fd] });
  closeSync(fd);
  const other = openSync(devNull, "r"); // has the number now
  expect(other).toBe(fd);
  both.server.resume();
  await Promise.all([large, sent]);
  await until(() => size === (3 << 20) + 7);
  expect(taken.map(identity)).toEqual([expected]);
  closeAll([other, ...taken]);
  ends(both);
});

describe.each(["data handler", "for await", "readable", "paused"] as const)("%s", (way) => {
  test("bytes and descriptors keep their order under random sizes", () => seeded(async (random) => {
    await using ring = new Ring();
    const files = Array.from({ length: 5 }, (_, i) => open(i % 2 === 0 ? HERE : devNull));
    const before = descriptors().length;
    const seen = new Seen();
    const handler: Data = (socket, chunk) => {
      seen.add(socket, chunk);
      if (way !== "paused" || random.chance(0.7)) return;
      socket.pause();
      setImmediate(() => socket.resume());
    };
    const handled = way === "data handler" || way === "paused";
    const both = await pair(ring, handled ? handler : undefined);
    if (!handled) void readAll(way === "readable", both.server, seen);
    const sent = messages(random, files);
    const sends = sent.map(({ body, fds }, i) => {
      const options = { descriptors: fds };
      if (i % 3 === 0) return both.client.send(body, options);
      return i % 3 === 1
        ? both.client.writev(split(body), options)
        : both.client.chain(split(body), options);
    });
    await Promise.all(sends);
    const whole = Buffer.concat(sent.map((message) => message.body));
    await until(() => seen.size === whole.length);
    expect(seen.bytes().equals(whole)).toBe(true);
    expect(seen.files).toEqual(sent.flatMap((message) => message.fds.map(identity)));
    // Each came with the chunk that has the first byte that it was sent with.
    const due = sent.flatMap(({ at, fds }) => fds.map(() => at));
    seen.places.forEach(([from, to], i) => {
      expect(due[i]).toBeGreaterThanOrEqual(from);
      expect(due[i]).toBeLessThan(to);
    });
    ends(both);
    await until(() => descriptors().length <= before);
  }));
});

async function readAll(streams: boolean, socket: Socket, seen: Seen): Promise<void> {
  const chunks: AsyncIterable<Uint8Array> = streams ? socket.readable : socket;
  try {
    for await (const chunk of chunks) seen.add(socket, chunk);
  } catch (error) {
    expect((error as UringError).code).toBe("ECONNRESET"); // the test's own end
  }
}

function messages(random: Random, files: readonly number[]): Message[] {
  let at = 0;
  return Array.from({ length: 60 }, (_, i) => {
    const body = Buffer.alloc(random.size(1, 200_000), i);
    const count = random.chance(0.25) ? random.between(0, 20) : random.between(0, 2);
    const fds = Array.from({ length: count }, () => files[random.between(0, 4)] as number);
    at += body.length;
    return { body, at: at - body.length, fds };
  });
}

interface Message {
  body: Buffer;
  /** Its first byte in the stream. */
  at: number;
  fds: number[];
}

/** What a reader got. */
class Seen {
  readonly files: string[] = [];
  readonly places: [number, number][] = [];
  size = 0;
  readonly #chunks: Buffer[] = [];

  add(socket: Socket, chunk: Uint8Array): void {
    const from = this.size;
    this.#chunks.push(Buffer.from(chunk));
    this.size += chunk.length;
    for (const fd of socket.takeDescriptors()) {
      this.files.push(identity(fd));
      this.places.push([from, this.size]);
      closeSync(fd);
    }
  }

  bytes(): Buffer {
    return Buffer.concat(this.#chunks);
  }
}

function split(bytes: Buffer): Buffer[] {
  const at = Math.floor(bytes.length / 3);
  return [bytes.subarray(0, at), bytes.subarray(at)].filter((part) => part.length > 0);
}

describe("what nobody takes", () => {
  test("is closed when the socket is gone, and counted", async () => {
    await using ring = new Ring();
    const fd = open();
    const before = descriptors().length;
    let chunks = 0;
    const closed = Promise.withResolvers<number[]>();
    const close = (socket: Socket) => closed.resolve(socket.takeDescriptors());
    const both = await pair(ring, () => void chunks++, { close });
    await both.client.send("x", { descriptors: [fd, fd] });
    await until(() => chunks === 1);
    both.client.end();
    const last = await closed.promise; // the last chance is its close handler
    expect(last.length).toBe(2);
    closeAll(last);
    expect(ring.stats().descriptors_reclaimed).toBe(0);

    const again = await pair(ring, () => void chunks++);
    await again.client.send("x", { descriptors: [fd, fd, fd] });
    await until(() => chunks === 2);
    ends(again);
    await until(() => ring.stats().descriptors_reclaimed === 3);
    await until(() => descriptors().length <= before);
  });

  test("is closed with what was not read", async () => {
    await using ring = new Ring();
    const fd = open();
    const before = descriptors().length;
    const both = await pair(ring, () => undefined);
    both.server.pause();
    await both.client.send("x", { descriptors: [fd] });
    // Under way while it was paused, or still with the kernel: it goes either way.
    ends(both);
    await until(() => descriptors().length <= before);
    const iterated = await pair(ring);
    await iterated.client.send("one", { descriptors: [fd] });
    for await (const _ of iterated.server) {
      expect(iterated.server.takeDescriptors().map((taken) => closeSync(taken)).length).toBe(1);
      await iterated.client.send("two", { descriptors: [fd, fd] });
      break;
    }
    iterated.client.terminate();
    await until(() => descriptors().length <= before);
  });

  test("can be taken when the socket is gone, and is closed with a forgotten one", async () => {
    await using ring = new Ring();
    const fd = open();
    // Others of the process come and go, as they are collected.
    const passed = () => descriptors().filter((one) => linkOf(one) === devNull).length;
    const before = passed();
    const leave = async () => {
      const both = await pair(ring);
      await both.client.send("late", { descriptors: [fd, fd] });
      await until(() => passed() === before + 2);
      ends(both);
      await until(() => both.server.readyState === -1);
      return both.server;
    };
    const socket = await leave();
    const read = socket[Symbol.asyncIterator]();
    expect((await read.next()).value?.toString()).toBe("late");
    const taken = socket.takeDescriptors();
    expect(taken.length).toBe(2);
    closeAll(taken);
    await leave();
    await until(() => {
      Bun.gc(true);
      return passed() <= before;
    });
    expect(ring.stats().descriptors_reclaimed).toBe(2);
  });

  test("without `passDescriptors` is closed by the kernel, and the bytes come", async () => {
    await using ring = new Ring();
    const fd = open();
    const before = descriptors().length;
    const chunks: string[] = [];
    const data: Data = (socket, chunk) => {
      chunks.push(chunk.toString());
      expect(socket.takeDescriptors()).toEqual([]);
    };
    const both = await pair(ring, data, { passDescriptors: false });
    await both.client.send("bytes", { descriptors: [fd] });
    await until(() => chunks.join("") === "bytes");
    ends(both);
    await until(() => descriptors().length <= before);
  });

  test("is closed with its ring", async () => {
    const ring = new Ring();
    const fd = open();
    const before = descriptors().length;
    const both = await pair(ring, () => undefined);
    await both.client.send("x", { descriptors: [fd, fd] });
    // One that waits behind what the peer does not read.
    both.server.pause();
    // Both end with the ring.
    void both.client.send(Buffer.alloc(8 << 20)).catch(() => undefined);
    // As this one does.
    void both.client.send("y", { descriptors: [fd] }).catch(() => undefined);
    await ring.close({ cancel: true });
    await until(() => descriptors().length <= before);
  });

  test("of a piped socket is closed: only bytes are forwarded", async () => {
    await using ring = new Ring();
    const fd = open();
    const chunks: Buffer[] = [];
    const source = await pair(ring);
    const target = await pair(ring, (_socket, chunk) => void chunks.push(chunk));
    // It ends with the test's sockets.
    void source.server.pipeTo(target.client).catch(() => undefined);
    await source.client.send("forwarded", { descriptors: [fd, fd] });
    await until(() => Buffer.concat(chunks).toString() === "forwarded");
    const { descriptors_dropped, descriptors_reclaimed } = ring.stats();
    expect(descriptors_dropped + descriptors_reclaimed).toBe(2);
    ends(source);
    ends(target);
  });
});

test("who does not take them receives no more, until he does", async () => {
  await using ring = new Ring();
  const fd = open();
  let size = 0;
  const both = await pair(ring, (_socket, chunk) => void (size += chunk.length));
  const many = Array<number>(100).fill(fd);
  for (let i = 0; i < 20; i++) void both.client.send("x", { descriptors: many });
  await until(() => size >= 3);
  for (let i = 0; i < 50; i++) await ring.nop();
  expect(size).toBeLessThan(10);
  const taken: number[] = [];
  await until(() => {
    taken.push(...both.server.takeDescriptors());
    return size === 20 && taken.length === 2000;
  });
  closeAll(taken);
  ends(both);
});

test("253 go at a time", async () => {
  await using ring = new Ring();
  const fd = open();
  const taken: number[] = [];
  const both = await pair(ring, (socket) => void taken.push(...socket.takeDescriptors()));
  await both.client.send("x", { descriptors: Array<number>(253).fill(fd) });
  await until(() => taken.length === 253);
  expect(new Set(taken).size).toBe(253);
  closeAll(taken);
  ends(both);
});

test("without a place for all of them none is kept, and the connection breaks", async () => {
  const limited = ["sh", "-c", 'ulimit -n 64 && exec "$0" "$@"', process.execPath];
  const child = Bun.spawn([...limited, program("passing_at_limit")], { timeout: 25_000 });
  expect(JSON.parse(await child.stdout.text())).toEqual({
    full: "EMFILE",
    bytes: "three",
    ended: "EMFILE",
    descriptors_dropped: 1,
    descriptors_truncated: 1,
  });
});

describe("what cannot be passed", () => {
  test.each([null, 7, "7", [-1], [1.5], ["1"], [2 ** 31], Array(254).fill(0), {}])(
    "%p is refused as descriptors", async (given) => {
      await using ring = new Ring();
      const both = await pair(ring);
      const call = () => both.client.send("x", { descriptors: given as never });
      expect(call).toThrow(UringError);
      expect(call).toThrow("descriptor");
      ends(both);
    });

  test("closed ones, none to go with, another kind of socket: nothing is sent", async () => {
    await using ring = new Ring();
    const fd = open();
    const before = descriptors().length;
    const chunks: Buffer[] = [];
    const both = await pair(ring, (_socket, chunk) => void chunks.push(chunk));
    const refused = (call: () => unknown, code: string, text: string) => {
      expect(call).toThrow(expect.objectContaining({ code }) as Error);
      expect(call).toThrow(text);
    };
    const { client } = both;
    refused(() => client.send("x", { descriptors: [fd, 999_999] }), "EBADF", "not open");
    refused(() => client.send("", { descriptors: [fd] }), "EINVAL", "go with a byte");
    using server = listen({ hostname: "127.0.0.1", port: 0, ring, socket: { data() {} } });
    const tcp = await connect({ hostname: "127.0.0.1", port: server.port, ring, socket: {} });
    refused(() => tcp.send("x", { descriptors: [fd] }), "EOPNOTSUPP", "Unix sockets only");
    const wrong = { hostname: "127.0.0.1", port: 0, ring, passDescriptors: true };
    refused(() => listen({ ...wrong, socket: { data() {} } }), "EINVAL", "passDescriptors");
    refused(() => connect({ ...wrong, port: 1, socket: {} }), "EINVAL", "passDescriptors");
    await client.send("fine", { descriptors: [fd] });
    await until(() => Buffer.concat(chunks).toString() === "fine");
    tcp.terminate();
    ends(both);
    await until(() => descriptors().length <= before + 1);
  });
});

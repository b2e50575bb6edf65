// Forwarding both ways that there are, each forced: by receive buffers, and by pipes of the kernel.
//
// Contents are compared over TCP and Unix sockets, with peers that dribble, flood, end, reset and
// do not read. Pipes are counted, since each has two descriptors.

import { afterAll, describe, expect, setDefaultTimeout, test } from "bun:test";
import { once } from "node:events";
import type net from "node:net";
import { proxy, Ring, type RingOptions } from "../ts/index.ts";
import { answer, program } from "./support/child.ts";
import { descriptors, linkOf } from "./support/descriptors.ts";
import { line, type Line } from "./support/line.ts";
import { rejected } from "./support/operations.ts";
import { Random } from "./support/random.ts";
import { turn, turns, until } from "./support/until.ts";

setDefaultTimeout(30_000);

const KIB = 1024;
const MIB = 1024 * KIB;

const pipeEnds = () => descriptors().filter((fd) => linkOf(fd)?.startsWith("pipe:")).length;

/** All of it; the bytes go on when the peer's own buffer has room. */
async function flood(peer: net.Socket, bytes: Buffer): Promise<void> {
  if (!peer.write(bytes)) await once(peer, "drain");
}

const WAYS: [string, RingOptions][] = [
  ["buffers", { disable: ["splice_pipes"] }],
  ["pipes", { spliceThreshold: 1 }],
  ["either", { spliceThreshold: 20_000 }],
];

type Peer = (from: Line, to: Line, bytes: Buffer, random: Random) => Promise<void>;

/** What the peers do until all bytes are on their way. */
const PEERS: Record<string, [size: number, peer: Peer]> = {
  "that floods": [6 * MIB, (from, _to, bytes) => flood(from.peer, bytes)],
  "that dribbles": [20_000, async (from, _to, bytes, random) => {
    for (let at = 0; at < bytes.length;) {
      const size = random.between(1, 400);
      from.peer.write(bytes.subarray(at, at + size));
      at += size;
      await turn();
    }
  }],
  "that sends much and little in turn": [4 * MIB, async (from, _to, bytes, random) => {
    for (let at = 0; at < bytes.length;) {
      const size = random.chance(0.5) ? random.between(1, 100) : random.between(1, 300_000);
      await flood(from.peer, bytes.subarray(at, at + size));
      at += size;
      for (let i = random.between(0, 5); i > 0; i--) await turn();
    }
  }],
  "to one that reads nothing for a while": [16 * MIB, async (from, to, bytes) => {
    to.peer.pause();
    const flooded = flood(from.peer, bytes);
    await turns(500);
    to.peer.resume();
    await flooded;
  }],
  "to one that reads now and then": [4 * MIB, async (from, to, bytes) => {
    const flooded = flood(from.peer, bytes);
    for (let i = 0; i < 40; i++) {
      to.peer[i % 2 === 0 ? "pause" : "resume"]();
      await turns(10);
    }
    await flooded;
  }],
};

interface Setting {
  ring: Ring;
  way: string;
  unix: boolean;
}

const SETTINGS = WAYS.flatMap(([way, options]) => {
  const ring = new Ring(options);
  afterAll(() => ring.close({ cancel: true }));
  const setting = (place: string, unix: boolean): [string, Setting] =>
    [`by ${way} over ${place}`, { ring, way, unix }];
  return [setting("TCP", false), setting("Unix", true)];
});

function everyWay(title: string, body: (setting: Setting) => Promise<void>): void {
  test.each(SETTINGS)(`%s: ${title}`, (_name, setting) => body(setting));
}

describe.each(Object.entries(PEERS))("a peer %s loses nothing", (name, [size, peer]) => {
  test.each(SETTINGS)("%s", async (_setting, { ring, way, unix }) => {
    using from = await line(ring, {}, unix);
    using to = await line(ring, {}, unix);
    const before = ring.stats().forwards_spliced;
    const random = new Random(name.length + size);
    const bytes = random.bytes(size);
    const piped = from.socket.pipeTo(to.socket);
    await peer(from, to, bytes, random);
    from.peer.end();
    expect(await piped).toBe(size);
    expect((await to.received).equals(bytes)).toBe(true);
    const spliced = ring.stats().forwards_spliced - before;
    if (way === "pipes" && ring.features.has("splice_pipes")) expect(spliced).toBeGreaterThan(0);
    if (way === "buffers") expect(spliced).toBe(0);
  });
});

everyWay("both ways at once, and the ends each by itself", async ({ ring, unix }) => {
  using a = await line(ring, {}, unix);
  using b = await line(ring, {}, unix);
  const joined = proxy(a.socket, b.socket);
  const [there, back] = [new Random(1).bytes(3 * MIB), new Random(2).bytes(2 * MIB)];
  await Promise.all([flood(a.peer, there), flood(b.peer, back)]);
  a.peer.end();
  expect((await b.received).equals(there)).toBe(true);
  b.peer.end();
  expect((await a.received).equals(back)).toBe(true);
  expect(await joined).toEqual({ sent: there.length, received: back.length });
});

everyWay("what is written meanwhile is in one piece", async ({ ring, unix }) => {
  using from = await line(ring, {}, unix);
  using to = await line(ring, {}, unix);
  const piped = from.socket.pipeTo(to.socket);
  const forwarded = Buffer.alloc(3 * MIB, "-");
  const flooded = flood(from.peer, forwarded);
  const marks: string[] = [];
  for (let i = 0; i < 50; i++) {
    const mark = `<${i}>`;
    if (to.socket.write(mark) === mark.length) marks.push(mark);
    await turn();
  }
  await flooded;
  from.peer.end();
  await piped;
  const text = (await to.received).toString();
  expect([...text.matchAll(/<\d+>/g)].map(String)).toEqual(marks);
  expect(text.replaceAll(/<\d+>/g, "").length).toBe(forwarded.length);
});

everyWay("a reset of the source is its reason, and resets the target", async ({ ring, unix }) => {
  using from = await line(ring, {}, unix);
  using to = await line(ring, {}, unix);
  const piped = from.socket.pipeTo(to.socket);
  await flood(from.peer, new Random(3).bytes(2 * MIB));
  await until(() => to.bytes() === 2 * MIB, "the bytes to arrive");
  from.peer.resetAndDestroy();
  // A Unix socket knows no reset: its peer has ended.
  if (unix) return void (await piped);
  expect((await rejected(piped)).code).toBe("ECONNRESET");
  expect(((await rejected(to.received)) as Error & { code: string }).code).toBe("ECONNRESET");
});

everyWay("a target that goes is EPIPE, and closes the source", async ({ ring, unix }) => {
  using from = await line(ring, {}, unix);
  using to = await line(ring, {}, unix);
  to.peer.pause();
  const piped = from.socket.pipeTo(to.socket);
  from.peer.on("error", () => {}); // told by `received`, too
  from.peer.write(new Random(4).bytes(8 * MIB));
  await turns(200);
  to.peer.destroy();
  expect((await rejected(piped)).code).toBe("EPIPE");
  await until(() => from.socket.readyState === -1, "the source to close");
});

everyWay("an end by its signal leaves the rest to read", async ({ ring, unix }) => {
  using from = await line(ring, {}, unix);
  using to = await line(ring, {}, unix);
  const controller = new AbortController();
  const { signal } = controller;
  to.peer.pause();
  const all = { preventClose: true, preventAbort: true, preventCancel: true, signal };
  const piped = from.socket.pipeTo(to.socket, all);
  const bytes = new Random(5).bytes(8 * MIB);
  const flooded = flood(from.peer, bytes);
  await turns(300);
  controller.abort();
  expect((await rejected(piped)).name).toBe("AbortError");
  to.peer.resume();
  const rest: Buffer[] = [];
  const reading = (async () => {
    for await (const chunk of from.socket) rest.push(chunk as Buffer);
  })();
  await flooded;
  from.peer.end();
  await reading;
  to.socket.end();
  expect(Buffer.concat([await to.received, ...rest]).equals(bytes)).toBe(true);
});

everyWay("a socket into itself echoes", async ({ ring, unix }) => {
  using echo = await line(ring, {}, unix);
  const bytes = new Random(6).bytes(4 * MIB);
  const piped = echo.socket.pipeTo(echo.socket);
  await flood(echo.peer, bytes);
  echo.peer.end();
  expect(await piped).toBe(bytes.length);
  expect((await echo.received).equals(bytes)).toBe(true);
});

test("a ring that closes takes its pipes along, full and empty", async () => {
  const before = pipeEnds();
  const ring = new Ring({ spliceThreshold: 1 });
  const lines = await Promise.all(Array.from({ length: 8 }, () => line(ring)));
  for (const { peer } of lines) peer.on("error", () => {}); // the ring's close resets them
  for (let i = 0; i < lines.length; i += 2) {
    const [from, to] = [lines[i], lines[i + 1]] as [Line, Line];
    to.peer.pause();
    void rejected(from.socket.pipeTo(to.socket));
    from.peer.write(new Random(i).bytes(24 * MIB));
  }
  const splices = ring.features.has("splice_pipes");
  await until(() => !splices || pipeEnds() >= before + lines.length, "a pipe for each");
  await ring.close({ cancel: true });
  expect(pipeEnds()).toBe(before);
  for (const { peer } of lines) peer.destroy();
});

test("more stalled streams than there are pipes are all served", async () => {
  await using ring = new Ring({ spliceThreshold: 1 });
  const before = pipeEnds();
  const pairs: { from: Line; to: Line; piped: Promise<number> }[] = [];
  for (let i = 0; i < 80; i++) {
    const [from, to] = [await line(ring, {}, true), await line(ring, {}, true)];
    to.peer.pause();
    pairs.push({ from, to, piped: from.socket.pipeTo(to.socket) });
  }
  // A Unix socket holds a fifth of it.
  const bytes = new Random(8).bytes(MIB);
  for (const { from } of pairs) from.peer.end(bytes);
  let last = -1;
  await until(async () => {
    const still = ring.stats().bytes_received === last;
    last = ring.stats().bytes_received;
    await turns(50);
    return still;
  }, "a standstill");
  expect(pipeEnds() - before).toBeLessThanOrEqual(2 * 64);
  for (const { to } of pairs) to.peer.resume();
  for (const { to, piped } of pairs) {
    expect(await piped).toBe(bytes.length);
    expect((await to.received).equals(bytes)).toBe(true);
  }
  for (const { from, to } of pairs) [from, to].forEach((end) => end[Symbol.dispose]());
  expect(pipeEnds() - before).toBeLessThanOrEqual(2 * 16);
});

test("a program that has taken its listener for SIGPIPE away survives broken pipes", async () => {
  const outcome = await answer<{ codes: string[] }>(program("broken_pipes"));
  expect(new Set(outcome.codes)).toEqual(new Set(["EPIPE"]));
});

test("a threshold is a number of bytes, or never", async () => {
  for (const spliceThreshold of [0, -1, 1.5, "1", 2 ** 33] as never[]) {
    expect(() => new Ring({ spliceThreshold })).toThrow("spliceThreshold must be an integer");
  }
  await using ring = new Ring({ spliceThreshold: Infinity });
  using from = await line(ring);
  using to = await line(ring);
  const piped = from.socket.pipeTo(to.socket);
  from.peer.end(Buffer.alloc(2 * MIB));
  expect(await piped).toBe(2 * MIB);
  expect(ring.stats().forwards_spliced).toBe(0);
});

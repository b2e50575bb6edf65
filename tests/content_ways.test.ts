// What arrives is what was sent, for every way to take bytes and every way to give them back, over
// TCP and Unix sockets, in front of peers that dribble, flood, reset, half-close and do not read.

import { describe, expect, setDefaultTimeout, test } from "bun:test";
import { Ring, type RingOptions } from "../ts/index.ts";
import { neverRead, PEERS, readSlowly } from "./support/peers.ts";
import { Random, seeded } from "./support/random.ts";
import { turns, until } from "./support/until.ts";
import { echo, GIVING, TAKING, type Echo } from "./support/ways.ts";

setDefaultTimeout(60_000);

const KIB = 1024;

// The ring's defaults: `receiveBlockSize`, `holdBytes`, `highWaterMark`.
const BLOCK = 1024 * KIB;
const HOLD = 128 * KIB;
const HIGH_WATER_MARK = 256 * KIB;

/** How the ring receives: many into buffers and blocks, one at a time, with next to no memory. */
const RINGS: Record<string, RingOptions> = {
  "as it comes": {},
  "one receive at a time": { disable: ["multishot_receive"] },
  "without copies of sends": { zeroCopyThreshold: 1 },
  "with hardly any memory": {
    entries: 8,
    receiveBuffers: 4,
    receiveBufferSize: 4096,
    stagingBlocks: 16,
    highWaterMark: 16 * KIB,
  },
};

const PLACES = ["127.0.0.1", "unix"];

function where(place: string): { hostname: string } | { unix: string } {
  return place === "unix"
    ? { unix: `\0bun-uring-${crypto.randomUUID()}` }
    : { hostname: place };
}

/** An echo for each pair of ways. */
function echoes(ring: Ring, place: string): { name: string; served: Echo }[] {
  return Object.keys(TAKING).flatMap((taking) =>
    Object.keys(GIVING).map((giving) => ({
      name: `${taking} to ${giving}`,
      served: echo(taking, giving, where(place), ring),
    })),
  );
}

describe.each(Object.keys(RINGS))("a ring %s", (kind) => {
  test.each(PLACES)("echoes by every pair of ways, to every peer, over %s", async (place) => {
    await seeded(async (random) => {
      await using ring = new Ring(RINGS[kind]);
      for (const { name, served } of echoes(ring, place)) {
        using _listening = served;
        await Promise.all(Object.entries(PEERS).map(async ([manners, meet]) => {
          const own = new Random(random.between(0, 1e9));
          const { sent, back, whole } = await meet(served.place, own);
          const label = `${name}, a peer that ${manners}`;
          if (whole) expect([label, back.length]).toEqual([label, sent.length]);
          expect([label, back.equals(sent.subarray(0, back.length))]).toEqual([label, true]);
        }));
        await Promise.all(served.sessions.map(({ closed }) => closed.promise));
        expect([name, served.sessions.map(({ closes }) => closes)]).toEqual([name, [1, 1, 1, 1]]);
      }
    });
  });
});

describe.each(PLACES)("over %s", (place) => {
  test("a peer that reads a byte a second gets everything, by every pair of ways", async () => {
    await seeded(async (random) => {
      await using ring = new Ring();
      await using theirs = new Ring();
      const all = echoes(ring, place);
      await Promise.all(all.map(async ({ name, served }) => {
        const own = new Random(random.between(0, 1e9));
        const { sent, back } = await readSlowly(theirs, served.place, own, 3);
        expect([name, back.length, back.equals(sent)]).toEqual([name, sent.length, true]);
      }));
      for (const { served } of all) served[Symbol.dispose]();
    });
  });

  test("who never reads is read from no more, and what is held for it is bounded", async () => {
    await using ring = new Ring();
    await using theirs = new Ring();
    const all = echoes(ring, place);
    await using peers = new AsyncDisposableStack();
    for (const { served } of all) peers.use(await neverRead(theirs, served.place));
    let before = -1;
    await until(async () => {
      const still = before === ring.stats().bytes_received;
      before = ring.stats().bytes_received;
      await turns(200);
      return still;
    });
    const { bytes_received, bytes_sent } = ring.stats();
    // A chunk that is being given back, what waits for its turn to be taken, what was staged.
    const most = BLOCK + HOLD + HIGH_WATER_MARK;
    expect(bytes_received).toBeGreaterThan(bytes_sent);
    expect(bytes_received - bytes_sent).toBeLessThan(all.length * most);
    for (const { served } of all) served[Symbol.dispose]();
  });
});

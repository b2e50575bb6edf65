// Every way to receive, from peers of every kind, over TCP and Unix sockets: what arrives is what
// was sent, in order, before the end; and afterwards every buffer is back.

import { describe, expect, setDefaultTimeout, test } from "bun:test";
import { patience } from "./support/patience.ts";
import { seeded } from "./support/random.ts";
import {
  MODES,
  peers,
  play,
  receiver,
  slowPeer,
  type Arrival,
  type Peer,
} from "./support/receiving.ts";
import { until } from "./support/until.ts";

setDefaultTimeout(60_000 * patience);

function expectArrived(peer: Peer, arrival: Arrival | undefined): void {
  const { bytes, order } = arrival as Arrival;
  const events = order.filter((event) => !/paused|resumed/.test(event));
  if (peer.breaks) {
    // What arrived is how it began.
    expect(peer.bytes.subarray(0, bytes.length).equals(bytes)).toBe(true);
    expect(events.at(-1)?.startsWith("close")).toBe(true);
    return;
  }
  expect([bytes.length, bytes.equals(peer.bytes)]).toEqual([peer.bytes.length, true]);
  expect(events).toEqual(["end", "close"]);
}

describe.each(Object.keys(MODES))("by %s", (name) => {
  test.each(["127.0.0.1", "unix"])("everything arrives over %s", async (where) => {
    await seeded(async (random) => {
      const place = where === "unix"
        ? { unix: `\0bun-uring-${crypto.randomUUID()}` }
        : { hostname: where };
      const mode = MODES[name] ?? {};
      await using server = receiver(mode, place, random);
      const all = peers(random);
      await Promise.all(all.map((peer) => play(peer, server.place)));
      await until(() => server.arrivals.size === all.length, "all are over");
      all.forEach((peer, i) => expectArrived(peer, server.arrivals.get(i)));
      expect(server.errors).toEqual([]);
      expect(mode.proof?.(server.ring) ?? true).toBe(true);
      await until(() => {
        const stats = server.ring.stats();
        const { receiveBuffers = 512, receiveBlocks = 16 } = mode.options ?? {};
        return stats.receive_buffers_free === receiveBuffers &&
          stats.receive_blocks_free === receiveBlocks &&
          stats.receive_buffers_lent + stats.chunks_kept === 0;
      }, "every buffer is back");
      expect(server.ring.stats().chunks_collected).toBe(0);
    });
  });
});

test("one byte a second arrives by every way, and holds nothing meanwhile", async () => {
  await seeded(async (random) => {
    const modes = Object.values(MODES);
    await Promise.all(modes.map(async (mode) => {
      const place = { hostname: "127.0.0.1" };
      await using server = receiver(mode, place, random);
      const peer = slowPeer(7);
      const playing = play(peer, server.place);
      await until(() => server.ring.stats().bytes_received === 2);
      const stats = server.ring.stats();
      expect(stats.receive_buffers_lent).toBe(0);
      expect(stats.receive_buffers_free).toBe(mode.options?.receiveBuffers ?? 512);
      await playing;
      await until(() => server.arrivals.size === 1);
      expectArrived(peer, server.arrivals.get(7));
    }));
  });
});

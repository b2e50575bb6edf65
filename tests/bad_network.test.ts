// Peers behind a bad network, and peers that only send: what arrives is right as far as it comes,
// every connection ends once, and nobody else notices. The ledger of every file sees what is left.

import * as net from "node:net";
import { describe, expect, setDefaultTimeout, test } from "bun:test";
import { connect, listen, Ring, type Socket } from "../ts/index.ts";
import { badNetwork, type Badness } from "./support/bad_network.ts";
import { echoClient, echoServer, planOf } from "./support/echo.ts";
import { End } from "./support/pair.ts";
import { patience } from "./support/patience.ts";
import { Random, seeded } from "./support/random.ts";
import { until } from "./support/until.ts";

setDefaultTimeout(60_000 * patience);

const KIB = 1024;
const LOOPBACK = { hostname: "127.0.0.1" };

describe("through a network that", () => {
  const BAD: [string, Badness][] = [
    ["delays", { delayTurns: 20 }],
    ["cuts everything into pieces", { pieceBytes: 7 }],
    ["does both", { delayTurns: 3, pieceBytes: 300 }],
  ];

  test.each(BAD)("%s: every byte comes back, in order", async (_name, badness) => {
    await seeded(async (random) => {
      await using ring = new Ring();
      await using server = await echoServer("ours", LOOPBACK, { ring });
      const { port } = server.place as { port: number };
      await using network = await badNetwork(port, random, badness);
      const clients = Array.from({ length: 4 }, async () => {
        const plan = planOf(random, badness.pieceBytes === 7 ? 2 * KIB : 64 * KIB);
        const place = { ...LOOPBACK, port: network.port };
        expect((await echoClient("ours", place, plan, ring)).equals(plan.bytes)).toBe(true);
      });
      await Promise.all(clients);
    });
  });

  const BREAKS: [string, (bytes: number) => Badness][] = [
    ["ends both streams", (endAfter) => ({ endAfter, pieceBytes: 1000 })],
    ["resets both ends", (resetAfter) => ({ resetAfter, pieceBytes: 1000 })],
  ];

  test.each(BREAKS)("%s in the middle: what came is right, and it is over once", async (_, of) => {
    await seeded(async (random) => {
      await using ring = new Ring();
      const atServer = new End();
      const socket = {
        ...atServer.handlers,
        data(own: Socket, chunk: Buffer) {
          atServer.handlers.data(own, chunk);
          own.write(chunk);
        },
      };
      using listener = listen({ ...LOOPBACK, port: 0, ring, socket });
      const badness = of(random.between(1, 100 * KIB));
      await using network = await badNetwork(listener.port, random, badness);
      const bytes = random.bytes(200 * KIB);
      const atClient = new End();
      const place = { ...LOOPBACK, port: network.port };
      const client = await connect({ ...place, ring, socket: atClient.handlers });
      for (let sent = 0; sent < bytes.length && client.readyState > 0; ) {
        const taken = client.write(bytes.subarray(sent));
        sent += taken;
        if (taken === 0) await Promise.race([atClient.drained.promise, atClient.closed.promise]);
      }
      await Promise.all([atClient.closed.promise, atServer.closed.promise]);
      expect(bytes.subarray(0, atServer.length).equals(atServer.bytes)).toBe(true);
      expect(bytes.subarray(0, atClient.length).equals(atClient.bytes)).toBe(true);
      for (const end of [atServer, atClient]) {
        expect(end.log.filter((event) => event === "close")).toHaveLength(1);
        expect(end.log.at(-1)).toBe("close");
      }
    });
  });
});

test("peers that only send do not keep anybody else from being served", async () => {
  await using ring = new Ring({ holdBytes: 64 * KIB, receiveBuffers: 16 });
  let flooded = 0;
  const socket = { data: (_: Socket, chunk: Buffer) => void (flooded += chunk.length) };
  using listener = listen({ ...LOOPBACK, port: 0, ring, socket });
  await using server = await echoServer("ours", LOOPBACK, { ring });
  const random = new Random(5);
  const flood = random.bytes(1 << 20);
  const peers = Array.from({ length: 8 }, () => {
    const peer = net.connect({ port: listener.port, host: LOOPBACK.hostname });
    const refill = () => {
      while (!peer.destroyed && peer.write(flood));
    };
    peer.on("error", () => peer.destroy()).on("drain", refill);
    peer.on("connect", refill);
    return peer;
  });
  await until(() => flooded > 0);
  const before = flooded;
  const plan = planOf(random, 256 * KIB);
  const place = server.place as { hostname: string; port: number };
  expect((await echoClient("ours", place, plan, ring)).equals(plan.bytes)).toBe(true);
  await until(() => flooded > before); // they went on meanwhile
  for (const peer of peers) peer.resetAndDestroy();
  await until(() => ring.stats().connections_opened === ring.stats().connections_closed);
  expect(ring.stats().receive_buffers_free).toBe(16);
});

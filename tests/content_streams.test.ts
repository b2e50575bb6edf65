// What arrives is what was sent, for those who iterate and for web streams: echoes of random sizes
// against node:net on either side, on rings with hardly any memory, and slow readers.

import { describe, expect, test } from "bun:test";
import { connect, listen, Ring, type Socket } from "../ts/index.ts";
import { Inbox } from "../ts/inbox.ts";
import { echoClient, expectEchoes, planOf, type Place, type Plan } from "./support/echo.ts";
import { seeded } from "./support/random.ts";
import { turns } from "./support/until.ts";

const KIB = 1024;

const SERVERS: Record<string, (socket: Socket) => Promise<void>> = {
  iteration: async (socket) => {
    const writer = socket.writable.getWriter();
    for await (const chunk of socket) await writer.write(chunk);
    await writer.close();
  },
  streams: (socket) => socket.readable.pipeTo(socket.writable),
  "a reader's own buffer": async (socket) => {
    const writer = socket.writable.getWriter();
    const reader = socket.readable.getReader({ mode: "byob" });
    for (let memory = new Uint8Array(777); ; ) {
      const { value, done } = await reader.read(memory);
      if (value === undefined || done) break;
      await writer.write(value);
      memory = new Uint8Array(value.buffer as ArrayBuffer);
    }
    await writer.close();
  },
};

const CLIENTS: Record<string, (place: Place, plan: Plan, ring?: Ring) => Promise<Buffer>> = {
  node: (place, plan) => echoClient("node", place, plan),
  iteration: async (place, plan, ring) => {
    const socket = await connect({ ...place, ...(ring === undefined ? {} : { ring }), socket: {} });
    const writer = socket.writable.getWriter();
    const sent = (async () => {
      let at = 0;
      for (const size of plan.pieces) {
        await writer.write(plan.bytes.subarray(at, at + size));
        at += size;
      }
      await writer.close();
    })();
    const chunks: Buffer[] = [];
    for await (const chunk of socket) chunks.push(chunk);
    await sent;
    return Buffer.concat(chunks);
  },
  "streams and end": async (place, plan, ring) => {
    const socket = await connect({ ...place, ...(ring === undefined ? {} : { ring }), socket: {} });
    const echoed = new Response(socket.readable).bytes();
    expect(socket.end(plan.bytes)).toBe(plan.bytes.length);
    return Buffer.from(await echoed);
  },
};

function serve(name: string, where: { hostname: string } | { unix: string }, ring?: Ring) {
  const errors: Error[] = [];
  const listener = listen({
    ...("unix" in where ? where : { ...where, port: 0 }),
    ...(ring === undefined ? {} : { ring }),
    socket: {
      open: SERVERS[name] as () => Promise<void>,
      error: (_socket, error) => void errors.push(error),
    },
  });
  const place: Place = "unix" in where ? where : { ...where, port: listener.port ?? 0 };
  return { place, errors, [Symbol.dispose]: () => listener.stop(true) };
}

describe.each(Object.keys(SERVERS))("a server by %s", (server) => {
  test.each(
    Object.keys(CLIENTS).flatMap((client) => ["127.0.0.1", "unix"].map((where) => [client, where])),
  )("gives 48 clients by %s over %s their bytes back", async (client = "", where = "") => {
    const place = where === "unix"
      ? { unix: `\0bun-uring-${crypto.randomUUID()}` }
      : { hostname: where };
    await seeded(async (random) => {
      using served = serve(server, place);
      const plans = Array.from({ length: 48 }, () => planOf(random, 256 * KIB));
      const run = CLIENTS[client] as (typeof CLIENTS)[string];
      await expectEchoes(plans.map((plan) => run(served.place, plan)), plans);
      expect(served.errors).toEqual([]);
    });
  });

  test("on a ring with few buffers, blocks and entries loses nothing", async () => {
    await seeded(async (random) => {
      await using ring = new Ring({
        entries: 8,
        receiveBuffers: 4,
        receiveBufferSize: 4096,
        stagingBlocks: 16,
        highWaterMark: 16 * KIB,
      });
      using served = serve(server, { hostname: "127.0.0.1" }, ring);
      const plans = Array.from({ length: 24 }, () => planOf(random, 64 * KIB));
      const run = CLIENTS["iteration"] as (typeof CLIENTS)[string];
      await expectEchoes(plans.map((plan) => run(served.place, plan, ring)), plans);
      expect(served.errors).toEqual([]);
    });
  });
});

test("a loop that is slow at random loses nothing", async () => {
  await seeded(async (random) => {
    using served = serve("streams", { hostname: "127.0.0.1" });
    const plans = Array.from({ length: 16 }, () => planOf(random, 512 * KIB));
    const echoes = plans.map(async ({ bytes }) => {
      const socket = await connect({ ...served.place, socket: {} });
      socket.end(bytes);
      const chunks: Buffer[] = [];
      for await (const chunk of socket) {
        chunks.push(chunk);
        if (random.chance(0.3)) await turns(random.size(1, 20));
        if (random.chance(0.05)) socket.pause();
        if (random.chance(0.9)) socket.resume();
        else setImmediate(() => socket.resume());
      }
      return Buffer.concat(chunks);
    });
    await expectEchoes(echoes, plans);
  });
});

test("an inbox that is never quite empty lets go of what was taken", async () => {
  const ignore = () => undefined;
  const inflow = { full: ignore, ended: ignore, given: ignore, dropped: ignore };
  const inbox = new Inbox(inflow);
  const pushed: WeakRef<Uint8Array>[] = [];
  const push = () => {
    const chunk = Buffer.allocUnsafeSlow(KIB);
    pushed.push(new WeakRef(chunk));
    inbox.push(chunk);
  };
  push();
  for (let i = 0; i < 2000; i++) {
    push();
    await inbox.next();
  }
  await turns(5); // a WeakRef holds until the end of the turn
  Bun.gc(true);
  expect(pushed.filter((reference) => reference.deref() !== undefined).length).toBeLessThan(200);
});

// A send that fails because the peer is gone: what the peer sent before it went is still received,
// all of it, and only then is the connection over. Both ways to fail, both kinds of sockets.

import { describe, expect, test } from "bun:test";
import { connect, listen, Ring, type Socket } from "../ts/index.ts";
import { seeded } from "./support/random.ts";
import { until } from "./support/until.ts";

/** What the server's end was told. */
class Told {
  readonly events: string[] = [];
  readonly chunks: Buffer[] = [];
  code: string | undefined;

  get bytes(): Buffer {
    return Buffer.concat(this.chunks);
  }

  readonly handlers = {
    data: (_socket: Socket, chunk: Buffer) => {
      if (this.events.at(-1) !== "data") this.events.push("data");
      this.chunks.push(Buffer.from(chunk));
    },
    drain: () => void this.events.push("drain"),
    end: () => void this.events.push("end"),
    close: (_socket: Socket, error?: Error & { code?: string }) => {
      this.events.push("close");
      this.code = error?.code;
    },
  };
}

/** A server's socket that reads nothing yet, and its client. */
async function pair(ring: Ring, transport: "tcp" | "unix", told: Told, allowHalfOpen = true) {
  const accepted = Promise.withResolvers<Socket>();
  const open = (socket: Socket) => {
    socket.pause();
    accepted.resolve(socket);
  };
  const socket = { open, ...told.handlers };
  const unix = `\0bun-uring-${crypto.randomUUID()}`;
  const place = transport === "tcp" ? { hostname: "127.0.0.1", port: 0 } : { unix };
  using listener = listen({ ...place, ring, socket, allowHalfOpen } as never);
  const target = transport === "tcp" ? { ...place, port: listener.port } : place;
  const client = await connect({ ...target, ring, socket: {} } as never) as Socket;
  return { client, server: await accepted.promise };
}

const turns = async (ring: Ring, count: number) => {
  for (let i = 0; i < count; i++) await ring.nop();
};

/** Ends the client, and waits until it is gone. */
async function gone(client: Socket, how: "reset" | "close"): Promise<void> {
  if (how === "reset") client.terminate();
  else client.close();
  await until(() => client.readyState === -1);
}

const cases = [
  ["tcp", "reset", ["data", "close"], "ECONNRESET"],
  ["tcp", "close", ["data", "end", "close"], "EPIPE"],
  ["unix", "close", ["data", "end", "close"], "EPIPE"],
] as const;

describe.each(cases)("over %s, after a %s of the peer", (transport, how, events, code) => {
  test.each([1, 50_000])("a write of %p bytes that fails loses nothing", async (size) => {
    await seeded(async (random) => {
      await using ring = new Ring();
      const told = new Told();
      const { client, server } = await pair(ring, transport, told);
      const bytes = random.bytes(random.between(20_000, 50_000));
      await client.send(bytes);
      await gone(client, how);
      // The first one after a FIN is answered with RST, the next one hears of it.
      await until(() => server.write(Buffer.alloc(size)) === -1);
      await turns(ring, 50);
      expect(told.events).toEqual([]); // paused
      server.resume();
      await until(() => told.events.includes("close"));
      expect(told.bytes.equals(bytes)).toBe(true);
      expect(told.events as readonly string[]).toEqual(events);
      expect(told.code).toBe(code);
    });
  });

  test("a send that waits for room fails with what was sent, and loses nothing", async () => {
    await using ring = new Ring();
    const told = new Told();
    const { client, server } = await pair(ring, transport, told);
    client.pause();
    const stuck = server.send(Buffer.alloc(16 << 20)).catch((error: { code: string }) => error);
    const later = server.chain(["a", "b"]).catch((error: { code: string }) => error);
    await turns(ring, 20);
    await client.send("said before");
    await gone(client, "reset");
    expect(["ECONNRESET", "EPIPE"]).toContain((await stuck as { code: string }).code);
    expect(["ECONNRESET", "EPIPE"]).toContain((await later as { code: string }).code);
    expect(server.write("x")).toBe(-1);
    server.resume();
    await until(() => told.events.includes("close"));
    expect(told.bytes.toString()).toBe("said before");
    expect(["ECONNRESET", "EPIPE"]).toContain(told.code as string);
  });
});

test("a reader gets what was sent before, then the error", async () => {
  await using ring = new Ring();
  const unix = `\0bun-uring-${crypto.randomUUID()}`;
  const accepted = Promise.withResolvers<Socket>();
  using _listener = listen({ unix, ring, socket: { open: accepted.resolve } });
  const client = await connect({ unix, ring, socket: {} });
  const server = await accepted.promise;
  const bytes = Buffer.alloc(150_000, "read me ");
  await client.send(bytes);
  await gone(client, "close");
  await until(() => server.write("x") === -1);
  const chunks: Buffer[] = [];
  const read = (async () => {
    for await (const chunk of server) chunks.push(chunk);
  })();
  // The FIN is an end in order for who reads; `close` says that a send has failed.
  await read;
  expect(Buffer.concat(chunks).equals(bytes)).toBe(true);
});

test("a writer that was refused hears that nothing more can be written", async () => {
  await using ring = new Ring();
  const told = new Told();
  const { client, server } = await pair(ring, "unix", told);
  while (server.write(Buffer.alloc(64 << 10)) === 64 << 10);
  await gone(client, "reset");
  await until(() => told.events.length > 0);
  await until(() => server.write("x") === -1); // that drain may have come of room
  expect(new Set(told.events)).toEqual(new Set(["drain"]));
  server.close();
  await until(() => told.events.includes("close"));
  expect(told.code).toMatch(/^(?:EPIPE|ECONNRESET)$/);
});

test.each(["close", "terminate"] as const)("%s does not wait for a reader", async (how) => {
  await using ring = new Ring();
  const told = new Told();
  const { client, server } = await pair(ring, "unix", told);
  await client.send("unread");
  await gone(client, "close");
  await until(() => server.write("x") === -1);
  server[how]();
  await until(() => told.events.includes("close"));
  expect(told.bytes.length).toBe(0);
});

test("what is forwarded from a socket whose sends fail arrives", async () => {
  await using ring = new Ring();
  const told = new Told();
  const first = await pair(ring, "unix", new Told());
  const second = await pair(ring, "unix", told);
  second.server.resume();
  const bytes = Buffer.alloc(150_000, "forward me ");
  await first.client.send(bytes);
  await gone(first.client, "close");
  await until(() => first.server.write("x") === -1);
  const piped = first.server.pipeTo(second.client);
  first.server.resume();
  expect(await piped).toBe(bytes.length);
  await until(() => told.bytes.length === bytes.length);
  expect(told.bytes.equals(bytes)).toBe(true);
  second.server.terminate();
});

test("who is paused until a drain that helps no more is closed soon after a reset", async () => {
  await using ring = new Ring();
  const told = new Told();
  const { client, server } = await pair(ring, "tcp", told);
  client.pause();
  while (server.write(Buffer.alloc(1 << 16)) > 0) await turns(ring, 1);
  await gone(client, "reset");
  await until(() => told.events.includes("close"));
  expect(told.events).toEqual(["drain", "close"]);
  expect([told.code, server.readyState]).toEqual(["ECONNRESET", -1]);
});

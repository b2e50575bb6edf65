// connect(): whom it reaches, what a connection says about itself, how it fails and how it ends.
// The servers are node:net's where the other end matters, ours where both ends do.

import { describe, expect, test } from "bun:test";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import * as net from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { connect, listen, Ring, UringError, type Socket } from "../ts/index.ts";
import { answer, program } from "./support/child.ts";
import {
  descriptorOf,
  IPPROTO_TCP,
  SO_KEEPALIVE,
  socketOption,
  SOL_SOCKET,
  TCP_KEEPIDLE,
  TCP_NODELAY,
} from "./support/descriptors.ts";
import { End, pair } from "./support/pair.ts";
import { turns, until } from "./support/until.ts";

const LOOPBACK = "127.0.0.1";

/** A node:net server on a free port. */
async function nodeServer(
  onConnection: (socket: net.Socket) => void,
  options: net.ServerOpts = {},
): Promise<{ port: number } & AsyncDisposable> {
  const sockets = new Set<net.Socket>();
  const server = net.createServer(options, (socket) => {
    sockets.add(socket);
    // Expected where a test resets; the client's side of it is what is checked.
    socket.on("error", () => void socket.destroy());
    onConnection(socket);
  });
  await new Promise<void>((resolve) => server.listen(0, LOOPBACK, resolve));
  return {
    port: (server.address() as net.AddressInfo).port,
    async [Symbol.asyncDispose]() {
      for (const socket of sockets) socket.destroy();
      await new Promise((resolve) => server.close(resolve));
    },
  };
}

/** A port that nobody listens on: it was free a moment ago. */
function freePort(): number {
  using listener = Bun.listen({ hostname: LOOPBACK, port: 0, socket: { data() {} } });
  return listener.port;
}

async function rejection(promise: Promise<unknown>): Promise<UringError> {
  const outcome: unknown = await promise.then(
    () => new Error("it did not reject"),
    (error: unknown) => error,
  );
  if (outcome instanceof UringError) return outcome;
  throw outcome;
}

describe("reaching a peer", () => {
  test("open runs before the promise gives the socket", async () => {
    await using server = await nodeServer((socket) => socket.end());
    const order: string[] = [];
    const closed = Promise.withResolvers<void>();
    let opened: unknown;
    const socket = await connect({
      hostname: LOOPBACK,
      port: server.port,
      data: "mine",
      socket: {
        open(socket: Socket<string>) {
          opened = socket;
          order.push(`open ${socket.readyState} ${socket.data}`);
        },
        close: () => closed.resolve(),
      },
    });
    order.push("promise");
    expect(socket).toBe(opened as typeof socket);
    await closed.promise;
    expect(order).toEqual(["open 1 mine", "promise"]);
    expect(socket.readyState).toBe(-1);
  });

  test("a host name is looked up", async () => {
    await using server = await nodeServer((socket) => socket.end());
    const closed = Promise.withResolvers<void>();
    const handlers = { close: () => closed.resolve() };
    using socket = await connect({ hostname: "localhost", port: server.port, socket: handlers });
    expect([LOOPBACK, "::1"]).toContain(socket.remoteAddress ?? "");
    await closed.promise;
  });

  test.each([
    { hostname: LOOPBACK, family: "IPv4" },
    { hostname: "::1", family: "IPv6" },
  ] as const)("both ends of $hostname know the addresses", async ({ hostname, family }) => {
    using both = await pair({ hostname });
    const { client, server, listener } = both;
    expect(client.remoteAddress).toBe(hostname);
    expect(client.remotePort).toBe(listener.port);
    expect(server.localPort).toBe(listener.port);
    expect(server.localAddress).toBe(hostname);
    expect(client.localPort).toBeGreaterThan(0);
    expect(server.remotePort).toBe(client.localPort as number);
    expect(server.remoteAddress).toBe(client.localAddress as string);
    expect([client.remoteFamily, client.localFamily]).toEqual([family, family]);
    expect([server.remoteFamily, server.localFamily]).toEqual([family, family]);
  });

  test("an address that was asked for stays known after the close", async () => {
    using both = await pair();
    const { client, server, atServer, atClient } = both;
    const before = [server.remoteAddress, server.remotePort, client.localPort];
    client.terminate();
    await Promise.all([atClient.closed.promise, atServer.closed.promise]);
    expect([server.remoteAddress, server.remotePort, client.localPort]).toEqual(before);
    expect(server.localPort).toBeUndefined();
  });
});

describe("failing to reach a peer", () => {
  test("rejects with ECONNREFUSED, naming the address", async () => {
    const port = freePort();
    const error = await rejection(connect({ hostname: LOOPBACK, port, socket: {} }));
    expect([error.code, error.errno]).toEqual(["ECONNREFUSED", -111]);
    expect([error.operation, error.phase]).toEqual(["connect", "completion"]);
    expect(error.message).toContain(`${LOOPBACK}:${port}`);
  });

  test("tells connectError first, and nothing else", async () => {
    const seen: unknown[] = [];
    const end = new End();
    const promise = connect({
      hostname: LOOPBACK,
      port: freePort(),
      data: 7,
      socket: {
        ...(end.handlers as object),
        connectError(socket: Socket<number>, error: Error) {
          seen.push(socket.data, socket.readyState, (error as UringError).code);
        },
      },
    });
    const error = await rejection(promise);
    expect(seen).toEqual([7, -1, "ECONNREFUSED"]);
    expect(error.code).toBe("ECONNREFUSED");
    await turns(20);
    expect(end.log).toEqual([]);
  });

  test("with connectError the rejection is handled, without it it is not", async () => {
    const outcome = await answer<{ handled: number; unhandled: number }>(program("unreachable"));
    expect(outcome).toEqual({ handled: 0, unhandled: 1 });
  });

  test("with a host name, connectError is called once, for the last address", async () => {
    let calls = 0;
    const handlers = { connectError: () => void calls++ };
    const port = freePort();
    const error = await rejection(connect({ hostname: "localhost", port, socket: handlers }));
    expect([error.code, calls]).toEqual(["ECONNREFUSED", 1]);
  });

  test("a name that does not exist rejects, naming it", async () => {
    const error = await rejection(
      connect({ hostname: "no.such.name.invalid", port: 80, socket: {} }),
    );
    expect([error.code, error.errno]).toEqual(["ENOTFOUND", -3008]);
    expect(error.message).toContain("no.such.name.invalid");
  });

  test("a Unix path that is missing, or nobody listens on, rejects", async () => {
    const folder = mkdtempSync(join(tmpdir(), "bun-uring-"));
    using _folder = { [Symbol.dispose]: () => rmSync(folder, { recursive: true }) };
    const missing = await rejection(connect({ unix: join(folder, "missing"), socket: {} }));
    expect([missing.code, missing.phase]).toEqual(["ENOENT", "completion"]);
    expect(missing.message).toContain(join(folder, "missing"));
    writeFileSync(join(folder, "file"), "");
    const file = await rejection(connect({ unix: join(folder, "file"), socket: {} }));
    expect(file.code).toBe("ECONNREFUSED");
  });

  test("it can be tried again and again, and then succeed", async () => {
    const port = freePort();
    for (let i = 0; i < 20; i++) {
      const error = await rejection(connect({ hostname: LOOPBACK, port, socket: {} }));
      expect(error.code).toBe("ECONNREFUSED");
    }
    using listener = listen({ hostname: LOOPBACK, port, socket: { data() {} } });
    using socket = await connect({ hostname: LOOPBACK, port, socket: {} });
    expect(socket.remotePort).toBe(listener.port);
  });
});

describe("end", () => {
  test("half-closes: the peer may go on sending until it ends too", async () => {
    using both = await pair({ allowHalfOpen: true });
    const { client, server, atServer, atClient } = both;
    expect(client.end("last")).toBe(4);
    expect(client.readyState).toBe(-2);
    expect(client.write("more")).toBe(-1);
    expect(client.end("more")).toBe(-1);
    await atServer.ended.promise;
    expect(atServer.bytes.toString()).toBe("last");
    expect(server.write("answer")).toBe(6);
    expect((await atClient.received(6)).toString()).toBe("answer");
    expect(atClient.order).toEqual(["open", "data"]);
    server.end();
    await Promise.all([atClient.closed.promise, atServer.closed.promise]);
    expect(atClient.order).toEqual(["open", "data", "end", "close"]);
    expect(atServer.order).toEqual(["open", "data", "end", "close"]);
    expect([atClient.closeError, atServer.closeError]).toEqual([undefined, undefined]);
  });

  test("without allowHalfOpen the peer's FIN ends our side after the handler", async () => {
    const wrote: number[] = [];
    const end = (socket: Socket) => void wrote.push(socket.write("farewell"));
    using both = await pair({ serverSocket: { end } });
    both.client.end("x");
    await Promise.all([both.atServer.closed.promise, both.atClient.closed.promise]);
    expect(wrote).toEqual([8]);
    expect(both.atClient.bytes.toString()).toBe("farewell");
    expect(both.atServer.order).toEqual(["open", "data", "close"]);
    expect(both.atServer.closeError).toBeUndefined();
  });

  test("with allowHalfOpen the socket stays open after the peer's FIN", async () => {
    using both = await pair({ allowHalfOpen: true });
    both.client.end();
    await both.atServer.ended.promise;
    await turns(50);
    expect(both.atServer.order).toEqual(["open", "end"]);
    expect(both.server.readyState).toBe(1);
    expect(both.server.write("x")).toBe(1);
    both.server.end();
    await both.atClient.closed.promise;
    expect(both.atClient.bytes.toString()).toBe("x");
  });

  test("shutdown() ends the writing side, shutdown(true) the reading side", async () => {
    using writing = await pair({ allowHalfOpen: true });
    writing.client.shutdown();
    await writing.atServer.ended.promise;
    writing.server.write("x");
    expect((await writing.atClient.received(1)).toString()).toBe("x");

    using reading = await pair({ allowHalfOpen: true });
    reading.client.shutdown(true);
    await reading.atClient.ended.promise;
    reading.client.write("y");
    expect((await reading.atServer.received(1)).toString()).toBe("y");
    reading.client.end();
    await reading.atClient.closed.promise;
    expect(reading.atClient.order).toEqual(["open", "end", "close"]);
    expect(reading.atClient.closeError).toBeUndefined();
  });
});

describe("close and terminate", () => {
  test("close does not wait for the peer's FIN", async () => {
    using both = await pair({ allowHalfOpen: true });
    both.client.write("bytes");
    both.client.close();
    await both.atClient.closed.promise;
    expect(both.atClient.order).toEqual(["open", "close"]);
    await both.atServer.ended.promise;
    expect(both.atServer.bytes.toString()).toBe("bytes");
    expect(both.server.readyState).toBe(1);
  });

  test("terminate resets: the peer closes with ECONNRESET", async () => {
    using both = await pair();
    both.client.terminate();
    expect(both.client.write("x")).toBe(-1);
    await Promise.all([both.atClient.closed.promise, both.atServer.closed.promise]);
    expect((both.atServer.closeError as UringError).code).toBe("ECONNRESET");
    expect(both.atClient.closeError).toBeUndefined();
    expect(both.atServer.order).toEqual(["open", "close"]);
  });

  test("terminate drops what is queued and does not wait for a peer that never reads", async () => {
    using both = await pair();
    both.server.pause();
    while (both.client.write(Buffer.alloc(1 << 20)) > 0);
    both.client.terminate();
    await both.atClient.closed.promise;
    both.server.resume();
    await both.atServer.closed.promise;
    expect((both.atServer.closeError as UringError).code).toBe("ECONNRESET");
    await until(() => Ring.default.stats().staging_blocks_used === 0);
  });

  test("terminate after close gives up waiting for the queue", async () => {
    using both = await pair();
    both.server.pause();
    while (both.client.write(Buffer.alloc(1 << 20)) > 0);
    both.client.close();
    await turns(50);
    expect(both.atClient.order).toEqual(["open"]);
    both.client.terminate();
    await both.atClient.closed.promise;
    expect(both.atClient.order).toEqual(["open", "close"]);
  });

  test("close is told once, however often one ends, and nothing comes after it", async () => {
    using both = await pair();
    const { client, server, atClient, atServer } = both;
    server.write("on its way");
    for (let i = 0; i < 3; i++) {
      client.end();
      client.close();
      client.terminate();
      server.terminate();
    }
    await Promise.all([atClient.closed.promise, atServer.closed.promise]);
    client.close();
    client.pause();
    client.resume();
    client.ref();
    client.flush();
    await turns(50);
    for (const { log } of [atClient, atServer]) {
      expect(log.filter((event) => event === "close")).toHaveLength(1);
      expect(log.at(-1)).toBe("close");
    }
    expect(client.setNoDelay()).toBe(false);
    expect(client.setKeepAlive(true)).toBe(false);
    expect(client.write("x")).toBe(-1);
  });

  test("using closes the connection politely", async () => {
    const closed = Promise.withResolvers<string>();
    await using server = await nodeServer((socket) => {
      const chunks: Buffer[] = [];
      socket.on("data", (chunk: Buffer) => void chunks.push(chunk));
      socket.on("end", () => closed.resolve(Buffer.concat(chunks).toString()));
    });
    {
      using socket = await connect({ hostname: LOOPBACK, port: server.port, socket: {} });
      socket.write("all of it");
    }
    expect(await closed.promise).toBe("all of it");
  });

  test("a slot that is used again never hears of its predecessor", async () => {
    const names: string[] = [];
    for (let round = 0; round < 50; round++) {
      using both = await pair();
      both.server.write(`${round}`);
      await both.atClient.received(1);
      names.push(both.atClient.bytes.toString());
      both.client.terminate();
      both.server.terminate();
    }
    expect(names).toEqual(Array.from({ length: 50 }, (_, round) => `${round}`));
  });
});

describe("pause", () => {
  test("pushes back until resume, and resume delivers everything", async () => {
    using both = await pair();
    both.server.pause();
    await turns(30);
    let sent = 0;
    const bytes = Buffer.alloc(1 << 20, 5);
    for (let taken = 1; taken > 0; sent += taken) taken = both.client.write(bytes);
    await turns(100);
    expect(both.client.write("x")).toBe(0);
    expect(both.atServer.log).toEqual(["open"]);
    both.server.resume();
    expect((await both.atServer.received(sent)).length).toBe(sent);
  });

  test("inside data lets no more than what was on its way through", async () => {
    const chunks: number[] = [];
    let socket: Socket | undefined;
    using both = await pair({
      serverSocket: {
        data(paused: Socket, chunk: Buffer) {
          socket = paused;
          chunks.push(chunk.length);
          paused.pause();
        },
      },
    });
    both.client.write("one");
    await until(() => chunks.length > 0);
    await turns(50);
    both.client.write("two");
    await turns(100);
    expect(chunks).toEqual([3]);
    socket?.resume();
    await until(() => chunks.length === 2);
    expect(chunks).toEqual([3, 3]);
  });

  test("and resume in any order within a turn leave what was asked last", async () => {
    using both = await pair();
    const { server, client, atServer } = both;
    for (let i = 0; i < 10; i++) {
      server.pause();
      server.resume();
    }
    client.write("a");
    await atServer.received(1);
    for (let i = 0; i < 10; i++) {
      server.resume();
      server.pause();
    }
    await turns(50);
    client.write("b");
    await turns(100);
    expect(atServer.length).toBe(1);
    server.resume();
    await atServer.received(2);
  });
});

describe("socket options", () => {
  test("no delay is on from the start, and setNoDelay changes it", async () => {
    using both = await pair();
    const { client, server } = both;
    const at = (socket: Socket) =>
      socketOption(
        descriptorOf(socket.localPort ?? 0, socket.remotePort ?? 0),
        IPPROTO_TCP,
        TCP_NODELAY,
      );
    expect([at(client), at(server)]).toEqual([1, 1]);
    expect(client.setNoDelay(false)).toBe(true);
    expect([at(client), at(server)]).toEqual([0, 1]);
    expect(client.setNoDelay()).toBe(true);
    expect(at(client)).toBe(1);
  });

  test("setKeepAlive sets the switch and the delay", async () => {
    using both = await pair();
    const { client } = both;
    const descriptor = descriptorOf(client.localPort ?? 0, client.remotePort ?? 0);
    const state = () => [
      socketOption(descriptor, SOL_SOCKET, SO_KEEPALIVE),
      socketOption(descriptor, IPPROTO_TCP, TCP_KEEPIDLE),
    ];
    expect(state()[0]).toBe(0);
    expect(client.setKeepAlive(true, 30_000)).toBe(true);
    expect(state()).toEqual([1, 30]);
    expect(client.setKeepAlive(false)).toBe(true);
    expect(state()[0]).toBe(0);
  });

  test("a Unix socket says false to TCP's options", async () => {
    using both = await pair({ unix: `\0bun-uring-${crypto.randomUUID()}` });
    expect(both.client.setNoDelay(true)).toBe(false);
    expect(both.client.remotePort).toBeUndefined();
    expect(both.client.remoteFamily).toBeUndefined();
  });

  test("bytesWritten counts what was taken", async () => {
    using both = await pair();
    expect(both.client.bytesWritten).toBe(0);
    both.client.write("é");
    both.client.write(new Uint8Array(5000), 1000);
    both.client.end("x");
    expect(both.client.bytesWritten).toBe(4003);
    expect((await both.atServer.received(4003)).length).toBe(4003);
  });
});

test("closing the ring rejects a connect that is under way", async () => {
  const ring = new Ring();
  using peer = listen({ hostname: LOOPBACK, port: 0, socket: { data() {} } });
  const seen: string[] = [];
  const connecting = connect({
    hostname: LOOPBACK,
    port: peer.port,
    ring,
    socket: {
      close: () => void seen.push("close"),
      connectError: (_socket, error) => {
        seen.push(`connectError ${(error as UringError).code}`);
      },
    },
  });
  let outcome = "pending";
  connecting.then(
    () => (outcome = "connected"),
    (error: UringError) => (outcome = error.code),
  );
  await ring.close();
  await turns(20);
  expect(outcome).toBe("ECANCELED");
  expect(seen).toEqual(["connectError ECANCELED"]);
});

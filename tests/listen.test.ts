// listen(): places to listen on, what a listener says about itself, whom it accepts, how it stops.
// The clients are node:net's, so that the other end is known to be right.

import { describe, expect, test } from "bun:test";
import { existsSync, mkdtempSync, rmSync } from "node:fs";
import * as net from "node:net";
import { hostname, tmpdir } from "node:os";
import { join } from "node:path";
import { listen, Ring, UringError, type Socket, type SocketName } from "../ts/index.ts";
import { End } from "./support/pair.ts";
import { until } from "./support/until.ts";

const LOOPBACK = "127.0.0.1";

interface Client extends Disposable {
  socket: net.Socket;
  log: string[];
  closed: Promise<void>;
  text(): string;
}

/** A node:net client that has connected, or that has failed; `log` says what happened to it. */
async function clientOf(options: net.NetConnectOpts): Promise<Client> {
  const socket = net.connect(options);
  const log: string[] = [];
  const chunks: Buffer[] = [];
  const ready = Promise.withResolvers<void>();
  const closed = Promise.withResolvers<void>();
  socket.on("connect", () => {
    log.push("connect");
    ready.resolve();
  });
  socket.on("data", (chunk: Buffer) => void chunks.push(chunk));
  socket.on("end", () => void log.push("end"));
  socket.on("error", (error: NodeJS.ErrnoException) => void log.push(error.code ?? error.message));
  socket.on("close", () => {
    log.push("close");
    ready.resolve();
    closed.resolve();
  });
  await ready.promise;
  const text = () => Buffer.concat(chunks).toString();
  return { socket, log, closed: closed.promise, text, [Symbol.dispose]: () => socket.destroy() };
}

function unixPath(): { path: string } & Disposable {
  const folder = mkdtempSync(join(tmpdir(), "bun-uring-"));
  const path = join(folder, "socket");
  return { path, [Symbol.dispose]: () => rmSync(folder, { recursive: true, force: true }) };
}

/** The error that `call` throws. */
function thrown(call: () => unknown): UringError {
  try {
    call();
  } catch (error) {
    if (error instanceof UringError) return error;
    throw error;
  }
  throw new Error("it did not throw");
}

const greeter = { data() {}, open: (socket: Socket) => void socket.end("hello") };

describe("a place to listen on", () => {
  test.each([LOOPBACK, "::1", "[::1]", "localhost", hostname(), "0.0.0.0", "::"])(
    "hostname %s is bound and accepts",
    async (name) => {
      using listener = listen({ hostname: name, port: 0, socket: greeter });
      expect(listener.port).toBeGreaterThan(0);
      expect(listener.hostname).toBe(name);
      expect(listener.unix).toBeUndefined();
      const bound: SocketName = {};
      listener.getsockname(bound);
      expect(net.isIP(bound.address ?? "")).toBeGreaterThan(0);
      expect(bound.family).toBe(net.isIPv6(bound.address ?? "") ? "IPv6" : "IPv4");
      expect(bound.port).toBe(listener.port);
      using client = await clientOf({ host: bound.address ?? "", port: listener.port });
      await client.closed;
      expect(client.text()).toBe("hello");
    },
  );

  test("without a hostname it listens on every IPv4 address", () => {
    using listener = listen({ port: 0, socket: greeter });
    expect(listener.hostname).toBe("0.0.0.0");
  });

  test("a Unix path is there while it listens and removed by stop", async () => {
    using place = unixPath();
    const listener = listen({ unix: place.path, socket: greeter });
    expect(listener.unix).toBe(place.path);
    expect(existsSync(place.path)).toBe(true);
    using client = await clientOf({ path: place.path });
    await client.closed;
    expect(client.text()).toBe("hello");
    listener.stop();
    expect(existsSync(place.path)).toBe(false);
    using again = listen({ unix: place.path, socket: greeter });
    expect(again.unix).toBe(place.path);
  });

  test("an abstract Unix socket needs no file and is free again after stop", async () => {
    const name = `\0bun-uring-${crypto.randomUUID()}`;
    for (let round = 0; round < 2; round++) {
      const listener = listen({ unix: name, socket: greeter });
      expect(listener.unix).toBe(name);
      using client = await clientOf({ path: name });
      await client.closed;
      expect(client.text()).toBe("hello");
      listener.stop(true);
      await until(() => Ring.default.pendingCount === 0);
    }
  });

  test("a Unix path may have 107 bytes and no more", () => {
    using place = unixPath();
    const longest = place.path.padEnd(107, "x");
    using listener = listen({ unix: longest, socket: greeter });
    expect(listener.unix).toBe(longest);
    expect(existsSync(longest)).toBe(true);
    expect(thrown(() => listen({ unix: `${longest}x`, socket: greeter })).code).toBe("EINVAL");
  });

  test("a taken port is refused with EADDRINUSE, naming the address", () => {
    using taken = listen({ hostname: LOOPBACK, port: 0, socket: greeter });
    const options = { hostname: LOOPBACK, port: taken.port, socket: greeter };
    const error = thrown(() => listen(options));
    expect([error.code, error.errno, error.operation]).toEqual(["EADDRINUSE", -98, "listen"]);
    expect(error.message).toContain(`${LOOPBACK}:${taken.port}`);
    expect(error.message).toContain("in use");
  });

  test("a taken path is refused with EADDRINUSE and stays", () => {
    using place = unixPath();
    using taken = listen({ unix: place.path, socket: greeter });
    expect(thrown(() => listen({ unix: place.path, socket: greeter })).code).toBe("EADDRINUSE");
    expect(existsSync(taken.unix ?? "")).toBe(true);
  });

  test("an address of another machine is refused with EADDRNOTAVAIL", () => {
    const error = thrown(() => listen({ hostname: "203.0.113.1", port: 0, socket: greeter }));
    expect(error.code).toBe("EADDRNOTAVAIL");
  });

  test("a name that does not exist is refused, naming it", () => {
    const options = { hostname: "no.such.name.invalid", port: 0, socket: greeter };
    const error = thrown(() => listen(options));
    expect([error.code, error.operation]).toEqual(["ENOTFOUND", "listen"]);
    expect(error.message).toContain("no.such.name.invalid");
  });

  test("a folder that does not exist is refused with ENOENT", () => {
    const error = thrown(() => listen({ unix: "/no/such/folder/socket", socket: greeter }));
    expect(error.code).toBe("ENOENT");
  });

  test("reusePort lets two listen on one port, exclusive does not", () => {
    const options = { hostname: LOOPBACK, socket: greeter, reusePort: true };
    using first = listen({ ...options, port: 0 });
    using second = listen({ ...options, port: first.port });
    expect(second.port).toBe(first.port);
    const claim = { ...options, exclusive: true };
    expect(thrown(() => listen({ ...claim, port: first.port })).code).toBe("EADDRINUSE");
    using alone = listen({ ...claim, port: 0 });
    expect(thrown(() => listen({ ...options, port: alone.port })).code).toBe("EADDRINUSE");
  });

  test("ipv6Only decides whether :: takes IPv4 clients", async () => {
    using both = listen({ hostname: "::", port: 0, socket: greeter });
    using only = listen({ hostname: "::", port: 0, ipv6Only: true, socket: greeter });
    using taken = await clientOf({ host: LOOPBACK, port: both.port });
    await taken.closed;
    expect(taken.text()).toBe("hello");
    using refused = await clientOf({ host: LOOPBACK, port: only.port });
    expect(refused.log).toEqual(["ECONNREFUSED", "close"]);
    using sixth = await clientOf({ host: "::1", port: only.port });
    await sixth.closed;
    expect(sixth.text()).toBe("hello");
  });
});

describe("accepting", () => {
  test("the handlers run in the order open, data, end, close", async () => {
    const end = new End();
    using listener = listen({ hostname: LOOPBACK, port: 0, socket: end.handlers });
    using client = await clientOf({ host: LOOPBACK, port: listener.port });
    client.socket.end("bytes");
    await end.closed.promise;
    expect(end.order).toEqual(["open", "data", "end", "close"]);
    expect(end.bytes.toString()).toBe("bytes");
    expect(end.closeError).toBeUndefined();
    await client.closed;
    expect(client.log).toEqual(["connect", "end", "close"]);
  });

  test("each connection starts with the listener's data and may have its own", async () => {
    const seen: unknown[] = [];
    const both = Promise.withResolvers<void>();
    using listener = listen<{ name: string }>({
      hostname: LOOPBACK,
      port: 0,
      data: { name: "first" },
      socket: {
        open(socket) {
          seen.push(socket.data.name);
          socket.data = { name: "own" };
          seen.push(socket.data.name);
          if (seen.length === 4) both.resolve();
        },
        data() {},
      },
    });
    using one = await clientOf({ host: LOOPBACK, port: listener.port });
    using two = await clientOf({ host: LOOPBACK, port: listener.port });
    await both.promise;
    expect(seen).toEqual(["first", "own", "first", "own"]);
    expect(listener.data).toEqual({ name: "first" });
    expect([one.log, two.log]).toEqual([["connect"], ["connect"]]);
  });

  test("a connection knows its listener, which counts it", async () => {
    const opened = Promise.withResolvers<Socket>();
    const end = new End();
    const socket = { ...end.handlers, open: opened.resolve };
    using listener = listen({ hostname: LOOPBACK, port: 0, socket });
    expect(listener.connectionCount).toBe(0);
    using client = await clientOf({ host: LOOPBACK, port: listener.port });
    expect((await opened.promise).listener).toBe(listener);
    expect(listener.connectionCount).toBe(1);
    client.socket.end();
    await end.closed.promise;
    expect(listener.connectionCount).toBe(0);
  });

  test("a peer that resets gives close with ECONNRESET", async () => {
    const end = new End();
    using listener = listen({ hostname: LOOPBACK, port: 0, socket: end.handlers });
    using client = await clientOf({ host: LOOPBACK, port: listener.port });
    client.socket.write("bytes");
    await end.received(5);
    client.socket.resetAndDestroy();
    await end.closed.promise;
    expect(end.order).toEqual(["open", "data", "close"]);
    const error = end.closeError as UringError;
    expect(error).toBeInstanceOf(UringError);
    expect([error.code, error.errno, error.phase]).toEqual(["ECONNRESET", -104, "completion"]);
  });

  test("handlers are called with their object as this", async () => {
    const seen = Promise.withResolvers<string>();
    class Server {
      name = "mine";
      open() {
        seen.resolve(this.name);
      }
      data() {}
    }
    using listener = listen({ hostname: LOOPBACK, port: 0, socket: new Server() });
    using client = await clientOf({ host: LOOPBACK, port: listener.port });
    expect(await seen.promise).toBe("mine");
    expect(client.log).toEqual(["connect"]);
  });

  test("reload gives the handlers to connections accepted from then on", async () => {
    const seen: string[] = [];
    const handlers = (name: string) => ({
      data: (socket: Socket) => {
        seen.push(name);
        socket.end();
      },
    });
    using listener = listen({ hostname: LOOPBACK, port: 0, socket: handlers("old") });
    using first = await clientOf({ host: LOOPBACK, port: listener.port });
    first.socket.write("x");
    await first.closed;
    listener.reload({ socket: handlers("new") });
    using second = await clientOf({ host: LOOPBACK, port: listener.port });
    second.socket.write("x");
    await second.closed;
    expect(seen).toEqual(["old", "new"]);
  });
});

describe("stop", () => {
  async function opened() {
    const end = new End();
    const accepted = Promise.withResolvers<Socket>();
    const handlers = { ...end.handlers, open: accepted.resolve };
    const listener = listen({ hostname: LOOPBACK, port: 0, socket: handlers });
    const client = await clientOf({ host: LOOPBACK, port: listener.port });
    return { end, listener, client, socket: await accepted.promise };
  }

  test("without true refuses new connections and keeps the open ones", async () => {
    const { end, listener, client, socket } = await opened();
    listener.stop();
    await until(async () => {
      using late = await clientOf({ host: LOOPBACK, port: listener.port });
      return late.log[0] === "ECONNREFUSED";
    });
    client.socket.write("still");
    expect((await end.received(5)).toString()).toBe("still");
    socket.end("bye");
    client.socket.end();
    await Promise.all([end.closed.promise, client.closed]);
    expect(client.text()).toBe("bye");
    expect(end.closeError).toBeUndefined();
  });

  test("with true closes the open connections, with FIN", async () => {
    const { end, listener, client } = await opened();
    listener.stop(true);
    await Promise.all([end.closed.promise, client.closed]);
    expect(client.log).toEqual(["connect", "end", "close"]);
    expect(end.order).toEqual(["close"]);
    expect(listener.connectionCount).toBe(0);
  });

  test("with true after a stop without it closes what was kept", async () => {
    const { end, listener, client } = await opened();
    listener.stop();
    listener.stop();
    listener.stop(true);
    await Promise.all([end.closed.promise, client.closed]);
    expect(client.log).toEqual(["connect", "end", "close"]);
  });

  test("inside a handler takes effect after it", async () => {
    const end = new End();
    const listener = listen({
      hostname: LOOPBACK,
      port: 0,
      socket: {
        ...end.handlers,
        data(socket: Socket) {
          listener.stop(true);
          end.log.push(`write ${socket.write("late")}`);
        },
      },
    });
    using client = await clientOf({ host: LOOPBACK, port: listener.port });
    client.socket.write("x");
    await Promise.all([end.closed.promise, client.closed]);
    expect(end.log).toEqual(["open", "write -1", "close"]);
    expect(client.text()).toBe("");
  });

  test("using stops the listener and lets the port go", async () => {
    let port: number;
    {
      using listener = listen({ hostname: LOOPBACK, port: 0, socket: greeter });
      port = listener.port;
    }
    await until(() => Ring.default.pendingCount === 0);
    using again = listen({ hostname: LOOPBACK, port, socket: greeter });
    expect(again.port).toBe(port);
  });
});

test("a listener of a closed ring is stopped, its port free", async () => {
  const ring = new Ring();
  const listener = listen({ hostname: LOOPBACK, port: 0, ring, socket: { data() {} } });
  await ring.close();
  listener.stop();
  using again = listen({ hostname: LOOPBACK, port: listener.port, socket: { data() {} } });
  expect(again.port).toBe(listener.port);
});

test("closing the ring removes the path of a Unix listener", async () => {
  const unix = join(tmpdir(), `bun-uring-${crypto.randomUUID()}`);
  using _path = { [Symbol.dispose]: () => rmSync(unix, { force: true }) };
  const ring = new Ring();
  listen({ unix, ring, socket: { data() {} } });
  await ring.close();
  expect(existsSync(unix)).toBe(false);
});

test("a port is free as soon as stop returns", () => {
  const first = listen({ hostname: LOOPBACK, port: 0, socket: { data() {} } });
  first.stop();
  using second = listen({ hostname: LOOPBACK, port: first.port, socket: { data() {} } });
  expect(second.port).toBe(first.port);
});

// connect() beyond an address and a port: a signal, where from, several addresses of a name,
// descriptors from elsewhere. Its time-out is in socket_timeout.test.ts.

import { describe, expect, mock, spyOn, test } from "bun:test";
import { closeSync, fstatSync, openSync, readFileSync } from "node:fs";
import * as net from "node:net";
import { connect, listen, Ring, UringError, type Socket } from "../ts/index.ts";
import { descriptors } from "./support/descriptors.ts";
import { rejected } from "./support/operations.ts";
import { End, pair } from "./support/pair.ts";
import {
  boundSocket,
  endOfPair,
  freshSocket,
  silentPort,
  SOCK_DGRAM,
  SOCK_NONBLOCK,
  SOCK_STREAM,
  socketPair,
} from "./support/raw_socket.ts";
import { seeded } from "./support/random.ts";
import { turns, until } from "./support/until.ts";

const LOOPBACK = "127.0.0.1";

/** Every name has these addresses. */
function resolving(addresses: string[]): Disposable {
  const found = addresses.map((address) => {
    return { address, family: net.isIP(address) as 4 | 6, ttl: 0 };
  });
  const lookup = spyOn(Bun.dns, "lookup").mockResolvedValue(found);
  return { [Symbol.dispose]: () => lookup.mockRestore() };
}

function server(hostname = LOOPBACK) {
  const end = new End();
  const accepted = Promise.withResolvers<Socket>();
  const handlers = { ...end.handlers, open: accepted.resolve };
  const listener = listen({ hostname, port: 0, socket: handlers });
  const dispose = () => listener.stop(true);
  return { port: listener.port, accepted: accepted.promise, end, [Symbol.dispose]: dispose };
}

describe("signal", () => {
  test("gives up a connect under way: AbortError, with the reason as cause", async () => {
    using silent = silentPort();
    const controller = new AbortController();
    const told: string[] = [];
    const connecting = connect({
      hostname: LOOPBACK,
      port: silent.port,
      signal: controller.signal,
      socket: { connectError: (_socket, error) => void told.push(error.name) },
    });
    await turns(20);
    const why = new Error("mine");
    controller.abort(why);
    const error = await rejected(connecting);
    expect([error.name, error.code, error.operation]).toEqual([
      "AbortError", "ECANCELED", "connect",
    ]);
    expect(error.cause).toBe(why);
    expect(told).toEqual(["AbortError"]);
    await until(() => Ring.default.pendingCount === 0);
  });

  test("that is aborted already submits nothing; connect still returns a promise", async () => {
    const { sqes } = Ring.default.stats();
    const told: string[] = [];
    const place = { hostname: LOOPBACK, port: 9, signal: AbortSignal.abort("mine") };
    const connecting = connect({
      ...place,
      socket: { connectError: () => void told.push("connectError") },
    });
    expect(told).toEqual([]);
    expect((await rejected(connecting)).cause).toBe("mine");
    expect(told).toEqual(["connectError"]);
    expect(Ring.default.stats().sqes).toBe(sqes);
  });

  test("gives up the look-up of a name", async () => {
    const controller = new AbortController();
    const place = { hostname: "no.such.name.invalid", port: 9, signal: controller.signal };
    const connecting = connect({ ...place, socket: {} });
    controller.abort();
    expect((await rejected(connecting)).name).toBe("AbortError");
    await turns(50);
  });

  test("does nothing once the connection is open, and is let go", async () => {
    using both = server();
    const controller = new AbortController();
    const { signal } = controller;
    const remove = mock(signal.removeEventListener.bind(signal));
    signal.removeEventListener = remove;
    const place = { hostname: LOOPBACK, port: both.port, signal };
    using client = await connect({ ...place, socket: {} });
    expect(remove).toHaveBeenCalledTimes(1);
    controller.abort();
    client.write("x");
    await both.end.received(1);
  });

  test("at any moment gives one outcome, and leaves nothing", async () => {
    await seeded(async (random) => {
      await using ring = new Ring();
      using silent = silentPort();
      using listener = listen({ hostname: LOOPBACK, port: 0, ring, socket: { data() {} } });
      const before = descriptors().length;
      const outcomes = { opened: 0, aborted: 0, late: 0 };
      for (let i = 0; i < 300; i++) {
        const controller = new AbortController();
        const told: string[] = [];
        const port = random.chance(0.3) ? silent.port : listener.port;
        const connecting = connect({
          hostname: random.chance(0.2) ? "localhost" : LOOPBACK,
          port,
          ring,
          signal: controller.signal,
          timeout: 20,
          socket: {
            open: () => void told.push("open"),
            connectError: () => void told.push("connectError"),
          },
        }).then(
          (socket) => {
            expect(told).toEqual(["open"]);
            outcomes.opened++;
            socket.terminate();
          },
          (error: UringError) => {
            expect(told).toEqual(["connectError"]);
            if (error.name === "AbortError") outcomes.aborted++;
            else outcomes.late++;
          },
        );
        for (let left = random.size(1, 7) - 1; left > 0; left--) {
          await (random.chance(0.5) ? Promise.resolve() : turns(1));
        }
        controller.abort();
        await connecting;
      }
      expect(outcomes.opened + outcomes.aborted + outcomes.late).toBe(300);
      expect(outcomes.opened).toBeGreaterThan(0);
      expect(outcomes.aborted).toBeGreaterThan(0);
      await until(() => ring.pendingCount === 1 && listener.connectionCount === 0); // the listener
      // Others may go meanwhile; what leaks here would be many.
      expect(descriptors().length).toBeLessThanOrEqual(before);
    });
  });

  test("in the turn in which it opens: no handler hears of it", async () => {
    using both = server();
    const controller = new AbortController();
    const told = new End();
    const place = { hostname: LOOPBACK, port: both.port, signal: controller.signal };
    const connecting = connect({ ...place, socket: told.handlers });
    Ring.default.submit(); // it is connected from here on, and nobody has been told yet
    controller.abort();
    expect((await rejected(connecting)).name).toBe("AbortError");
    await until(() => both.end.log.includes("close") || both.end.log.length === 0);
    await turns(20);
    expect(told.log).toEqual([]);
  });
});

describe("where from", () => {
  test("localAddress and localPort are what the peer sees", async () => {
    using both = server();
    const { fd, port: localPort } = boundSocket(SOCK_STREAM);
    closeSync(fd);
    const place = { hostname: LOOPBACK, port: both.port, localAddress: "127.0.0.2", localPort };
    using client = await connect({ ...place, socket: {} });
    expect([client.localAddress, client.localPort]).toEqual(["127.0.0.2", localPort]);
    const accepted = await both.accepted;
    expect([accepted.remoteAddress, accepted.remotePort]).toEqual(["127.0.0.2", localPort]);
  });

  test("reusePort lets two connections leave from one port", async () => {
    using one = server();
    using two = server();
    const local = { hostname: LOOPBACK, localAddress: LOOPBACK, reusePort: true, socket: {} };
    using first = await connect({ ...local, port: one.port });
    const localPort = first.localPort as number;
    using second = await connect({ ...local, port: two.port, localPort });
    expect(second.localPort).toBe(localPort);
  });

  test("an address that is not ours is refused with EADDRNOTAVAIL", async () => {
    const place = { hostname: LOOPBACK, port: 9, localAddress: "203.0.113.1" };
    const told: string[] = [];
    const error = await rejected(
      connect({ ...place, socket: { connectError: () => void told.push("told") } }),
    );
    expect([error.code, error.phase]).toEqual(["EADDRNOTAVAIL", "submission"]);
    expect(told).toEqual(["told"]);
  });
});

describe("the addresses of a name", () => {
  test("are tried in order until one answers", async () => {
    for (const hostname of [LOOPBACK, "::1", "127.0.0.3"]) {
      using both = server(hostname);
      using _lookup = resolving([LOOPBACK, "::1", "127.0.0.2", "127.0.0.3"]);
      const opened: string[] = [];
      const socket = {
        open: () => void opened.push("open"),
        connectError: () => void opened.push("connectError"),
      };
      using client = await connect({ hostname: "many.invalid", port: both.port, socket });
      expect(client.remoteAddress).toBe(hostname);
      expect(opened).toEqual(["open"]);
    }
  });

  test("that all fail give the last one's error, once", async () => {
    using _lookup = resolving(["127.0.0.2", "127.0.0.3", LOOPBACK]);
    const { fd, port } = boundSocket(SOCK_STREAM);
    const told: string[] = [];
    const error = await rejected(
      connect({
        hostname: "many.invalid",
        port,
        socket: { connectError: (_socket, reason) => void told.push((reason as UringError).code) },
      }),
    );
    closeSync(fd);
    expect([error.code, told]).toEqual(["ECONNREFUSED", ["ECONNREFUSED"]]);
    expect(error.message).toContain("many.invalid");
  });

  test("share the time: one without an answer leaves some to the next", async () => {
    using silent = silentPort();
    using _lookup = resolving([LOOPBACK, "127.0.0.2"]);
    using listener = listen({
      hostname: "127.0.0.2",
      port: silent.port,
      socket: { data() {} },
    });
    const start = performance.now();
    const place = { hostname: "many.invalid", port: listener.port, timeout: 400 };
    using client = await connect({ ...place, socket: {} });
    expect(client.remoteAddress).toBe("127.0.0.2");
    expect(performance.now() - start).toBeGreaterThanOrEqual(200);
  });

  test("with ipv6Only are those of IPv6", async () => {
    using both = server();
    using _lookup = resolving([LOOPBACK, "::1"]);
    const place = { hostname: "many.invalid", port: both.port, ipv6Only: true };
    expect((await rejected(connect({ ...place, socket: {} }))).code).toBe("ECONNREFUSED");
    using _other = resolving([LOOPBACK]);
    expect((await rejected(connect({ ...place, socket: {} }))).code).toBe("ENOTFOUND");
  });

  test("connectError of a name that nobody knows has the socket and its data", async () => {
    const told: unknown[] = [];
    const place = { hostname: "no.such.name.invalid", port: 80, data: "mine" };
    const error = await rejected(
      connect({
        ...place,
        socket: {
          connectError: (socket, reason) =>
            void told.push(socket.data, socket.readyState, (reason as UringError).code),
        },
      }),
    );
    expect(told).toEqual(["mine", -1, "ENOTFOUND"]);
    expect(error.code).toBe("ENOTFOUND");
  });

  test("are not tried when the ring closes meanwhile", async () => {
    const ring = new Ring();
    const told: string[] = [];
    const found = Promise.withResolvers<Awaited<ReturnType<typeof Bun.dns.lookup>>>();
    const lookup = spyOn(Bun.dns, "lookup").mockReturnValue(found.promise);
    const place = { hostname: "many.invalid", port: 80, ring };
    const connecting = connect({
      ...place,
      socket: { connectError: (_socket, error) => void told.push((error as UringError).code) },
    });
    await ring.close();
    lookup.mockRestore();
    found.resolve([{ address: LOOPBACK, family: 4, ttl: 0 }]);
    expect((await rejected(connecting)).code).toBe("ESHUTDOWN");
    expect(told).toEqual(["ESHUTDOWN"]);
  });

  test("a connectError that throws there is told to error", async () => {
    const told = Promise.withResolvers<string>();
    const connecting = connect({
      hostname: "no.such.name.invalid",
      port: 80,
      socket: {
        connectError() {
          throw new RangeError("mine");
        },
        error: (_socket, error) => told.resolve(error.message),
      },
    });
    expect((await rejected(connecting)).code).toBe("ENOTFOUND");
    expect(await told.promise).toBe("mine");
  });
});

describe("a descriptor", () => {
  test("that is connected becomes a socket like any, and is closed with it", async () => {
    const [one, two] = socketPair();
    const ends = [new End(), new End()] as const;
    const first = await connect({ fd: one, data: 5, socket: ends[0].handlers as object });
    const second = await connect({ fd: two, socket: ends[1].handlers });
    expect([first.fd, first.data, first.readyState]).toEqual([one, 5, 1]);
    expect([first.localAddress, first.remotePort]).toEqual([undefined, undefined]);
    first.write("over");
    await ends[1].received(4);
    second.end("back");
    await Promise.all(ends.map(({ closed }) => closed.promise));
    expect(ends[0].bytes.toString()).toBe("back");
    expect(ends[0].order).toEqual(["open", "data", "end", "close"]);
    for (const fd of [one, two]) expect(() => fstatSync(fd)).toThrow("EBADF");
  });

  test("of a TCP connection knows its addresses; non-blocking ones serve as well", async () => {
    using both = server();
    const other = await Bun.connect({ hostname: LOOPBACK, port: both.port, socket: { data() {} } });
    const { fd } = other as unknown as { fd: number };
    // A descriptor of one's own over the same connection, as another process would hand it over.
    const duplicate = openedAgain(fd);
    const client = await connect({ fd: duplicate, socket: {} });
    expect(client.remotePort).toBe(both.port);
    const big = Buffer.alloc(8 << 20, 1);
    let sent = 0;
    await until(() => {
      sent += Math.max(client.write(big.subarray(sent)), 0);
      return sent === big.length;
    });
    expect((await both.end.received(big.length)).length).toBe(big.length);
    client.terminate();
    other.terminate();
  });

  const refused: [string, () => number, string][] = [
    ["that is not open", () => 9999, "EBADF"],
    ["of a file", () => openSync("/dev/null", "r"), "ENOTSOCK"],
    ["of a datagram socket", () => endOfPair(SOCK_DGRAM | SOCK_NONBLOCK), "EINVAL"],
    ["that is not connected", () => freshSocket(SOCK_STREAM | SOCK_NONBLOCK), "ENOTCONN"],
  ];
  test.each(refused)("%s is refused and stays the caller's", async (_what, make, code) => {
    await using ring = new Ring();
    const fd = make();
    const before = code === "EBADF" ? "" : flagsOf(fd);
    const error = await rejected(connect({ fd, ring, socket: {} }));
    expect([error.code, error.operation, error.phase]).toEqual([code, "connect", "submission"]);
    expect(error.message).toMatch(new RegExp(`descriptor ${fd}: it is n`));
    if (code !== "EBADF") {
      expect(flagsOf(fd)).toBe(before);
      closeSync(fd);
    }
    expect(ring.pendingCount).toBe(0);
  });

  test("that is a socket here already is refused with EEXIST", async () => {
    using both = await pair();
    for (const fd of [both.client.fd, both.server.fd, both.listener.fd]) {
      expect((await rejected(connect({ fd, socket: {} }))).code).toBe("EEXIST");
    }
    both.client.write("x");
    await both.atServer.received(1);
  });
});

/** Its line in /proc: O_NONBLOCK is one of them. */
function flagsOf(fd: number): string {
  return /^flags:\s+(\d+)$/m.exec(readFileSync(`/proc/self/fdinfo/${fd}`, "utf8"))?.[1] ?? "";
}

/** dup(2), by way of /proc: a new number for the same connection. */
function openedAgain(fd: number): number {
  const { dlopen } = require("bun:ffi") as typeof import("bun:ffi");
  const { symbols } = dlopen("libc.so.6", { dup: { args: ["i32"], returns: "i32" } });
  return symbols.dup(fd);
}

// socket.timeout(): when it strikes and when it does not, what follows, and what it costs. And the
// time-out of connect, against a port that gives no answer.

import { describe, expect, test } from "bun:test";
import { connect, listen, Ring, UringError, type Socket } from "../ts/index.ts";
import { rejected } from "./support/operations.ts";
import { pair } from "./support/pair.ts";
import { silentPort } from "./support/raw_socket.ts";
import { turns, until } from "./support/until.ts";

/** Resolves after so many milliseconds, by the ring's own clock. */
async function passed(milliseconds: number): Promise<void> {
  const start = performance.now();
  await until(() => performance.now() - start >= milliseconds, `${milliseconds} ms`);
}

describe("timeout", () => {
  test("calls the handler once, not early, and leaves the socket open", async () => {
    const struck: number[] = [];
    const timeout = () => void struck.push(performance.now());
    using both = await pair({ serverSocket: { timeout } });
    const start = performance.now();
    expect(both.server.timeout(0.1) as unknown).toBeUndefined();
    await until(() => struck.length > 0);
    expect((struck[0] ?? 0) - start).toBeGreaterThanOrEqual(100);
    expect((struck[0] ?? 0) - start).toBeLessThan(2000);
    await passed(150);
    expect([struck.length, both.server.readyState]).toEqual([1, 1]);
    both.client.write("x");
    await both.atServer.received(1);
  });

  test("strikes again when it is set again, inside the handler too", async () => {
    let struck = 0;
    const timeout = (socket: Socket) => {
      if (++struck < 3) socket.timeout(0.02);
    };
    using both = await pair({ serverSocket: { timeout } });
    both.server.timeout(0.02);
    await until(() => struck === 3);
    await passed(60);
    expect(struck).toBe(3);
  });

  test("data does not put it off, as in Bun; setting it again does", async () => {
    const struck: string[] = [];
    using both = await pair({
      serverSocket: { timeout: () => void struck.push("server") },
      clientSocket: { timeout: () => void struck.push("client") },
    });
    both.server.timeout(0.15);
    both.client.timeout(0.15);
    const start = performance.now();
    await until(() => {
      both.client.write("x");
      both.client.timeout(0.15);
      return struck.length > 0;
    });
    expect(struck).toEqual(["server"]);
    expect(performance.now() - start).toBeGreaterThanOrEqual(150);
    await until(() => struck.length === 2);
    expect(struck).toEqual(["server", "client"]);
  });

  test("0 lifts it, an earlier one takes the place of a later one", async () => {
    const struck: string[] = [];
    using both = await pair({
      serverSocket: { timeout: () => void struck.push("server") },
      clientSocket: { timeout: () => void struck.push("client") },
    });
    both.server.timeout(0.05);
    both.server.timeout(0);
    both.client.timeout(3600);
    await turns(5);
    both.client.timeout(0.05);
    await until(() => struck.length > 0);
    await passed(100);
    expect(struck).toEqual(["client"]);
  });

  test("one that was set anew while it struck is out of date", async () => {
    const struck: Socket[] = [];
    // Both strike in one turn; the first to hear it sets the other's anew.
    const timeout = (socket: Socket) => {
      struck.push(socket);
      (socket === both.client ? both.server : both.client).timeout(0);
    };
    using both = await pair({ serverSocket: { timeout }, clientSocket: { timeout } });
    both.server.timeout(0.03);
    both.client.timeout(0.03);
    const start = performance.now();
    while (performance.now() - start < 60); // nobody looks before both are due
    await until(() => struck.length > 0);
    await passed(60);
    expect(struck).toHaveLength(1);
  });

  test("without a handler the connection is reset and closes with ETIMEDOUT", async () => {
    using both = await pair();
    both.server.timeout(0.03);
    await Promise.all([both.atServer.closed.promise, both.atClient.closed.promise]);
    const error = both.atServer.closeError as UringError;
    expect(error).toBeInstanceOf(UringError);
    expect([error.name, error.code, error.phase]).toEqual([
      "TimeoutError", "ETIMEDOUT", "completion",
    ]);
    expect(both.atServer.order).toEqual(["open", "close"]);
    expect((both.atClient.closeError as UringError).code).toBe("ECONNRESET");
  });

  test("a handler that throws is told to error, as any", async () => {
    const told = Promise.withResolvers<string>();
    using both = await pair({
      serverSocket: {
        timeout() {
          throw new RangeError("mine");
        },
        error: (_socket: Socket, error: Error) => told.resolve(error.message),
      },
    });
    both.server.timeout(0.01);
    expect(await told.promise).toBe("mine");
    expect(both.server.readyState).toBe(1);
  });

  test("a socket that goes takes its time-out along; its slot's next one is not hit", async () => {
    let struck = 0;
    const timeout = () => void struck++;
    for (let i = 0; i < 20; i++) {
      using both = await pair({ serverSocket: { timeout }, clientSocket: { timeout } });
      both.server.timeout(0.05);
      both.client.timeout(0.05);
    }
    await passed(120);
    expect(struck).toBe(0);
  });

  test("of many, moved with every message, costs no submission", async () => {
    await using ring = new Ring();
    let struck = 0;
    let received = 0;
    let seconds = 0;
    const sockets: Socket[] = [];
    using listener = listen({
      hostname: "127.0.0.1",
      port: 0,
      ring,
      socket: {
        open: (socket) => void sockets.push(socket),
        data(socket) {
          received++;
          if (seconds > 0) socket.timeout(seconds);
        },
        timeout: () => void struck++,
      },
    });
    const place = { hostname: "127.0.0.1", port: listener.port, ring, socket: {} };
    const clients = await Promise.all(Array.from({ length: 100 }, () => connect(place)));
    await until(() => sockets.length === 100);
    const traffic = async () => {
      const before = ring.stats().sqes;
      received = 0;
      for (let round = 1; round <= 10; round++) {
        for (const client of clients) client.write("x");
        await until(() => received === round * 100);
      }
      await turns(20);
      return ring.stats().sqes - before;
    };
    const without = await traffic();
    seconds = 30;
    // 1000 messages, each of which moves a time-out.
    expect((await traffic()) - without).toBeLessThan(100);
    const before = ring.stats().sqes;
    for (const socket of sockets) socket.timeout(0.05);
    await until(() => struck === 100);
    // Those that strike together share wake-ups.
    expect(ring.stats().sqes - before).toBeLessThan(20);
    for (const client of clients) client.terminate();
  });
});

describe("the time-out of connect", () => {
  test("rejects with ETIMEDOUT after the time, connectError first", async () => {
    using silent = silentPort();
    const told: string[] = [];
    const start = performance.now();
    const error = await rejected(
      connect({
        hostname: "127.0.0.1",
        port: silent.port,
        timeout: 80,
        data: 7,
        socket: {
          open: () => void told.push("open"),
          close: () => void told.push("close"),
          connectError: (socket, reason) =>
            void told.push(`${socket.data} ${socket.readyState} ${reason.name}`),
        },
      }),
    );
    expect(performance.now() - start).toBeGreaterThanOrEqual(80);
    expect([error.name, error.code, error.operation]).toEqual([
      "TimeoutError", "ETIMEDOUT", "connect",
    ]);
    expect(error.message).toContain("80 ms");
    expect(told).toEqual(["7 -1 TimeoutError"]);
    await until(() => Ring.default.pendingCount === 0);
  });

  test("does nothing once the connection is open", async () => {
    using listener = listen({ hostname: "127.0.0.1", port: 0, socket: { data() {} } });
    const place = { hostname: "127.0.0.1", port: listener.port };
    let closed = false;
    const socket = { close: () => void (closed = true) };
    using client = await connect({ ...place, timeout: 30, socket });
    await passed(80);
    expect([client.readyState, closed]).toEqual([1, false]);
  });

  test("is shared among the addresses of a name", async () => {
    using silent = silentPort();
    // 127.0.0.1 gives no answer; ::1 refuses. Whatever the order, it is over in time.
    const error = await rejected(
      connect({ hostname: "localhost", port: silent.port, timeout: 200, socket: {} }),
    );
    expect(["ETIMEDOUT", "ECONNREFUSED"]).toContain(error.code);
  });
});

// listen() beyond an address and a port: descriptors from elsewhere, the name that is bound,
// handlers that change under open connections.

import { describe, expect, test } from "bun:test";
import { closeSync, existsSync, rmSync } from "node:fs";
import * as net from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { connect, listen, type Listener, type Socket } from "../ts/index.ts";
import { linkOf } from "./support/descriptors.ts";
import { thrown } from "./support/operations.ts";
import { boundSocket, freshSocket, SOCK_DGRAM, SOCK_STREAM } from "./support/raw_socket.ts";
import { endOfPair } from "./support/raw_socket.ts";
import { until } from "./support/until.ts";

const LOOPBACK = "127.0.0.1";
const greeter = { open: (socket: Socket) => void socket.end("hello") };

async function greeting(port: number | undefined): Promise<string> {
  const client = await connect({ hostname: LOOPBACK, port: port ?? 0, socket: {} });
  return new Response(client.readable).text();
}

describe("a descriptor", () => {
  test("that is bound is listened on, and closed by stop", async () => {
    const { fd, port } = boundSocket(SOCK_STREAM);
    const listener = listen({ fd, socket: greeter });
    expect([listener.fd, listener.port, listener.hostname]).toEqual([fd, port, LOOPBACK]);
    expect(await greeting(port)).toBe("hello");
    listener.stop();
    // The kernel may close it later than the call, and then nothing is pending any more.
    await until(() => linkOf(fd) === null);
    expect(() => closeSync(fd)).toThrow("EBADF");
  });

  test("that is not bound gets a port of the kernel's", async () => {
    using listener = listen({ fd: freshSocket(), socket: greeter });
    expect(listener.port).toBeGreaterThan(0);
    expect(await greeting(listener.port)).toBe("hello");
  });

  const refused: [string, () => number, string][] = [
    ["that is not open", () => 9999, "EBADF"],
    ["of a datagram socket", () => boundSocket(SOCK_DGRAM).fd, "EOPNOTSUPP"],
    ["that is connected", () => endOfPair(), "EINVAL"],
  ];
  test.each(refused)("%s is refused and stays the caller's", (_what, make, code) => {
    const fd = make();
    const error = thrown(() => listen({ fd, socket: greeter }));
    expect([error.code, error.operation]).toEqual([code, "listen"]);
    expect(error.message).toMatch(new RegExp(`descriptor ${fd}: it is n`));
    if (code !== "EBADF") closeSync(fd);
  });

  test("that a listener has already is refused with EEXIST", () => {
    using listener = listen({ hostname: LOOPBACK, port: 0, socket: greeter });
    expect(thrown(() => listen({ fd: listener.fd, socket: greeter })).code).toBe("EEXIST");
  });
});

describe("what a listener is called", () => {
  test("a Unix listener has neither host nor port", () => {
    const unix = join(tmpdir(), `bun-uring-${crypto.randomUUID()}`);
    using _path = { [Symbol.dispose]: () => rmSync(unix, { force: true }) };
    using listener = listen({ unix, socket: greeter });
    const bound = {};
    listener.getsockname(bound);
    expect([listener.unix, listener.port, listener.hostname]).toEqual([unix, undefined, undefined]);
    expect(bound).toEqual({});
    expect(existsSync(unix)).toBe(true);
  });

  test("getsockname refuses what is no object", () => {
    using listener = listen({ hostname: LOOPBACK, port: 0, socket: greeter });
    for (const value of [undefined, null, 7, "x"]) {
      const error = thrown(() => listener.getsockname(value as never));
      expect([error.code, error.operation]).toEqual(["EINVAL", "getsockname"]);
    }
  });
});

describe("reload", () => {
  /** Handlers that write their name and what they are called for. */
  const named = (name: string, log: string[]) => ({
    open: () => void log.push(`${name} open`),
    data: () => void log.push(`${name} data`),
    end: () => void log.push(`${name} end`),
    close: () => void log.push(`${name} close`),
  });

  test("of a listener reaches open connections and new ones alike", async () => {
    const log: string[] = [];
    using listener = listen({ hostname: LOOPBACK, port: 0, socket: named("old", log) });
    const place = { hostname: LOOPBACK, port: listener.port, socket: {} };
    const first = await connect(place);
    first.write("x");
    await until(() => log.includes("old data"));
    expect(listener.reload({ socket: named("new", log) }) as unknown).toBeUndefined();
    first.write("x");
    await until(() => log.includes("new data"));
    const second = await connect(place);
    second.write("x");
    await until(() => log.filter((line) => line === "new data").length === 2);
    first.end();
    await until(() => log.includes("new close"));
    second.terminate();
    expect(log.slice(0, 6)).toEqual([
      "old open", "old data", "new data", "new open", "new data", "new end",
    ]);
  });

  test("of an accepted socket is its listener's, of a client its own", async () => {
    const log: string[] = [];
    const accepted: Socket[] = [];
    using listener = listen({
      hostname: LOOPBACK,
      port: 0,
      socket: { data() {}, open: (socket) => void accepted.push(socket) },
    });
    const place = { hostname: LOOPBACK, port: listener.port };
    const one = await connect({ ...place, socket: named("one", log) });
    const two = await connect({ ...place, socket: named("two", log) });
    await until(() => accepted.length === 2);
    accepted[0]?.reload({ socket: named("server", log) });
    one.write("x");
    two.write("x");
    await until(() => log.filter((line) => line === "server data").length === 2);
    one.reload({ socket: named("own", log) });
    for (const socket of accepted) socket.write("y");
    await until(() => log.includes("own data") && log.includes("two data"));
    one.terminate();
    two.terminate();
  });

  test("drops handlers that the new ones lack", async () => {
    const log: string[] = [];
    const listener: Listener = listen({
      hostname: LOOPBACK,
      port: 0,
      socket: named("old", log),
    });
    const client = await connect({
      hostname: LOOPBACK,
      port: listener.port ?? 0,
      socket: { close: () => void log.push("client close") },
    });
    await until(() => log.includes("old open"));
    listener.reload({ socket: { data() {} } });
    client.end("x");
    await until(() => log.includes("client close"));
    expect(log).toEqual(["old open", "client close"]);
    listener.stop();
  });

  test("with wrong handlers changes nothing", async () => {
    const log: string[] = [];
    using listener = listen({ hostname: LOOPBACK, port: 0, socket: named("old", log) });
    const wrong = { socket: { ...named("new", log), drain: 7 } };
    expect(() => listener.reload(wrong as never)).toThrow("socket.drain");
    const client = net.connect(listener.port, LOOPBACK, () => client.end("x"));
    client.resume();
    await until(() => log.includes("old close"));
    expect(log).toEqual(["old open", "old data", "old end", "old close"]);
  });
});

// Handlers that throw or reject: the error goes to `error`, or to the process without it, and
// nothing else stops: not the connection, not the others of the same turn, not the ring.

import { describe, expect, test } from "bun:test";
import { connect, listen, type Socket, type UringError } from "../ts/index.ts";
import { answer, program, run } from "./support/child.ts";
import { End, pair } from "./support/pair.ts";
import { turns, until } from "./support/until.ts";

const WAYS = ["throws", "rejects", "rejects later"] as const;
type Way = (typeof WAYS)[number];

/** A handler that does what it should and then fails. */
function failing(way: Way, name: string, good: (...values: never[]) => unknown) {
  const fail = () => {
    throw new RangeError(`from ${name}`);
  };
  if (way === "throws") {
    return (...values: never[]) => {
      good(...values);
      fail();
    };
  }
  return async (...values: never[]) => {
    good(...values);
    if (way === "rejects later") await new Promise((resolve) => setImmediate(resolve));
    fail();
  };
}

const NAMES = ["open", "data", "drain", "end", "close"] as const;

describe.each(WAYS)("a handler that %s, alone", (way) => {
  test.each(NAMES)("as %s is told to error, and the connection goes its way", async (name) => {
    const told: unknown[] = [];
    const end = new End();
    const handlers = end.handlers;
    const accepted = Promise.withResolvers<Socket>();
    const open = (socket: Socket) => {
      handlers.open();
      accepted.resolve(socket);
    };
    const good: Record<string, (...values: never[]) => unknown> = { ...handlers, open };
    using listener = listen({
      hostname: "127.0.0.1",
      port: 0,
      socket: {
        ...handlers,
        open,
        [name]: failing(way, name, good[name] as () => unknown),
        error: (socket, error) => void told.push(socket, error.message),
      },
    });
    const peer = new End();
    const place = { hostname: "127.0.0.1", port: listener.port };
    using client = await connect({ ...place, allowHalfOpen: true, socket: peer.handlers });
    client.write("x");
    const socket = await accepted.promise;
    await end.received(1);
    if (name === "drain") {
      client.pause();
      const drained = end.drained.promise;
      while (socket.write(Buffer.alloc(1 << 20)) > 0);
      client.resume();
      await drained;
    }
    client.write("y");
    expect((await end.received(2)).toString()).toBe("xy");
    client.end();
    await end.closed.promise;
    await until(() => told.length >= 2);
    expect(told[0]).toBe(socket);
    expect([...new Set(told.slice(1).filter((one) => one !== socket))]).toEqual([`from ${name}`]);
    expect(end.order[0]).toBe("open");
    expect(end.order.slice(-2)).toEqual(["end", "close"]);
    expect(end.closeError).toBeUndefined();
  });

});

describe.each(["rejects", "rejects later"] as const)("a handler that %s", (way) => {
  test("as connectError is told to error, and connect still rejects", async () => {
    const taken = Bun.listen({ hostname: "127.0.0.1", port: 0, socket: { data() {} } });
    const { port } = taken;
    taken.stop(true);
    const told = Promise.withResolvers<string>();
    const outcome = await connect({
      hostname: "127.0.0.1",
      port,
      socket: {
        connectError: failing(way, "connectError", () => undefined) as () => void,
        error: (_socket, error) => told.resolve(error.message),
      },
    }).then(() => "connected", (error: UringError) => error.code);
    expect(outcome).toBe("ECONNREFUSED");
    expect(await told.promise).toBe("from connectError");
  });

});

describe.each(WAYS)("a handler that %s, among others", (way) => {
  test("in one connection stops no other of the same turn", async () => {
    let failures = 0;
    let received = 0;
    const all = Promise.withResolvers<void>();
    const data = (_socket: Socket, chunk: Buffer) => {
      received += chunk.length;
      if (received === 64) all.resolve();
    };
    using listener = listen({
      hostname: "127.0.0.1",
      port: 0,
      socket: {
        data: failing(way, "data", data as () => void) as () => void,
        error: () => void failures++,
      },
    });
    const place = { hostname: "127.0.0.1", port: listener.port, socket: {} };
    const clients = await Promise.all(Array.from({ length: 64 }, () => connect(place)));
    for (const client of clients) client.write("x");
    await all.promise;
    await until(() => failures === 64);
    for (const client of clients) client.terminate();
  });
});

describe("an error handler", () => {
  test("hears what was thrown as an Error, with anything else as its cause", async () => {
    const told = Promise.withResolvers<Error>();
    using both = await pair({
      serverSocket: {
        data() {
          throw "just a text";
        },
        error: (_socket: Socket, error: Error) => told.resolve(error),
      },
    });
    both.client.write("x");
    const error = await told.promise;
    expect(error).toBeInstanceOf(Error);
    expect(error.cause).toBe("just a text");
    expect(error.message).toContain("just a text");
  });
});

describe("without an error handler", () => {
  test("the process hears of every failure, and everything goes on", async () => {
    const outcome = await answer<{ uncaught: string[]; echoed: string; closed: number }>(
      program("uncaught"),
    );
    const expected = ["open", "data", "end", "close", "error"].flatMap((name) => [
      `from ${name}: rejects`,
      `from ${name}: throws`,
    ]);
    expect(outcome.uncaught.sort()).toEqual(expected.sort());
    expect(outcome.echoed).toBe("echo");
    expect(outcome.closed).toBe(10);
  });

  test("a throw that nobody hears ends the process, as with any callback", async () => {
    const { code, stderr } = await run(program("uncaught"), { arguments: ["unheard"] });
    expect(code).toBe(1);
    expect(stderr).toContain("from open: throws");
  });
});

test("connect rejects also when connectError throws", async () => {
  const taken = Bun.listen({ hostname: "127.0.0.1", port: 0, socket: { data() {} } });
  const { port } = taken;
  taken.stop(true);
  let outcome = "pending";
  connect({
    hostname: "127.0.0.1",
    port,
    socket: {
      connectError() {
        throw new RangeError("mine");
      },
      error() {},
    },
  }).then(
    () => (outcome = "connected"),
    (error: UringError) => (outcome = error.code),
  );
  await turns(200);
  expect(outcome).toBe("ECONNREFUSED");
});

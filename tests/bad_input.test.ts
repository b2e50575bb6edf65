// Wrong arguments: every public function and method, with wrong types, ranges and states. Each is
// refused with a UringError that says what was expected and what came, before anything crosses, and
// the connection that they were tried on goes on working.

import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { listen, prepare, proxy, Ring, UringError } from "../ts/index.ts";
import {
  but,
  connecting,
  describeCases,
  listening,
  NOT_BOOLEAN,
  NOT_OBJECT,
  opening,
  OUT_OF_RANGE,
  outcomeOf,
  place,
  untyped,
  type Case,
} from "./support/bad_values.ts";
import { program, run } from "./support/child.ts";
import { pair, type Pair } from "./support/pair.ts";

const NOT_DATA = but("an empty string", "a string");

const SOCKET: Case[] = [
  {
    what: "write(data)",
    call: (data, { client }) => client.write(untyped(data)),
    wrong: NOT_DATA,
    names: "data",
  },
  {
    what: "end(data)",
    call: (data, { client }) => client.end(untyped(data)),
    wrong: NOT_DATA.filter((name) => name !== "undefined"),
    names: "data",
  },
  {
    what: "write(data, byteOffset)",
    call: (at, { client }) => client.write("abc", untyped(at)),
    wrong: but("null", "undefined", "zero"),
    names: "byteOffset",
  },
  {
    what: "write(data, 0, byteLength)",
    call: (length, { client }) => client.write(new Uint8Array(3), 0, untyped(length)),
    wrong: but("null", "undefined", "zero"),
    names: "byteLength",
  },
  {
    what: "shutdown()",
    call: (value, { client }) => client.shutdown(untyped(value)),
    wrong: NOT_BOOLEAN,
    names: "halfClose",
  },
  {
    what: "setNoDelay()",
    call: (value, { client }) => client.setNoDelay(untyped(value)),
    wrong: NOT_BOOLEAN,
    names: "noDelay",
  },
  {
    what: "setKeepAlive(enable)",
    call: (value, { client }) => client.setKeepAlive(untyped(value)),
    wrong: NOT_BOOLEAN,
    names: "enable",
  },
  {
    what: "setKeepAlive(true, initialDelay)",
    call: (value, { client }) => client.setKeepAlive(true, untyped(value)),
    wrong: but("undefined", "zero"),
    names: "initialDelay",
  },
  {
    what: "timeout()",
    call: (seconds, { client }) => client.timeout(untyped(seconds)),
    wrong: but("zero", "half"),
    names: "seconds",
  },
  {
    what: "setTypeOfService()",
    call: (tos, { client }) => client.setTypeOfService(untyped(tos)),
    wrong: but("zero"),
    names: "tos",
  },
  {
    what: "socket.reload()",
    call: (socket, { client }) => client.reload(untyped({ socket })),
    wrong: NOT_OBJECT,
    names: "socket",
  },
];

const RING: Case[] = [
  {
    what: "prepare.nop().submit(ring)",
    call: (ring) => prepare.nop().submit(untyped(ring)),
    wrong: but(),
    names: "ring",
  },
  {
    what: "proxy(a)",
    call: (a, { client }) => proxy(untyped(a), client),
    wrong: but(),
    names: "a must",
  },
  {
    what: "proxy(a, b)",
    call: (b, { client }) => proxy(client, untyped(b)),
    wrong: but(),
    names: "b must",
  },
  {
    what: "new Ring()",
    call: (options) => new Ring(untyped(options)),
    wrong: NOT_OBJECT.filter((name) => name !== "undefined"),
    names: "options",
  },
  ...[
    "entries",
    "completionEntries",
    "receiveBuffers",
    "receiveBufferSize",
    "connections",
    "stagingBlocks",
    "highWaterMark",
  ].map((name): Case => ({
    what: `new Ring: ${name}`,
    call: (value) => opening({ [name]: value }),
    wrong: [...OUT_OF_RANGE, "zero", "true"],
    names: name,
  })),
  {
    what: "new Ring: disable",
    call: (name) => opening({ disable: [name] }),
    wrong: but("an empty string", "an object without prototype"),
    names: "feature",
  },
];

let both: Pair;
beforeAll(async () => {
  both = await pair();
});
afterAll(() => both[Symbol.dispose]());

describeCases([...SOCKET, ...RING], () => both);

test("after all of them the connection that they were tried on still works", async () => {
  both.client.write("still");
  expect((await both.atServer.received(5)).toString()).toBe("still");
  both.server.write("here");
  expect((await both.atClient.received(4)).toString()).toBe("here");
  expect([both.atServer.order, both.atClient.order]).toEqual([["open", "data"], ["open", "data"]]);
});

describe("options that do not fit together", () => {
  test.each([
    { entries: 3 },
    { spinTurns: -1 },
    { spinTurns: 10_001 },
    { receiveBuffers: 3 },
    { receiveBufferSize: 100 },
    { completionEntries: 5000 },
    { entries: 32768, completionEntries: 4096 },
    { receiveBuffers: 32768, receiveBufferSize: 1 << 20 },
  ])("%j is refused with a sentence", async (options) => {
    const error = await outcomeOf(() => new Ring(options).close());
    expect(error).toBeInstanceOf(UringError);
    expect((error as UringError).code).toBe("EINVAL");
    expect((error as UringError).message.length).toBeGreaterThan(30);
  });

  test("tls is refused with EOPNOTSUPP and what to do instead", async () => {
    for (const call of [listening, connecting]) {
      const error = await outcomeOf(() => call({ tls: { key: "", cert: "" } }));
      expect((error as UringError).code).toBe("EOPNOTSUPP");
      expect((error as UringError).message).toContain("proxy");
    }
  });

  test("a listener needs a handler that can use connections, a connection does not", async () => {
    const error = await outcomeOf(() => listening({ socket: {} }));
    expect((error as UringError).code).toBe("EINVAL");
    expect((error as UringError).message).toContain("a data, open or drain handler");
  });
});

describe("objects that fight back", () => {
  test("a getter that throws is heard, and nothing is left open", async () => {
    const before = Ring.default.pendingCount;
    for (const name of ["port", "hostname", "unix", "socket", "backlog", "reusePort", "ring"]) {
      const options = Object.defineProperty({ ...place }, name, {
        get() {
          throw new RangeError("mine");
        },
      });
      const error = await outcomeOf(() => listen(untyped(options)));
      expect(error).toBeInstanceOf(RangeError);
    }
    expect(Ring.default.pendingCount).toBe(before);
  });

  test("a getter that answers differently each time cannot slip past the checks", async () => {
    let reads = 0;
    const options = { ...place, get port() {
      return reads++ === 0 ? 0 : untyped("late");
    } };
    using listener = listen(options);
    expect(listener.port).toBeGreaterThan(0);
    const handlers = { data() {}, get drain() {
      return reads++ % 2 === 0 ? undefined : 7;
    } };
    const error = await outcomeOf(() => listening({ socket: handlers }));
    if (Array.isArray(error)) expect(error[0]).toBe("no error");
    else expect((error as UringError).code).toBe("EINVAL");
  });

  test("a message survives values that cannot be printed", async () => {
    const hostile = { get constructor(): never {
      throw new RangeError("mine");
    } };
    const unprintable = { toString: () => untyped({}), [Symbol.toPrimitive]: null };
    for (const value of [hostile, unprintable, new Proxy([], {}), new Proxy(() => 1, {})]) {
      const error = await outcomeOf(() => both.client.write(untyped(value)));
      expect(error).toBeInstanceOf(Error);
      expect((error as Error).message.length).toBeGreaterThan(0);
    }
  });

  test("what a string holds is sent, whatever its characters", async () => {
    using own = await pair();
    const text = "\ud800 lone \udfff \0 \u{10ffff}";
    expect(own.client.write(text)).toBe(Buffer.from(text).length);
    const received = await own.atServer.received(Buffer.from(text).length);
    expect(Buffer.compare(received, Buffer.from(text))).toBe(0);
  });

  test("writing nothing is not an error", () => {
    const empty = new ArrayBuffer(0);
    for (const nothing of ["", new Uint8Array(0), empty, new DataView(empty)]) {
      expect(both.client.write(nothing)).toBe(0);
    }
  });
});

describe("things that are closed", () => {
  test("every method of a closed socket answers and throws nothing", async () => {
    const own = await pair();
    own[Symbol.dispose]();
    await Promise.all([own.atClient.closed.promise, own.atServer.closed.promise]);
    const { client } = own;
    expect([client.write("x"), client.end("x"), client.end()]).toEqual([-1, -1, 0]);
    for (const call of ["close", "terminate", "shutdown", "pause", "resume", "flush"] as const) {
      expect([call, client[call]()]).toEqual([call, undefined]);
    }
    expect([client.setNoDelay(), client.setKeepAlive(true)]).toEqual([false, false]);
    expect([client.ref(), client.unref()] as unknown[]).toEqual([undefined, undefined]);
    expect(client.readyState).toBe(-1);
  });

  test("a closed ring refuses with ESHUTDOWN; closing it again is nothing", async () => {
    const ring = new Ring();
    await ring.close();
    await ring.close();
    expect(ring.closed).toBe(true);
    expect(ring.pendingCount).toBe(0);
    const calls = [
      () => ring.submit(),
      () => ring.stats(),
      () => listening({ ring }),
      () => connecting({ ring }),
    ];
    for (const call of calls) {
      const error = await outcomeOf(call);
      expect((error as UringError).code).toBe("ESHUTDOWN");
      expect((error as UringError).message).toContain("closed");
    }
  });

  test("sockets of a closed ring are closed with ECANCELED and answer -1", async () => {
    const ring = new Ring();
    const own = await pair({ ring });
    own.listener.stop();
    await ring.close();
    for (const end of [own.atClient, own.atServer]) {
      expect(end.log).toEqual(["open", "close"]);
      expect((end.closeError as UringError).code).toBe("ECANCELED");
    }
    const bytes = new Uint8Array(1);
    expect([own.client.write(bytes), own.server.write(bytes)]).toEqual([-1, -1]);
    own.client.close();
    own.server.pause();
  });
});

test("a view that lies about its length is never read beyond its end", async () => {
  const { code, stdout, stderr } = await run(program("forged_views"));
  expect([code, stderr]).toEqual([0, ""]);
  expect(JSON.parse(stdout)).toEqual({ received: 0 });
});

test("resizable memory is copied as it is", async () => {
  using both = await pair();
  const resizable = new ArrayBuffer(8, { maxByteLength: 16 });
  const growable = new SharedArrayBuffer(8, { maxByteLength: 16 });
  for (const memory of [resizable, growable]) {
    for (const data of [memory, new Uint8Array(memory), new Uint8Array(memory, 2, 2)]) {
      expect(both.client.write(data)).toBe(data.byteLength);
    }
  }
  expect(both.client.write("x")).toBe(1);
});

test("things that pretend to be views are refused with EINVAL", async () => {
  using both = await pair();
  const moved = new ArrayBuffer(8);
  const detached = new DataView(new ArrayBuffer(8));
  moved.transfer();
  detached.buffer.transfer();
  const strangers = [
    new Proxy(new Uint8Array(4), {}),
    Object.create(Uint8Array.prototype) as Uint8Array,
    moved,
    detached,
  ];
  for (const data of strangers) {
    expect(() => both.client.write(data)).toThrow(UringError);
    expect(() => both.client.end(data)).toThrow(UringError);
  }
  expect(both.client.write("x")).toBe(1);
});

test.each([5, "single_issuer", {}, null, [Object.create(null)], [Symbol("x")]])(
  "the Ring option disable refuses what is no list of names (%#)",
  (disable) => {
    expect(() => void new Ring({ disable: disable as never }).close()).toThrow(UringError);
  },
);

test("a socket of a closed ring answers -1 to texts too", async () => {
  const ring = new Ring();
  const own = await pair({ ring });
  own.listener.stop();
  await ring.close();
  expect([own.client.write("x"), own.server.end("x")]).toEqual([-1, -1]);
});

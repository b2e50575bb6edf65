// The life-cycle matrix: every public method in every state, with the outcome that is documented.
//
// Rows are found on the prototypes, so that a new public method without a row fails here. Cells are
// literals: what a call comes to, as `outcomeOf` says it.

import { describe, expect, setDefaultTimeout, test } from "bun:test";
import { openSync } from "node:fs";
import {
  BufferPool,
  Operation,
  prepare,
  Ring,
  type Batch,
  type PooledBuffer,
  type Watch,
} from "../ts/index.ts";
import type { BufferRegistration } from "../ts/registered.ts";
import { pipe, thrown } from "./support/operations.ts";

setDefaultTimeout(30_000);

/** The error's code, or what kind of value came back. */
function outcomeOf(call: () => unknown): string {
  let value: unknown;
  try {
    value = call();
  } catch (error) {
    return (error as { code?: string }).code ?? String(error);
  }
  if (value instanceof Operation) {
    // Its own outcome is another test's business, a rejection is not to be left alone.
    value.then(undefined, () => undefined);
    value.cancel();
    return "operation";
  }
  if (typeof (value as PromiseLike<unknown> | null)?.then === "function") {
    (value as PromiseLike<unknown>).then(undefined, () => undefined);
    return "promise";
  }
  if (typeof value === "object" && value !== null) return "object";
  return String(value);
}

/** Public names of an object's class and the classes below it. */
function namesOf(prototype: object, internal: readonly string[]): string[] {
  const names = new Set<string>();
  for (let at = prototype; at !== Object.prototype; at = Object.getPrototypeOf(at) as object) {
    for (const key of Reflect.ownKeys(at)) names.add(String(key));
  }
  for (const name of ["constructor", ...internal]) names.delete(name);
  return [...names].sort();
}

// Ring -----------------------------------------------------------------------------------------

const RING_INTERNAL = [
  "arm", "assertOpen", "cancelPending", "claimedGeneration", "describePending", "disarm",
  "draining", "end", "gone", "hardLink", "landed", "latch", "launched", "log", "opened", "orphan",
  "prepareFile", "pump", "referenced", "turnNow", "wake",
];

type RingCall = (ring: Ring) => unknown;
type RingRow = [call: RingCall, open: string, callback: string, closing: string, closed: string];

const bytes = () => new Uint8Array(1);
const nowhere = { hostname: "127.0.0.1", port: 1 };
const down = ["ESHUTDOWN", "ESHUTDOWN"] as const;
/** An operation: started while the ring is open, also in a callback. */
const starts = (call: RingCall): RingRow => [call, "operation", "operation", ...down];

const RING: Record<string, RingRow> = {
  // What it says of itself.
  closed: [(ring) => ring.closed, "false", "false", "false", "true"],
  fatalError: [(ring) => ring.fatalError, "null", "null", "null", "null"],
  pendingCount: [(ring) => typeof ring.pendingCount, "number", "number", "number", "number"],
  inspect: [(ring) => ring.inspect().state, "open", "open", "closing", "closed"],
  "Symbol(nodejs.util.inspect.custom)": [
    (ring) => Bun.inspect(ring).split(" ", 1)[0], "Ring", "Ring", "Ring", "Ring",
  ],
  stats: [(ring) => ring.stats(), "object", "object", ...down],
  latency: [(ring) => ring.latency("nop"), "object", "object", ...down],
  operationCount: [(ring) => ring.operationCount("nop"), "object", "object", ...down],
  // Waiting.
  poll: [(ring) => typeof ring.poll(), "number", "EBUSY", ...down],
  wait: [(ring) => ring.wait(0), "promise", "promise", ...down],
  waitSync: [(ring) => typeof ring.waitSync(0), "number", "EBUSY", ...down],
  drain: [(ring) => ring.drain(0), "promise", "promise", ...down],
  drainSync: [(ring) => typeof ring.drainSync(1000), "number", "EBUSY", ...down],
  run: [
    (ring) => {
      const running = ring.run();
      ring.stop();
      return running;
    },
    "promise", "promise", ...down,
  ],
  runSome: [(ring) => ring.runSome(), "promise", "promise", ...down],
  runSomeSync: [(ring) => typeof ring.runSomeSync(), "number", "EBUSY", ...down],
  runUntilEmpty: [(ring) => ring.runUntilEmpty(), "promise", "promise", ...down],
  runUntilEmptySync: [(ring) => typeof ring.runUntilEmptySync(), "number", "EBUSY", ...down],
  stop: [(ring) => ring.stop(), "undefined", "undefined", ...down],
  submit: [(ring) => ring.submit(), "undefined", "undefined", ...down],
  // Cancelling.
  cancel: [(ring) => ring.cancel(finished), "operation", "operation", ...down],
  cancelAll: [(ring) => typeof ring.cancelAll(), "number", "number", ...down],
  // Operations.
  nop: starts((ring) => ring.nop()),
  timeout: starts((ring) => ring.timeout(0)),
  read: starts((ring) => ring.read(9999, bytes())),
  write: starts((ring) => ring.write(9999, bytes())),
  readv: starts((ring) => ring.readv(9999, [bytes()])),
  writev: starts((ring) => ring.writev(9999, [bytes()])),
  fsync: starts((ring) => ring.fsync(9999)),
  datasync: starts((ring) => ring.datasync(9999)),
  syncFileRange: starts((ring) => ring.syncFileRange(9999, 0, 0, 0)),
  fallocate: starts((ring) => ring.fallocate(9999, 0, 1)),
  ftruncate: starts((ring) => ring.ftruncate(9999, 0)),
  splice: starts((ring) => ring.splice(9999, 9999, 1)),
  openat: starts((ring) => ring.openat("nowhere")),
  statx: starts((ring) => ring.statx("nowhere")),
  unlink: starts((ring) => ring.unlink("nowhere/at/all")),
  mkdir: starts((ring) => ring.mkdir("nowhere/at/all")),
  rename: starts((ring) => ring.rename("nowhere/at/all", "there")),
  symlink: starts((ring) => ring.symlink("target", "nowhere/at/all")),
  link: [
    (ring) => [ring.link("nowhere/at/all", "there"), ring.link([prepare.nop()])].length,
    "2", "2", ...down,
  ],
  batch: [(ring) => ring.batch([prepare.nop()]), "promise", "promise", ...down],
  socket: starts((ring) => ring.socket("ipv4")),
  bind: starts((ring) => ring.bind(9999, nowhere)),
  listen: starts((ring) => ring.listen(9999)),
  accept: starts((ring) => ring.accept(9999)),
  connect: starts((ring) => ring.connect(9999, nowhere)),
  send: starts((ring) => ring.send(9999, bytes())),
  recv: starts((ring) => ring.recv(9999, bytes())),
  sendmsg: starts((ring) => ring.sendmsg(9999, [bytes()])),
  recvmsg: starts((ring) => ring.recvmsg(9999, [bytes()])),
  shutdown: starts((ring) => ring.shutdown(9999)),
  watch: [(ring) => ring.watch(9999, "read", null, () => {}), "object", "object", ...down],
  // The end; last, since it is one. A closed descriptor needs an open ring, the ring's end none.
  close: [(ring) => ring.close({ cancel: true }), "promise", "promise", "promise", "promise"],
  "Symbol(Symbol.asyncDispose)": [
    (ring) => ring[Symbol.asyncDispose](), "promise", "promise", "promise", "promise",
  ],
};

const spare = new Ring();
const finished = spare.nop();
await finished;
await spare.close();

/** Runs a call in each of a ring's states. */
async function inEveryState(call: RingCall): Promise<string[]> {
  const open = new Ring();
  const first = outcomeOf(() => call(open));
  await open.close({ cancel: true });
  const inCallback = new Ring();
  let second = "";
  inCallback.nop(() => {
    second = outcomeOf(() => call(inCallback));
  });
  // Not `drain`: the call under test may be a waiter itself.
  while (second === "") await new Promise((resolve) => setImmediate(resolve));
  await inCallback.close({ cancel: true });
  const closing = new Ring();
  let third = "";
  closing.nop(() => {
    // Within the dispatch it only marks: the ring is closing until the dispatch is over.
    void closing.close({ cancel: true });
    queueMicrotask(() => {
      third = outcomeOf(() => call(closing));
    });
  });
  while (third === "") await new Promise((resolve) => setImmediate(resolve));
  await closing.close({ cancel: true });
  return [first, second, third, outcomeOf(() => call(closing))];
}

describe("a ring that is open, in a callback, closing, closed:", () => {
  test("every public method has a row", () => {
    expect(namesOf(Ring.prototype, RING_INTERNAL)).toEqual(Object.keys(RING).sort());
  });

  test.each(Object.entries(RING))("%s", async (_name, [call, ...cells]) => {
    expect(await inEveryState(call)).toEqual(cells);
  });
});

// Operation ------------------------------------------------------------------------------------

const OPERATION_INTERNAL = [
  "abandon", "accompany", "asked", "failure", "landed", "makesDescriptor", "observe",
  "onCompletion", "result", "stillborn", "withdraw",
];

/** Submitted, completing, completed, cancelled, of a closed ring. */
type Cells = [string, string, string, string, string];
const OPERATION: Record<string, [(operation: Operation) => unknown, ...Cells]> = {
  pending: [(operation) => operation.pending, "true", "false", "false", "false", "false"],
  kind: [(operation) => operation.kind, "timeout", "nop", "nop", "timeout", "timeout"],
  cancel: [(operation) => operation.cancel(), "true", "false", "false", "false", "false"],
  then: [(operation) => operation.then(), "promise", "promise", "promise", "promise", "promise"],
  catch: [
    (operation) => operation.catch(() => 0), "promise", "promise", "promise", "promise", "promise",
  ],
  finally: [
    (operation) => operation.catch(() => 0).finally(), "promise", "promise", "promise", "promise",
    "promise",
  ],
  "Symbol(Symbol.dispose)": [
    (operation) => operation[Symbol.dispose](), "undefined", "undefined", "undefined", "undefined",
    "undefined",
  ],
  "Symbol(Symbol.asyncDispose)": [
    (operation) => operation[Symbol.asyncDispose](), "promise", "promise", "promise", "promise",
    "promise",
  ],
};

describe("an operation submitted, completing, completed, cancelled, of a closed ring:", () => {
  test("every public method has a row", () => {
    expect(namesOf(Operation.prototype, OPERATION_INTERNAL)).toEqual(Object.keys(OPERATION).sort());
  });

  test.each(Object.entries(OPERATION))("%s", async (_name, [call, ...cells]) => {
    const ring = new Ring();
    const submitted = ring.timeout(60_000);
    ring.submit();
    const first = outcomeOf(() => call(submitted));
    let second = "";
    const completing: Operation = ring.nop(() => {
      second = outcomeOf(() => call(completing));
    });
    await ring.wait();
    while (completing.pending) await ring.wait();
    const completed = ring.nop();
    await completed;
    const cancelled = ring.timeout(60_000);
    cancelled.cancel();
    await cancelled.catch(() => 0);
    const left = ring.timeout(60_000);
    const third = outcomeOf(() => call(completed));
    const fourth = outcomeOf(() => call(cancelled));
    await ring.close({ cancel: true });
    expect([first, second, third, fourth, outcomeOf(() => call(left))]).toEqual(cells);
  });
});

// Buffers --------------------------------------------------------------------------------------

const POOLED: Record<string, [(buffer: PooledBuffer) => unknown, string, string, string]> = {
  bytes: [(buffer) => buffer.bytes.length, "64", "EBUSY", "EINVAL"],
  inFlight: [(buffer) => buffer.inFlight, "false", "true", "false"],
  length: [(buffer) => buffer.length, "64", "64", "64"],
  release: [(buffer) => buffer.release(), "undefined", "undefined", "undefined"],
  "Symbol(Symbol.dispose)": [
    (buffer) => buffer[Symbol.dispose](), "undefined", "undefined", "undefined",
  ],
};

describe("a pooled buffer held, in flight, released:", () => {
  test("every public method has a row", () => {
    const held = new BufferPool({ ring: Ring.default, size: 64, count: 1 }).acquire();
    const internal = ["assertHeld", "assertRing", "board", "land"];
    const names = namesOf(Object.getPrototypeOf(held) as object, internal);
    expect(names).toEqual(Object.keys(POOLED).sort());
    held?.release();
  });

  test.each(Object.entries(POOLED))("%s", async (_name, [call, ...cells]) => {
    await using ring = new Ring();
    const pool = new BufferPool({ ring, size: 64, count: 3 });
    const [held, flying, released] = [pool.acquire(), pool.acquire(), pool.acquire()];
    if (held === null || flying === null || released === null) throw new Error("no buffer");
    ring.read(openSync("/dev/zero", "r"), flying);
    released.release();
    const outcomes = [held, flying, released].map((buffer) => outcomeOf(() => call(buffer)));
    expect(outcomes).toEqual(cells);
    await ring.drain();
  });

  test("a pool of a closed ring gives nothing, and its buffers cannot be looked at", async () => {
    const ring = new Ring();
    const pool = new BufferPool({ ring, size: 64, count: 1 });
    const buffer = pool.acquire();
    await ring.close();
    expect(thrown(() => pool.acquire()).code).toBe("ESHUTDOWN");
    expect(thrown(() => buffer?.bytes).code).toBe("ESHUTDOWN");
    expect(outcomeOf(() => buffer?.release())).toBe("undefined");
  });
});

// Pools, registrations, watches, batches ---------------------------------------------------------

interface Held<Thing> {
  held: Thing;
}

/** Each state is a function that brings a thing into it. */
interface Matrix<Thing> {
  name: string;
  internal: readonly string[];
  /** Wrapped, since what is awaitable would be awaited on its way. */
  states: Record<string, (ring: Ring) => Promise<Held<Thing>> | Held<Thing>>;
  rows: Record<string, [call: (thing: Thing) => unknown, ...cells: string[]]>;
}

const closedRing = async (ring: Ring) => {
  await ring.close({ cancel: true });
};

const POOLS: Matrix<BufferPool> = {
  name: "a pool of an open ring, of a closed one",
  internal: ["giveBack", "reclaim"],
  states: {
    open: (ring) => ({ held: new BufferPool({ ring, size: 64, count: 1 }) }),
    closed: async (ring) => {
      const pool = new BufferPool({ ring, size: 64, count: 1 });
      await closedRing(ring);
      return { held: pool };
    },
  },
  rows: {
    acquire: [(pool) => pool.acquire(), "object", "ESHUTDOWN"],
    leaked: [(pool) => pool.leaked, "0", "0"],
    stats: [(pool) => pool.stats, "object", "object"],
  },
};

function register(ring: Ring): BufferRegistration {
  ring.buffers.register([new SharedArrayBuffer(64)]);
  return ring.buffers;
}

const REGISTRATIONS: Matrix<BufferRegistration> = {
  name: "a registration unregistered, registered, draining, of a closed ring",
  internal: ["assertCurrent", "handle", "words"],
  states: {
    unregistered: (ring) => ({ held: ring.buffers }),
    registered: (ring) => ({ held: register(ring) }),
    draining: (ring) => {
      const [buffer] = ring.buffers.register([new SharedArrayBuffer(64)]);
      const own = pipe();
      if (buffer !== undefined) ring.read(own.fd, buffer);
      ring.submit();
      ring.buffers.requestUnregister();
      return { held: ring.buffers };
    },
    closed: async (ring) => {
      register(ring);
      await closedRing(ring);
      return { held: ring.buffers };
    },
  },
  rows: {
    state: [({ state }) => state, "unregistered", "registered", "draining", "unregistered"],
    count: [({ count }) => count, "0", "1", "1", "0"],
    inFlight: [({ inFlight }) => inFlight, "0", "0", "1", "0"],
    inspect: [(one) => Object.values(one.inspect()).join(), "unregistered,0,0", "registered,1,0",
      "draining,1,1", "unregistered,0,0",
    ],
    register: [
      (one) => one.register([new SharedArrayBuffer(8)]), "object", "EEXIST", "EBUSY", "ESHUTDOWN",
    ],
    update: [
      (one) => one.update(0, new SharedArrayBuffer(8)), "ENOENT", "object", "EBUSY", "ESHUTDOWN",
    ],
    requestUnregister: [
      (one) => one.requestUnregister(), "ENOENT", "true", "false", "ESHUTDOWN",
    ],
    unregister: [
      (one) => one.unregister({ timeout: 0 }), "ENOENT", "promise", "promise", "ESHUTDOWN",
    ],
    unregisterSync: [
      (one) => one.unregisterSync({ timeout: 0 }), "ENOENT", "true", "ETIMEDOUT", "ESHUTDOWN",
    ],
  },
};

const watch = (ring: Ring) => ring.watch(pipe().fd, "read", null, () => {});

const WATCHES: Matrix<Watch<null>> = {
  name: "a watch that is active, removed, of a closed ring",
  internal: [],
  states: {
    active: (ring) => ({ held: watch(ring) }),
    removed: (ring) => {
      const removed = watch(ring);
      removed.remove();
      return { held: removed };
    },
    closed: async (ring) => {
      const own = watch(ring);
      await closedRing(ring);
      return { held: own };
    },
  },
  rows: {
    active: [(one) => one.active, "true", "false", "false"],
    modify: [(one) => one.modify("write"), "undefined", "undefined", "ESHUTDOWN"],
    remove: [(one) => one.remove(), "undefined", "undefined", "undefined"],
    "Symbol(Symbol.dispose)": [
      (one) => one[Symbol.dispose](), "undefined", "undefined", "undefined",
    ],
  },
};

const BATCHES: Matrix<Batch> = {
  name: "a batch that is pending, over, of a closed ring",
  internal: [],
  states: {
    pending: (ring) => ({ held: ring.batch([prepare.timeout(60_000)]) }),
    over: async (ring) => {
      const batch = ring.batch([prepare.nop()]);
      await batch.then();
      return { held: batch };
    },
    closed: async (ring) => {
      const batch = ring.batch([prepare.timeout(60_000)]);
      await closedRing(ring);
      return { held: batch };
    },
  },
  rows: {
    pending: [(one) => one.pending, "true", "false", "false"],
    cancel: [(one) => one.cancel(), "true", "false", "false"],
    then: [(one) => one.then(), "promise", "promise", "promise"],
    "Symbol(Symbol.dispose)": [
      (one) => one[Symbol.dispose](), "undefined", "undefined", "undefined",
    ],
  },
};

describe.each([POOLS, REGISTRATIONS, WATCHES, BATCHES] as unknown as Matrix<object>[])(
  "$name:",
  ({ internal, states, rows }) => {
    const [first] = Object.values(states);

    test("every public method has a row", async () => {
      await using ring = new Ring();
      const thing = await first?.(ring);
      const names = namesOf(Object.getPrototypeOf(thing?.held) as object, internal);
      expect(names).toEqual(Object.keys(rows).sort());
    });

    test.each(Object.entries(rows))("%s", async (_name, [call, ...cells]) => {
      const outcomes: string[] = [];
      for (const enter of Object.values(states)) {
        await using ring = new Ring();
        const { held } = await enter(ring);
        outcomes.push(outcomeOf(() => call(held)));
      }
      expect(outcomes).toEqual(cells);
    });
  },
);

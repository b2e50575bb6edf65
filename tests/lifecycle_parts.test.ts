// The life-cycle matrices of what hangs on a ring: buffers, pools, registrations and their handles,
// watches, intervals, batches. Every public method in every state, as in lifecycle.test.ts.

import { afterAll, describe, expect, test } from "bun:test";
import { closeSync, openSync } from "node:fs";
import {
  BufferPool,
  prepare,
  type RegisteredBuffer,
  type RegisteredFile,
  Ring,
  type Batch,
  type BufferRegistration,
  type FileRegistration,
  type Interval,
  type PooledBuffer,
  type Watch,
} from "../ts/index.ts";
import { expectRows, outcomeOf, type Matrix } from "./support/matrix.ts";
import { pipe } from "./support/operations.ts";

/** Descriptors that calls of a matrix name, for as long as its file runs. */
const descriptors: number[] = [];

function opened(fd: number): number {
  descriptors.push(fd);
  return fd;
}

const openPipe = () => opened(pipe().fd);

afterAll(() => descriptors.forEach((fd) => closeSync(fd)));

const closedRing = async (ring: Ring) => {
  await ring.close({ cancel: true });
};

function found<Thing>(thing: Thing | null | undefined): Thing {
  if (thing === null || thing === undefined) throw new Error("there is none");
  return thing;
}

// Buffers --------------------------------------------------------------------------------------

const pooled = (ring: Ring) => found(new BufferPool({ ring, size: 64, count: 1 }).acquire());

const POOLED: Matrix<PooledBuffer> = {
  name: "a pooled buffer held, in flight, released, of a closed ring",
  internal: ["address", "assertHeld", "assertRing", "board", "land"],
  further: ["read into it"],
  states: {
    held: (ring) => ({ held: pooled(ring) }),
    flying: (ring) => {
      const buffer = pooled(ring);
      ring.read(openPipe(), buffer);
      return { held: buffer };
    },
    released: (ring) => {
      const buffer = pooled(ring);
      buffer.release();
      return { held: buffer };
    },
    closed: async (ring) => {
      const buffer = pooled(ring);
      await closedRing(ring);
      return { held: buffer };
    },
  },
  rows: {
    bytes: [(buffer) => buffer.bytes.length, "64", "EBUSY", "EINVAL", "ESHUTDOWN"],
    inFlight: [(buffer) => buffer.inFlight, "false", "true", "false", "false"],
    length: [(buffer) => buffer.length, "64", "64", "64", "64"],
    release: [(buffer) => buffer.release(), "undefined", "undefined", "undefined", "undefined"],
    "Symbol(Symbol.dispose)": [
      (buffer) => buffer[Symbol.dispose](), "undefined", "undefined", "undefined", "undefined",
    ],
    "read into it": [
      (buffer, ring) => ring.read(9999, buffer), "operation", "EBUSY", "EINVAL", "ESHUTDOWN",
    ],
  },
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
    count: [({ count }) => count, "1", "1"],
    size: [({ size }) => size, "64", "64"],
    ring: [({ ring }) => ring, "object", "object"],
    leaked: [(pool) => pool.leaked, "0", "0"],
    stats: [(pool) => pool.stats, "object", "object"],
  },
};

// Registrations and their handles ----------------------------------------------------------------

const shared = () => new SharedArrayBuffer(64);

/** A registered buffer that an operation has. */
function flyingBuffer(ring: Ring): RegisteredBuffer {
  const buffer = found(ring.buffers.register([shared()])[0]);
  ring.read(openPipe(), buffer);
  ring.submit();
  return buffer;
}

const BUFFERS: Matrix<BufferRegistration> = {
  name: "registered buffers unregistered, registered, draining, of a closed ring",
  internal: ["assertCurrent", "assertThere", "handle", "words"],
  states: {
    unregistered: (ring) => ({ held: ring.buffers }),
    registered: (ring) => {
      ring.buffers.register([shared()]);
      return { held: ring.buffers };
    },
    draining: (ring) => {
      flyingBuffer(ring);
      ring.buffers.requestUnregister();
      return { held: ring.buffers };
    },
    closed: async (ring) => {
      ring.buffers.register([shared()]);
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
    register: [(one) => one.register([shared()]), "object", "EEXIST", "EBUSY", "ESHUTDOWN"],
    update: [(one) => one.update(0, shared()), "ENOENT", "object", "EBUSY", "ESHUTDOWN"],
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

const BUFFER: Matrix<RegisteredBuffer> = {
  name: "a registered buffer registered, in flight, draining, void, of a closed ring",
  internal: ["assertRegistered", "board", "land"],
  further: ["index", "read into it", "another ring's"],
  states: {
    registered: (ring) => ({ held: found(ring.buffers.register([shared()])[0]) }),
    flying: (ring) => ({ held: flyingBuffer(ring) }),
    draining: (ring) => {
      const buffer = flyingBuffer(ring);
      ring.buffers.requestUnregister();
      return { held: buffer };
    },
    void: (ring) => {
      const [buffer] = ring.buffers.register([shared()]);
      ring.buffers.requestUnregister();
      return { held: found(buffer) };
    },
    closed: async (ring) => {
      const [buffer] = ring.buffers.register([shared()]);
      await closedRing(ring);
      return { held: found(buffer) };
    },
  },
  rows: {
    length: [({ length }) => length, "64", "64", "64", "64", "64"],
    bytes: [({ bytes }) => bytes.length, "64", "64", "64", "ENOENT", "ENOENT"],
    index: [({ index }) => index, "0", "0", "0", "0", "0"],
    "read into it": [
      (buffer, ring) => ring.read(9999, buffer, { offset: 32 }), "operation", "EBUSY", "EBUSY",
      "ENOENT", "ESHUTDOWN",
    ],
    "another ring's": [
      (buffer) => Ring.default.read(9999, buffer), "EINVAL", "EINVAL", "EINVAL", "EINVAL",
      "EINVAL",
    ],
  },
};

/** A registered file that an operation has. */
function flyingFile(ring: Ring): RegisteredFile {
  const file = found(ring.files.register([openPipe()])[0]);
  ring.read(file, new Uint8Array(1));
  ring.submit();
  return file;
}

const FILES: Matrix<FileRegistration> = {
  name: "registered files unregistered, registered, draining, of a closed ring",
  internal: ["assertCurrent", "assertThere", "handle", "words"],
  states: {
    unregistered: (ring) => ({ held: ring.files }),
    registered: (ring) => {
      ring.files.register([openPipe()]);
      return { held: ring.files };
    },
    draining: (ring) => {
      flyingFile(ring);
      ring.files.requestUnregister();
      return { held: ring.files };
    },
    closed: async (ring) => {
      ring.files.register([openPipe()]);
      await closedRing(ring);
      return { held: ring.files };
    },
  },
  rows: {
    state: [({ state }) => state, "unregistered", "registered", "draining", "unregistered"],
    count: [({ count }) => count, "0", "1", "1", "0"],
    inFlight: [({ inFlight }) => inFlight, "0", "0", "1", "0"],
    inspect: [(one) => Object.values(one.inspect()).join(), "unregistered,0,0", "registered,1,0",
      "draining,1,1", "unregistered,0,0",
    ],
    register: [(one) => one.register([0]), "object", "EEXIST", "EBUSY", "ESHUTDOWN"],
    update: [(one) => one.update(0, 0), "ENOENT", "object", "EBUSY", "ESHUTDOWN"],
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

const FILE: Matrix<RegisteredFile> = {
  name: "a registered file registered, in flight, draining, void, of a closed ring",
  internal: ["assertRegistered"],
  further: ["index", "fd", "read from it", "another ring's"],
  states: {
    registered: (ring) => ({ held: found(ring.files.register([openPipe()])[0]) }),
    flying: (ring) => ({ held: flyingFile(ring) }),
    draining: (ring) => {
      const file = flyingFile(ring);
      ring.files.requestUnregister();
      return { held: file };
    },
    void: (ring) => {
      const [file] = ring.files.register([openPipe()]);
      ring.files.requestUnregister();
      return { held: found(file) };
    },
    closed: async (ring) => {
      const [file] = ring.files.register([openPipe()]);
      await closedRing(ring);
      return { held: found(file) };
    },
  },
  rows: {
    index: [({ index }) => index, "0", "0", "0", "0", "0"],
    fd: [({ fd }) => fd > 2, "true", "true", "true", "true", "true"],
    "read from it": [
      (file, ring) => ring.read(file, new Uint8Array(1)), "operation", "operation", "EBUSY",
      "ENOENT", "ESHUTDOWN",
    ],
    "another ring's": [
      (file) => Ring.default.read(file, new Uint8Array(1)), "EINVAL", "EINVAL", "EINVAL",
      "EINVAL", "EINVAL",
    ],
  },
};

// Watches and batches ---------------------------------------------------------------------------

const watch = (ring: Ring) => ring.watch(openPipe(), "read", null, () => {});

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

const INTERVALS: Matrix<Interval> = {
  name: "an interval that goes on, cancelled, of a closed ring",
  internal: [],
  states: {
    pending: (ring) => ({ held: ring.interval(60_000) }),
    cancelled: async (ring) => {
      const interval = ring.interval(60_000);
      interval.cancel();
      await ring.drain();
      return { held: interval };
    },
    closed: async (ring) => {
      const interval = ring.interval(60_000);
      await closedRing(ring);
      return { held: interval };
    },
  },
  rows: {
    pending: [(one) => one.pending, "true", "false", "false"],
    cancel: [(one) => one.cancel(), "true", "false", "false"],
    ref: [(one) => one.ref() === one, "true", "true", "true"],
    unref: [(one) => one.unref() === one, "true", "true", "true"],
    hasRef: [(one) => one.unref().hasRef(), "false", "false", "false"],
    "Symbol(Symbol.asyncIterator)": [
      (one) => one[Symbol.asyncIterator](), "object", "object", "object",
    ],
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

const ALL = [POOLED, POOLS, BUFFERS, BUFFER, FILES, FILE, WATCHES, INTERVALS, BATCHES];

describe.each(ALL as unknown as Matrix<object>[])(
  "$name:",
  ({ internal, further, states, rows }) => {
    const [first] = Object.values(states);

    test("every public method has a row", async () => {
      await using ring = new Ring();
      const thing = await first?.(ring);
      expectRows(found(thing).held, internal, rows, further);
    });

    test.each(Object.entries(rows))("%s", async (_name, [call, ...cells]) => {
      const outcomes: string[] = [];
      for (const enter of Object.values(states)) {
        await using ring = new Ring();
        const { held } = await enter(ring);
        outcomes.push(outcomeOf(() => call(held, ring)));
      }
      expect(outcomes).toEqual(cells);
    });
  },
);

test("a pool of a closed ring takes its buffers back all the same", async () => {
  const ring = new Ring();
  const pool = new BufferPool({ ring, size: 64, count: 1 });
  const buffer = pool.acquire();
  ring.read(opened(openSync("/dev/zero", "r")), found(buffer));
  await ring.close({ cancel: true });
  buffer?.release();
  expect(pool.stats).toMatchObject({ free: 1, inFlight: 0 });
});

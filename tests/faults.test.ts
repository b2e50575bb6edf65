// What a program is told when an operation fails as no kernel can be talked into: the same on the
// ring and on its twin. Results are forced in a library of the tests' own; a scene's code stands in
// tests/support/programs/forced.ts. Every errno of every operation: zig/testing/fault_tests.zig.

import { beforeAll, describe, expect, setDefaultTimeout, test } from "bun:test";
import { fileURLToPath } from "node:url";
import { SYMBOLS } from "../ts/abi.ts";
import type { BackendName } from "../ts/index.ts";
import { backend } from "./support/backend.ts";
import { answer, program } from "./support/child.ts";
import { definedSymbols } from "./support/elf.ts";
import { buildFaults, FAULTS_LIBRARY } from "./support/faults.ts";
import { ESSENTIAL, SPARE } from "./support/forbidden.ts";

setDefaultTimeout(120_000);

const LIBRARY = fileURLToPath(new URL("../zig-out/lib/libbun_uring.so", import.meta.url));

const failure = (operation: string, code: string, errno: number, name = "UringError") => {
  return { code, errno, name, operation, phase: "completion" };
};

const EXPECTED: Record<string, object> = {
  "a file that cannot be read": {
    said: [failure("read", "EIO", -5), failure("read", "EINTR", -4), 4, 10],
    struck: 3,
  },
  "bytes that do not get to the disk": {
    said: [3, failure("write", "ENOSPC", -28), 3, failure("fsync", "EIO", -5), 0, "ghi"],
    struck: 3,
  },
  "a receive that fails in the middle": {
    sent: [3, 3], order: ["open", "data", "close"], bytes: "onetwo", code: "EIO",
    served: "still served", struck: 1,
  },
  "a receive that is interrupted": { said: "one two", struck: 1 },
  "a send that fails in the middle": {
    taken: [1, 1, 1, -1], arrived: "ab", code: "EIO", struck: 1,
  },
  "a peer that is gone, after what it has sent": {
    late: -1, order: ["open", "data", "end", "close"], bytes: "a last word", code: "EPIPE",
    struck: 1,
  },
  "memory that is not sent to its end": {
    said: { bytes: 64, total: 192, code: "ENOMEM" }, arrived: 64, struck: 1,
  },
  "an accept that fails": { echoed: ["hi", "hi", "hi", "hi"], failed: 4, struck: 4 },
  "a listener without its socket": { uncaught: ["EBADF"], struck: 1 },
  "a connect that fails": {
    said: failure("connect", "EHOSTUNREACH", -113), heard: "EHOSTUNREACH", struck: 1,
  },
  "ends that say they failed": {
    order: ["open", "end", "close"], code: null, bytes: "bye", struck: 2,
  },
  "an operation that says it was cancelled": {
    ...failure("nop", "ECANCELED", -125, "AbortError"), struck: 1,
  },
  "a ring that loses its clock": {
    waiting: failure("timeout", "ENOMEM", -12), later: failure("turn", "ENOMEM", -12),
    fatal: "ENOMEM", struck: 1,
  },
};

let said: Record<string, object> = {};
beforeAll(async () => {
  await buildFaults();
  said = await answer(program("forced"), { env: { BUN_URING_LIBRARY: FAULTS_LIBRARY } });
}, 120_000);

describe("forced results:", () => {
  test.each(Object.keys(EXPECTED))("%s", (name) => {
    expect(said[name]).toEqual(EXPECTED[name] as object);
  });

  test("every scene is expected", () => {
    expect(Object.keys(said)).toEqual(Object.keys(EXPECTED));
  });
});

test("the library that programs load has nothing of it", async () => {
  const [shipped, forced] = await Promise.all([LIBRARY, FAULTS_LIBRARY].map((path) => {
    return Bun.file(path).arrayBuffer();
  })) as [ArrayBuffer, ArrayBuffer];
  expect(definedSymbols(shipped).sort()).toEqual(Object.keys(SYMBOLS).sort());
  const calls = ["bu_fault_add", "bu_fault_clear", "bu_fault_forbid"];
  expect(definedSymbols(forced).sort()).toEqual([...Object.keys(SYMBOLS), ...calls].sort());
  // The names by which a rule says what it is about: only rules need them.
  for (const name of ["receive_cancel", "connect_cancel"]) {
    const holds = (file: ArrayBuffer) => Buffer.from(file).includes(name);
    expect([holds(forced), holds(shipped)]).toEqual([true, false]);
  }
});

interface Forbidden {
  backend: BackendName;
  reason: string;
  differs: Record<string, unknown>;
}

// A policy for rings (io_uring_register(2), restrictions) answers each entry with EACCES.
describe("where one opcode of io_uring is forbidden", () => {
  let outcomes: Record<string, Forbidden> = {};
  beforeAll(async () => {
    const env = { BUN_URING_LIBRARY: FAULTS_LIBRARY, BUN_URING_BACKEND: "auto" };
    outcomes = await answer(program("forbidden"), { env, timeoutMs: 60_000 });
  }, 120_000);
  const onRing = test.if(backend === "uring");

  onRing.each(Object.keys(ESSENTIAL))("%s: the twin serves, and says why", (name) => {
    expect(outcomes[name]).toEqual({
      backend: "epoll",
      reason: expect.stringMatching(/operations that a ring cannot do without.*\(EACCES\)/),
      differs: {},
    });
  });

  onRing.each(Object.keys(SPARE))("%s: the ring does it in another way", (name) => {
    expect(outcomes[name]).toMatchObject({ backend: "uring", differs: {} });
  });
});

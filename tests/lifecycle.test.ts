// The life-cycle matrix: every public method in every state, with the outcome that is documented.
//
// Rows are found on the prototypes, so that a new public method without a row fails here. Cells are
// literals: what a call comes to, as `outcomeOf` says it. Here are the ring, operations and what
// prepares them; what hangs on a ring is in lifecycle_parts.test.ts.

import { describe, expect, test } from "bun:test";
import { Operation, prepare, Ring, type AnyPrepared } from "../ts/index.ts";
import { Builder } from "../ts/prepare.ts";
import { namesOf, outcomeOf } from "./support/matrix.ts";
import { turn } from "./support/until.ts";

// Ring -----------------------------------------------------------------------------------------

const RING_INTERNAL = [
  "accompany", "arm", "assertOpen", "busy", "cancelPending", "claimedGeneration",
  "describePending", "disarm", "draining", "end", "gone", "hardLink", "landed", "latch", "launched",
  "log", "occupy", "opened", "orphan", "prepareFile", "pump", "quiet", "refCount", "referenced",
  "turnNow", "wake",
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
  ref: [(ring) => ring.ref() === ring, "true", "true", "true", "true"],
  unref: [(ring) => ring.unref() === ring, "true", "true", "true", "true"],
  hasRef: [(ring) => ring.hasRef(), "true", "true", "true", "true"],
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
  interval: [(ring) => ring.interval(1000), "object", "object", ...down],
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
  // Posts.
  token: [(ring) => ring.token.unref(), "object", "object", ...down],
  post: [(ring) => ring.post(1, 1), "undefined", "undefined", ...down],
  onPost: [(ring) => ring.onPost(1, () => {}), "object", "object", ...down],
  offload: starts((ring) => ring.offload(() => 1)),
  worker: [(ring) => ring.worker("nowhere.ts"), "object", "object", ...down],
  schedule: starts((ring) => ring.schedule()),
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
  while (second === "") await turn();
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
  while (third === "") await turn();
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

/** Submitted, completing, completed, cancelled; of a ring that is closing, that is closed. */
type Cells = [string, string, string, string, string, string];
const OPERATION: Record<string, [(operation: Operation) => unknown, ...Cells]> = {
  pending: [({ pending }) => pending, "true", "false", "false", "false", "true", "false"],
  ref: [(it) => it.ref() === it, "true", "true", "true", "true", "true", "true"],
  unref: [(it) => it.unref() === it, "true", "true", "true", "true", "true", "true"],
  hasRef: [(it) => it.hasRef(), "true", "true", "true", "true", "true", "true"],
  kind: [({ kind }) => kind, "timeout", "nop", "nop", "timeout", "timeout", "timeout"],
  cancel: [(operation) => operation.cancel(), "true", "false", "false", "false", "true", "false"],
  then: [
    (operation) => operation.then(), "promise", "promise", "promise", "promise", "promise",
    "promise",
  ],
  catch: [
    (operation) => operation.catch(() => 0), "promise", "promise", "promise", "promise", "promise",
    "promise",
  ],
  finally: [
    (operation) => operation.catch(() => 0).finally(), "promise", "promise", "promise", "promise",
    "promise", "promise",
  ],
  "Symbol(Symbol.dispose)": [
    (operation) => operation[Symbol.dispose](), "undefined", "undefined", "undefined", "undefined",
    "undefined", "undefined",
  ],
  "Symbol(Symbol.asyncDispose)": [
    (operation) => operation[Symbol.asyncDispose](), "promise", "promise", "promise", "promise",
    "promise", "promise",
  ],
};

/** An operation in each of its states, and what a call on it comes to. */
async function inEveryStage(call: (operation: Operation) => unknown): Promise<string[]> {
  const ring = new Ring();
  const submitted = ring.timeout(60_000);
  ring.submit();
  const first = outcomeOf(() => call(submitted));
  let second = "";
  const completing: Operation = ring.nop(() => {
    second = outcomeOf(() => call(completing));
  });
  while (completing.pending) await ring.wait();
  const completed = ring.nop();
  await completed;
  const cancelled = ring.timeout(60_000);
  cancelled.cancel();
  await cancelled.catch(() => 0);
  const third = outcomeOf(() => call(completed));
  const fourth = outcomeOf(() => call(cancelled));
  const left = ring.timeout(60_000);
  let fifth = "";
  ring.nop(() => {
    void ring.close({ cancel: true });
    queueMicrotask(() => {
      fifth = outcomeOf(() => call(left));
    });
  });
  while (fifth === "") await turn();
  await ring.close();
  return [first, second, third, fourth, fifth, outcomeOf(() => call(left))];
}

describe("an operation submitted, completing, completed, cancelled, closing, closed:", () => {
  test("every public method has a row", () => {
    expect(namesOf(Operation.prototype, OPERATION_INTERNAL)).toEqual(Object.keys(OPERATION).sort());
  });

  test.each(Object.entries(OPERATION))("%s", async (_name, [call, ...cells]) => {
    expect(await inEveryStage(call)).toEqual(cells);
  });
});

// Prepared operations --------------------------------------------------------------------------

const BUILDER_INTERNAL = ["assertReady", "start"];

/** Building: something is missing; ready; consumed. */
const BUILDER: Record<string, [(builder: Builder, ring: Ring) => unknown, ...string[]]> = {
  file: [(builder) => builder.file(0), "object", "object", "object"],
  buffer: [(builder) => builder.buffer(bytes()), "object", "object", "object"],
  at: [(builder) => builder.at(0), "object", "object", "object"],
  flags: [(builder) => builder.flags(0), "object", "object", "object"],
  timeout: [(builder) => builder.timeout(60_000), "object", "object", "object"],
  signal: [
    (builder) => builder.signal(new AbortController().signal), "object", "object", "object",
  ],
  submit: [(builder, ring) => builder.submit(ring), "EINVAL", "operation", "EINVAL"],
};

describe("a prepared operation that lacks something, that is ready, that was submitted:", () => {
  test("every public method has a row", () => {
    expect(namesOf(Builder.prototype, BUILDER_INTERNAL)).toEqual(Object.keys(BUILDER).sort());
  });

  test.each(Object.entries(BUILDER))("%s", async (_name, [call, ...cells]) => {
    await using ring = new Ring();
    const made = () => prepare.read().file(9999);
    const consumed = made().buffer(bytes());
    await consumed.submit(ring).then(undefined, () => 0);
    const states = [made(), made().buffer(bytes()), consumed] as unknown as Builder[];
    expect(states.map((builder) => outcomeOf(() => call(builder, ring)))).toEqual(cells);
  });
});

/** Nothing set, ready, submitted before; on a ring that is closing, that is closed. */
type Submits = [make: () => AnyPrepared, bare: () => unknown, ...cells: string[]];
const needs = ["EINVAL", "operation", "EINVAL", ...down] as const;
const whole = ["operation", "operation", "EINVAL", ...down] as const;
const vector = () => [bytes()];

const PREPARED: Record<string, Submits> = {
  nop: [() => prepare.nop(), prepare.nop, ...whole],
  timeout: [() => prepare.timeout(1), () => prepare.timeout(1), ...whole],
  read: [() => prepare.read().file(9999).buffer(bytes()), prepare.read, ...needs],
  write: [() => prepare.write().file(9999).buffer(bytes()), prepare.write, ...needs],
  send: [() => prepare.send().file(9999).buffer(bytes()), prepare.send, ...needs],
  recv: [() => prepare.recv().file(9999).buffer(bytes()), prepare.recv, ...needs],
  readv: [() => prepare.readv().file(9999).buffer(vector()), prepare.readv, ...needs],
  writev: [() => prepare.writev().file(9999).buffer(vector()), prepare.writev, ...needs],
  sendmsg: [() => prepare.sendmsg().file(9999).buffer(vector()), prepare.sendmsg, ...needs],
  recvmsg: [() => prepare.recvmsg().file(9999).buffer(vector()), prepare.recvmsg, ...needs],
  fsync: [() => prepare.fsync().file(9999), prepare.fsync, ...needs],
  datasync: [() => prepare.datasync().file(9999), prepare.datasync, ...needs],
  ftruncate: [() => prepare.ftruncate(0).file(9999), () => prepare.ftruncate(0), ...needs],
  fallocate: [() => prepare.fallocate(0, 1).file(9999), () => prepare.fallocate(0, 1), ...needs],
  syncFileRange: [
    () => prepare.syncFileRange(0, 0, 0).file(9999), () => prepare.syncFileRange(0, 0, 0), ...needs,
  ],
  close: [() => prepare.close().file(9999), prepare.close, ...needs],
  shutdown: [() => prepare.shutdown().file(9999), prepare.shutdown, ...needs],
  poll: [() => prepare.poll("read").file(9999), () => prepare.poll("read"), ...needs],
  listen: [() => prepare.listen().file(9999), prepare.listen, ...needs],
  bind: [() => prepare.bind(nowhere).file(9999), () => prepare.bind(nowhere), ...needs],
  connect: [() => prepare.connect(nowhere).file(9999), () => prepare.connect(nowhere), ...needs],
  accept: [() => prepare.accept().file(9999), prepare.accept, ...needs],
  openat: [() => prepare.openat("nowhere"), () => prepare.openat("nowhere"), ...whole],
  statx: [() => prepare.statx("nowhere"), () => prepare.statx("nowhere"), ...whole],
  unlink: [() => prepare.unlink("nowhere/a"), () => prepare.unlink("nowhere/a"), ...whole],
  mkdir: [() => prepare.mkdir("nowhere/a"), () => prepare.mkdir("nowhere/a"), ...whole],
  rename: [() => prepare.rename("nowhere/a", "b"), () => prepare.rename("no/a", "b"), ...whole],
  link: [() => prepare.link("nowhere/a", "b"), () => prepare.link("nowhere/a", "b"), ...whole],
  symlink: [() => prepare.symlink("a", "no/b"), () => prepare.symlink("a", "no/b"), ...whole],
  socket: [() => prepare.socket("ipv4"), () => prepare.socket("ipv4"), ...whole],
  splice: [() => prepare.splice(9999, 9999, 1), () => prepare.splice(9999, 9999, 1), ...whole],
};

describe("submitting what is bare, ready, used up; on a ring that closes, that is closed:", () => {
  test("every builder has a row", () => {
    expect(Object.keys(PREPARED).sort()).toEqual(Object.keys(prepare).sort());
  });

  test.each(Object.entries(PREPARED))("%s", async (_name, [make, bare, ...cells]) => {
    const ring = new Ring();
    const submit = (prepared: unknown) => outcomeOf(() => (prepared as AnyPrepared).submit(ring));
    const ready = make();
    const outcomes = [submit(bare()), submit(ready), submit(ready)];
    let closing = "";
    ring.nop(() => {
      void ring.close({ cancel: true });
      queueMicrotask(() => {
        closing = submit(make());
      });
    });
    while (closing === "") await turn();
    await ring.close();
    expect([...outcomes, closing, submit(make())]).toEqual(cells);
  });
});

// ring.worker(): a long-lived Worker with a queue. Its messages and its end arrive in turns of the
// ring, it stops when it is asked, and what it must not do is refused. The first cases are those of
// Neolith's worker; those of its queue are in worker_queue.test.ts.

import { describe, expect, test } from "bun:test";
import { Ring, type RingWorker, type WorkerExit, type WorkerOptions } from "../ts/index.ts";
import { answer, program } from "./support/child.ts";
import { until } from "./support/until.ts";

const job = (name = "") => new URL(`file://${program("worker_jobs")}${name && `#${name}`}`);

/** A Worker, and what it told: messages as texts, how it ended. */
function employ(ring: Ring, name = "", options: WorkerOptions = {}) {
  const told: string[] = [];
  const exits: WorkerExit[] = [];
  const worker = ring.worker(job(name), {
    message: (bytes) => void told.push(Buffer.from(bytes).toString()),
    exit: (exit) => void exits.push(exit),
    ...options,
  });
  return { worker, told, exits };
}

describe("a Worker", () => {
  test("runs to its end, and is joined", async () => {
    await using ring = new Ring();
    const { worker, told, exits } = employ(ring, "", { data: { a: [1] } });
    expect(worker.state).toBe("running");
    expect(await worker.join(20_000)).toBe(true);
    expect([told, exits]).toEqual([['{"a":[1]}'], [{ reason: "returned", error: null }]]);
    expect([worker.state, await worker.join(0), ring.pendingCount]).toEqual(["exited", true, 0]);
  });

  test("stops when it is asked", async () => {
    await using ring = new Ring();
    const { worker, told, exits } = employ(ring, "loops");
    await until(() => told.length === 1, "it loops");
    worker.stop();
    worker.stop();
    expect(worker.state).toBe("stopping");
    expect(await worker.join()).toBe(true);
    expect([told, worker.state, exits.length]).toEqual([["looping", "stopped"], "exited", 1]);
  });

  test("stops when it is asked, also where it awaits", async () => {
    await using ring = new Ring();
    const { worker, told } = employ(ring, "awaits");
    await until(() => told.length === 1, "it awaits");
    worker.stop();
    await worker.join();
    expect(told).toEqual(["awaiting", "asked"]);
  });

  test("that does not listen is not joined in time, and can be terminated", async () => {
    await using ring = new Ring();
    const { worker, told, exits } = employ(ring, "deaf");
    await until(() => told.length === 1, "it is deaf");
    worker.stop();
    expect(await worker.join(30)).toBe(false);
    expect([worker.state, exits]).toEqual(["stopping", []]);
    await worker.terminate();
    expect([worker.state, exits]).toEqual(["exited", [{ reason: "ended", error: null }]]);
  });

  test("that throws tells what, behind its messages", async () => {
    await using ring = new Ring();
    const { worker, told, exits } = employ(ring, "throws");
    await worker.join();
    expect([told, exits.length, exits[0]?.reason]).toEqual([["last words"], 1, "threw"]);
    expect(exits[0]?.error).toBeInstanceOf(RangeError);
    expect(exits[0]?.error?.message).toBe("thrown in a Worker");
  });

  test("that ends its process is told of, behind its messages", async () => {
    await using ring = new Ring();
    const { worker, told, exits } = employ(ring, "exits");
    await worker.join();
    expect([told, exits]).toEqual([["last words"], [{ reason: "ended", error: null }]]);
  });

  test("has its own messages and end, among many", async () => {
    await using ring = new Ring();
    const all = [3, 5, 7].map((data) => employ(ring, "counts", { data }));
    expect(new Set(all.map(({ worker }) => worker.key)).size).toBe(3);
    await Promise.all(all.map(({ worker }) => worker.join()));
    for (const [at, { told, exits }] of all.entries()) {
      const count = [3, 5, 7][at] ?? 0;
      expect(told).toEqual([...Array(count).keys(), "refused false"].map(String));
      expect(exits.length).toBe(1);
    }
  });

  test("arrives in a wait that blocks, messages and end", async () => {
    await using ring = new Ring();
    const { told, exits } = employ(ring, "counts", { data: 3 });
    while (exits.length === 0) ring.waitSync(1000);
    expect(told).toEqual(["0", "1", "2", "refused false"]);
    expect(exits).toEqual([{ reason: "returned", error: null }]);
  });

  test("is answered", async () => {
    await using ring = new Ring();
    const { worker, told, exits } = employ(ring, "echoes");
    for (const text of ["one", "", "three"]) worker.post(text);
    worker.post(new Uint8Array([52]));
    await until(() => told.length === 4, "all are echoed");
    expect(told).toEqual(["one", "", "three", "4"]);
    expect(worker.stats().inbox).toMatchObject({ queued: 0, put: 4, dropped: 0 });
    worker.stop();
    await worker.join();
    expect(exits).toEqual([{ reason: "returned", error: null }]);
    expect(() => worker.post("late")).toThrow("ESHUTDOWN");
  });
});

/** Blocks the thread for a moment: no loop goes on meanwhile. */
function pause(): void {
  Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 1);
}

describe("the queue of a Worker", () => {
  test.each([
    [false, ["0", "1", "2", "3"], "true,true,true,true,false,false,false"],
    [true, ["3", "4", "5", "6"], "true,true,true,true,true,true,true"],
  ])("keeps what fits; drops its oldest: %p", async (dropOldest, kept, outcomes) => {
    await using ring = new Ring();
    const data = new Int32Array(new SharedArrayBuffer(4));
    const { worker, told } = employ(ring, "fills", { data, queue: { capacity: 4, dropOldest } });
    while (Atomics.load(data, 0) === 0) pause();
    expect(worker.stats().queue).toMatchObject({ queued: 4, dropped: dropOldest ? 3 : 0 });
    await until(() => told.length === 4, "all are taken");
    worker.post("go on");
    await worker.join();
    expect(told).toEqual([...kept, outcomes]);
  });

  test.each([2, 32])("of %d passes ten thousand messages once and in order", async (capacity) => {
    await using ring = new Ring({ posts: 64 });
    const options = { data: 10_000, queue: { capacity, messageSize: 16 } };
    const { worker, told } = employ(ring, "counts", options);
    await worker.join();
    expect(told.length).toBe(10_001);
    expect(told.slice(0, -1)).toEqual(Array.from({ length: 10_000 }, (_, i) => `${i}`));
    expect(ring.stats().posts_unhandled).toBe(0);
  });

  test("that drops passes the newest, in order, and counts the rest", async () => {
    await using ring = new Ring({ posts: 64 });
    const queue = { capacity: 8, messageSize: 16, dropOldest: true };
    const { worker, told } = employ(ring, "floods", { data: 20_000, queue });
    await worker.join();
    const numbers = told.map(Number);
    expect(numbers).toEqual(numbers.toSorted((a, b) => a - b));
    expect(numbers.at(-1)).toBe(19_999);
    const { put, dropped, queued } = worker.stats().queue;
    expect([put, queued, told.length + dropped]).toEqual([20_000, 0, 20_000]);
  });

  test("a message that is too long is refused, here and there", async () => {
    await using ring = new Ring();
    const { worker } = employ(ring, "echoes", { inbox: { messageSize: 3 } });
    expect(() => worker.post("four")).toThrow("EMSGSIZE");
    expect(() => worker.post(7 as never)).toThrow("EINVAL");
    const { worker: other, exits } = employ(ring, "", { queue: { messageSize: 3 } });
    await other.join();
    expect(exits[0]?.error).toMatchObject({ name: "UringError", code: "EMSGSIZE" });
    await worker.terminate();
  });

  test("a full inbox refuses", async () => {
    await using ring = new Ring();
    const { worker } = employ(ring, "deaf", { inbox: { capacity: 2 } });
    worker.post("1");
    worker.post("2");
    expect(() => worker.post("3")).toThrow("EAGAIN");
    await worker.terminate();
  });
});

describe("a ring and its Workers", () => {
  test("its end terminates them", async () => {
    const ring = new Ring();
    const { worker, told, exits } = employ(ring, "deaf");
    await until(() => told.length === 1, "it is deaf");
    await ring.close({ cancel: true });
    expect(await worker.join(20_000)).toBe(true);
    expect([exits, worker.state]).toEqual([[{ reason: "ended", error: null }], "exited"]);
    expect(() => ring.worker(job())).toThrow("ESHUTDOWN");
  });

  test("a key can be chosen, and is free again afterwards", async () => {
    await using ring = new Ring();
    const { worker } = employ(ring, "", { key: 9 });
    expect(worker.key).toBe(9);
    expect(() => ring.worker(job(), { key: 9 })).toThrow("EEXIST");
    await worker.join();
    using _posts = ring.onPost(9, () => {});
  });

  test("a handler that throws stops nothing else", async () => {
    const outcome = await answer<object>(program("worker_throws"));
    expect(outcome).toEqual({
      told: ["0", "1", "refused false", "returned"],
      caught: ["in message", "in message", "in message", "in exit"],
    });
  });

  test("a module that is not there, or exports no function, is its error", async () => {
    await using ring = new Ring();
    for (const name of ["nothing", "missing"]) {
      const { worker, exits } = employ(ring, name);
      await worker.join();
      expect(exits[0]?.error?.message).toContain(`exports no function "${name}"`);
    }
    const exits: WorkerExit[] = [];
    const worker = ring.worker("nowhere.ts", { exit: (exit) => void exits.push(exit) });
    await worker.join();
    expect(exits[0]?.error?.message).toContain("nowhere.ts");
  });

  const BAD: [string, unknown, unknown][] = [
    ["module", 7, {}],
    ["module", "", {}],
    ["options", job(), null],
    ["message", job(), { message: 1 }],
    ["exit", job(), { exit: 1 }],
    ["key", job(), { key: -1 }],
    ["queue", job(), { queue: 1 }],
    ["capacity", job(), { queue: { capacity: 3 } }],
    ["messageSize", job(), { inbox: { messageSize: 0 } }],
    ["dropOldest", job(), { queue: { dropOldest: 1 } }],
  ];

  test.each(BAD.map((row, at) => [at, ...row] as const))(
    "%d: a wrong %s is refused",
    async (_at, name, module, options) => {
      await using ring = new Ring({ entries: 8 });
      expect(() => ring.worker(module as never, options as never)).toThrow(name);
      expect(ring.pendingCount).toBe(0);
    },
  );

  test("what cannot be cloned is refused, and leaves nothing behind", async () => {
    await using ring = new Ring();
    expect(() => ring.worker(job(), { data: () => {} })).toThrow();
    await until(() => ring.pendingCount === 0, "the Worker is gone");
  });

  test("a Worker that is unref'ed does not hold the ring, and is counted once", async () => {
    await using ring = new Ring();
    const { worker, told } = employ(ring, "loops");
    await until(() => told.length === 1, "it loops");
    const before = ring.refCount;
    const change = (call: (worker: RingWorker) => void) => {
      call(worker);
      return ring.refCount - before;
    };
    expect(change((held) => held.unref())).toBe(-1);
    expect(change((held) => held.unref())).toBe(-1);
    expect(change((held) => held.ref())).toBe(0);
    worker.unref();
    await worker.terminate();
    expect(ring.refCount).toBe(before - 1);
  });
});

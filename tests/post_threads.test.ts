// Posts from other threads: Workers, and threads of native code. Every post arrives once, in order
// per poster; wake-ups and stops race with the waits that they end; threads die in the middle.
//
// What counts descriptors or kills threads runs in a process of its own.

import { cc } from "bun:ffi";
import { describe, expect, setDefaultTimeout, test } from "bun:test";
import { readFileSync } from "node:fs";
import { NativeBlock, Ring } from "../ts/index.ts";
import { native } from "../ts/native.ts";
import { backend, features } from "./support/backend.ts";
import { answer, program } from "./support/child.ts";
import { file } from "./support/operations.ts";
import { patience } from "./support/patience.ts";
import type { Task } from "./support/programs/posting_worker.ts";

setDefaultTimeout(60_000 * patience);

interface Flood {
  received: number;
  misplaced: number;
  blocks: number;
}

const KINDS: [string, Record<string, string>][] = [
  ["the epoll twin", { BUN_URING_BACKEND: "epoll" }],
];
if (backend === "uring") KINDS.push(["an eventfd as doorbell", {}]);
if (features.has("msg_ring")) {
  KINDS.push(["messages of MSG_RING", { BUN_URING_DISABLE: "doorbell" }]);
}

describe.each(KINDS)("with %s", (_name, env) => {
  test("four Workers' posts arrive once each and in order", async () => {
    // The long form is in the program's header.
    const options = { arguments: ["4", "50000"], env, timeoutMs: 55_000 };
    const flood = await answer<Flood>(program("post_flood"), options);
    expect(flood).toMatchObject({ received: 200_000, misplaced: 0, blocks: 0 });
  });

  test("blocks of two Workers arrive once each and in order, and all are freed", async () => {
    const options = { arguments: ["2", "1500", "blocks"], env, timeoutMs: 55_000 };
    const flood = await answer<Flood>(program("post_flood"), options);
    expect(flood).toMatchObject({ received: 3000, misplaced: 0, blocks: 0 });
  });
});

describe("Workers that are terminated", () => {
  test("in mid-post, and under their posters, leave nothing behind", async () => {
    const options = { arguments: ["12"], timeoutMs: 55_000 };
    expect(await answer<object>(program("post_terminate"), options)).toEqual({
      misplaced: 0,
      codes: ["ESHUTDOWN"],
      blocks: 0,
      leaked: 0,
    });
  });
});

/** Workers with a task each; resolves when all have done it. */
function work(ring: Ring, tasks: Partial<Task>[]) {
  const shared = new Int32Array(new SharedArrayBuffer(8));
  const workers: Worker[] = [];
  const done = tasks.map(async (task, key) => {
    const worker = new Worker(program("posting_worker"));
    workers.push(worker);
    const whole: Task = { token: ring.token, shared, what: "numbers", key, count: 1, ...task };
    worker.postMessage(whole);
    await new Promise((resolve, reject) => {
      worker.onmessage = resolve;
      worker.onerror = ({ message }) => reject(new Error(message));
    });
  });
  return {
    /** The next signal's turn. */
    next() {
      Atomics.add(shared, 0, 1);
      Atomics.notify(shared, 0);
    },
    done: Promise.all(done),
    [Symbol.dispose]: () => workers.forEach((worker) => worker.terminate()),
  };
}

describe("a wait races with signals of a Worker:", () => {
  const ROUNDS = 300;

  test("each wake-up ends one wait, and is no event", async () => {
    await using ring = new Ring();
    ring.onPost(1, () => {});
    using signals = work(ring, [{ what: "wakeup", count: 2 * ROUNDS }]);
    for (let i = 0; i < ROUNDS; i++) {
      signals.next();
      expect(ring.waitSync()).toBe(0);
      signals.next();
      expect(await ring.wait()).toBe(0);
    }
    await signals.done;
    expect([ring.waitSync(1), ring.stats().posts_unhandled]).toEqual([0, 0]);
  });

  test("each stop ends one run, blocked or not", async () => {
    await using ring = new Ring();
    const timer = ring.timeout(600_000);
    using signals = work(ring, [{ what: "stop", count: 4 * ROUNDS }]);
    for (let i = 0; i < ROUNDS; i++) {
      for (const form of [
        () => ring.runUntilEmptySync(), () => ring.run(), () => ring.runSomeSync(),
        () => ring.runUntilEmpty(),
      ]) {
        signals.next();
        expect(await form()).toBe(0);
      }
    }
    await signals.done;
    timer.cancel();
    expect(await ring.runUntilEmpty()).toBe(1);
  });
});

describe("only the ring's own thread submits:", () => {
  test("four Workers write by post, and every line is written once", async () => {
    await using ring = new Ring();
    using own = file();
    let at = 0;
    let written = 0;
    ring.onPost([0, 3], (line: NativeBlock) => {
      const operation = ring.write(own.fd, line.bytes, { at });
      at += line.byteLength;
      operation.then(() => {
        written++;
        line[Symbol.dispose]();
      });
    });
    const count = 200;
    using workers = work(ring, Array.from({ length: 4 }, () => ({ what: "lines", count })));
    await workers.done;
    await ring.runUntilEmpty();
    expect(written).toBe(4 * count);
    const lines = readFileSync(own.path, "utf8").trimEnd().split("\n");
    const expected = Array.from({ length: 4 * count }, (_, i) => `${i % 4} ${Math.floor(i / 4)}`);
    expect(lines.toSorted()).toEqual(expected.toSorted());
    for (let key = 0; key < 4; key++) {
      const ofOne = lines.filter((line) => line.startsWith(`${key} `));
      expect(ofOne).toEqual(expected.filter((line) => line.startsWith(`${key} `)));
    }
  });
});

describe("threads of native code", () => {
  const { symbols } = cc({
    source: new URL("support/native_posters.c", import.meta.url).pathname,
    symbols: {
      start: { args: ["ptr", "u32", "u32", "u32"], returns: "i32" },
      join: { args: ["u32"], returns: "i32" },
      send: { args: ["ptr", "u32"], returns: "i32" },
    },
  });
  const addressOf = (symbol: unknown) => (symbol as { ptr: number }).ptr as never;

  test("post through bu_post, each post once and in order", async () => {
    const ring = new Ring({ posts: 64 });
    const next = [0, 0, 0, 0];
    let misplaced = 0;
    ring.onPost([0, 3], (number: number, key) => {
      if (next[key] !== number) misplaced++;
      next[key] = number + 1;
    });
    const { id } = ring.token;
    expect(symbols.start(addressOf(native.bu_post), id, 4, 20_000)).toBe(0);
    // Both ways of waiting, in turn.
    while (Math.min(...next) < 20_000) {
      ring.waitSync();
      if (Math.min(...next) < 20_000) await ring.wait();
    }
    expect([symbols.join(4), misplaced, next]).toEqual([0, 0, [20_000, 20_000, 20_000, 20_000]]);
    await ring.close();
    symbols.start(addressOf(native.bu_post), id, 2, 1);
    expect(symbols.join(2)).toBe(-108); // ESHUTDOWN
  });

  test("wake up and stop through bu_wakeup and bu_stop", async () => {
    await using ring = new Ring();
    expect(symbols.send(addressOf(native.bu_wakeup), ring.token.id)).toBe(0);
    expect(ring.waitSync()).toBe(0);
    expect(symbols.send(addressOf(native.bu_stop), ring.token.id)).toBe(0);
    expect(await ring.run()).toBe(0);
    expect(symbols.send(addressOf(native.bu_stop), 1)).toBe(-108);
  });
});

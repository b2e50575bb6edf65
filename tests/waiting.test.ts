// Waiting: return values and errors of poll, wait, drain, run and their Sync forms.
//
// Literal numbers: what a form returns is part of the contract.

import { describe, expect, test } from "bun:test";
import { Ring } from "../ts/index.ts";
import { file, pipe, rejected, thrown } from "./support/operations.ts";
import { turns } from "./support/until.ts";

describe("poll", () => {
  test("gives the number handled and never blocks", async () => {
    await using ring = new Ring();
    expect(ring.poll()).toBe(0);
    for (let i = 0; i < 5; i++) ring.nop();
    expect(ring.poll()).toBe(5);
    const timer = ring.timeout(60_000);
    expect(ring.poll()).toBe(0);
    timer.cancel();
    expect(ring.waitSync()).toBe(1);
  });
});

describe("wait", () => {
  test("with nothing pending is 0 at once", async () => {
    await using ring = new Ring();
    expect([await ring.wait(), ring.waitSync()]).toEqual([0, 0]);
  });

  test("gives the number handled, and 0 when the time is up", async () => {
    await using ring = new Ring();
    const timer = ring.timeout(60_000);
    expect([await ring.wait(5), ring.waitSync(5)]).toEqual([0, 0]);
    ring.nop();
    expect(ring.waitSync(60_000)).toBe(1);
    ring.nop();
    expect(await ring.wait(60_000)).toBe(1);
    timer.cancel();
    expect(await ring.wait(-1)).toBe(1);
  });

  test("of 0 is poll", async () => {
    await using ring = new Ring();
    ring.nop();
    expect(await ring.wait(0)).toBe(1);
    const timer = ring.timeout(60_000);
    expect([await ring.wait(0), ring.waitSync(0)]).toEqual([0, 0]);
    timer.cancel();
    ring.waitSync();
  });

  test("in the documented loop settles everything", async () => {
    await using ring = new Ring();
    let settled = 0;
    for (let i = 1; i <= 5; i++) ring.timeout(i, () => settled++);
    while (ring.pendingCount > 0) ring.waitSync(100);
    expect(settled).toBe(5);
  });

  test("wakes for a completion of its own thread's loop", async () => {
    await using ring = new Ring();
    const waiting = ring.wait();
    expect(await waiting).toBe(0);
    ring.timeout(10);
    expect(await ring.wait(60_000)).toBe(1);
  });
});

describe("drain", () => {
  test("gives the total, what callbacks submit included", async () => {
    await using ring = new Ring();
    const chain = (left: number): void => {
      if (left > 0) ring.nop(() => chain(left - 1));
    };
    chain(10);
    expect(ring.drainSync()).toBe(10);
    chain(10);
    expect(await ring.drain()).toBe(10);
    expect([ring.drainSync(), await ring.drain()]).toEqual([0, 0]);
  });

  test("after its time lists what remains", async () => {
    await using ring = new Ring();
    using own = pipe();
    ring.read(own.fd, new Uint8Array(1));
    ring.timeout(60_000);
    const listed = new RegExp(`read on fd ${own.fd}, \\d\\.\\d s; timeout, \\d\\.\\d s`);
    for (const error of [thrown(() => ring.drainSync(5)), await rejected(ring.drain(5))]) {
      expect(error.code).toBe("ETIMEDOUT");
      expect(error.message).toMatch(listed);
    }
    ring.cancelAll();
    expect(ring.drainSync()).toBe(2);
  });
});

describe("runSome", () => {
  test("handles at most so many, and leaves the rest for later", async () => {
    await using ring = new Ring();
    let settled = 0;
    for (let i = 0; i < 5; i++) ring.nop(() => settled++);
    expect([ring.runSomeSync(2), settled]).toEqual([2, 2]);
    expect([ring.runSomeSync(), settled]).toEqual([1, 3]);
    expect([await ring.runSome(1), settled]).toEqual([1, 4]);
    expect([ring.drainSync(), settled]).toEqual([1, 5]);
    expect([ring.runSomeSync(3), await ring.runSome(3)]).toEqual([0, 0]);
  });

  test("waits for one", async () => {
    await using ring = new Ring();
    ring.timeout(5);
    expect(ring.runSomeSync(10)).toBe(1);
    ring.timeout(5);
    expect(await ring.runSome(10)).toBe(1);
  });
});

describe("run", () => {
  test("goes on until stop, with Bun's loop in between", async () => {
    await using ring = new Ring();
    let immediates = 0;
    const running = ring.run();
    for (let i = 0; i < 10; i++) await new Promise<void>((resolve) => setImmediate(() => {
      immediates++;
      resolve();
    }));
    await ring.timeout(5);
    await ring.nop();
    ring.stop();
    expect([await running, immediates]).toEqual([2, 10]);
  });

  test("returns at once when stop came before, after what is ready", async () => {
    await using ring = new Ring();
    ring.stop();
    const timer = ring.timeout(60_000);
    ring.nop();
    expect(await ring.run()).toBe(1);
    timer.cancel();
    await ring.drain();
  });

  test("runUntilEmpty gives the total", async () => {
    await using ring = new Ring();
    for (let i = 0; i < 3; i++) ring.timeout(i);
    expect(await ring.runUntilEmpty()).toBe(3);
    for (let i = 0; i < 3; i++) ring.timeout(i);
    expect(ring.runUntilEmptySync()).toBe(3);
  });
});

describe("one waiter at a time", () => {
  test("a second one throws EBUSY and the first goes on", async () => {
    await using ring = new Ring();
    const timer = ring.timeout(60_000);
    const waiting = ring.wait();
    for (const call of [
      () => ring.wait(), () => ring.drain(), () => ring.run(), () => ring.runSome(),
      () => ring.runUntilEmpty(), () => ring.waitSync(0), () => ring.drainSync(0),
      () => ring.runSomeSync(), () => ring.runUntilEmptySync(),
    ]) {
      const { code, message } = thrown(call);
      expect([call.toString(), code]).toEqual([call.toString(), "EBUSY"]);
      expect(message).toContain("wait is waiting already");
    }
    expect(ring.poll()).toBe(0); // polls and does not wait
    timer.cancel();
    expect(await waiting).toBe(1);
  });

  test("a waiter of a ring that closes gets what it has", async () => {
    const ring = new Ring();
    ring.timeout(60_000);
    const waiting = ring.wait();
    await ring.close({ cancel: true });
    expect(await waiting).toBe(1);
  });
});

describe("code after an await", () => {
  test("may turn the ring in the middle of a dispatch; every record is told once", async () => {
    await using ring = new Ring();
    const order: string[] = [];
    const nested = (async () => {
      await ring.nop();
      ring.nop(() => order.push("nested"));
      order.push(`polled ${ring.poll()}`);
      order.push(`waited ${ring.waitSync()}`);
    })();
    for (let i = 0; i < 20; i++) ring.nop(() => order.push(`${i}`));
    await nested;
    await ring.drain();
    const numbers = order.filter((entry) => /^\d+$/.test(entry));
    expect(numbers).toEqual(Array.from({ length: 20 }, (_, i) => `${i}`));
    expect(order.filter((entry) => entry === "nested")).toHaveLength(1);
  });

  test("may turn it within the turn of another one", async () => {
    await using ring = new Ring();
    let sum = 0;
    await Promise.all(Array.from({ length: 50 }, async () => {
      await ring.nop();
      ring.timeout(0);
      ring.poll(); // others go on in here
      sum++;
    }));
    await ring.drain();
    expect(sum).toBe(50);
  });
});

describe("arguments", () => {
  test("that are none are refused", async () => {
    await using ring = new Ring();
    for (const call of [
      () => ring.wait("1" as never), () => ring.waitSync(Number.NaN), () => ring.drain(1e12),
      () => ring.runSome(0), () => ring.runSomeSync(1.5),
    ]) expect(thrown(call).code).toBe("EINVAL");
    await turns(1);
  });

  test("files written between turns are there: nothing waits for the loop", async () => {
    await using ring = new Ring();
    using own = file();
    ring.write(own.fd, "written", { at: 0 });
    expect(ring.drainSync()).toBe(1);
    expect(own.text()).toBe("written");
  });
});

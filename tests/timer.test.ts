// Timers: timeout, absolute deadlines, interval; their order, their limits, and what they cost.
// Which of them keep a process alive is in alive.test.ts.

import { describe, expect, test } from "bun:test";
import { prepare, Ring } from "../ts/index.ts";
import { rejected, thrown } from "./support/operations.ts";
import { turns } from "./support/until.ts";

const DURATION_MAX = 2_147_483_647;

describe("timeout", () => {
  test("completes with 0, never early, and never within the call", async () => {
    await using ring = new Ring();
    for (const milliseconds of [0, 0.4, 1, 7.5, 20]) {
      const started = performance.now();
      let called = false;
      const timer = ring.timeout(milliseconds, (result) => {
        called = true;
        expect(result).toBe(0);
      });
      expect([called, timer.pending, timer.kind]).toEqual([false, true, "timeout"]);
      expect(await timer).toBe(0);
      expect(performance.now() - started).toBeGreaterThanOrEqual(milliseconds);
    }
  });

  test("refuses what is no duration, and takes the longest", async () => {
    await using ring = new Ring();
    const beyond = [-1, -0.001, -Infinity, DURATION_MAX + 1, Infinity];
    for (const wrong of [...beyond, Number.NaN, "5", null]) {
      const error = thrown(() => ring.timeout(wrong as number));
      expect([wrong, error.code, error.phase]).toEqual([wrong, "EINVAL", "submission"]);
    }
    const longest = ring.timeout(DURATION_MAX);
    await turns(3);
    expect(longest.pending).toBe(true);
    expect(longest.cancel()).toBe(true);
    expect((await rejected(longest)).name).toBe("AbortError");
  });

  test("equal ones end in the order in which they were started", async () => {
    await using ring = new Ring();
    const order: number[] = [];
    for (let i = 0; i < 3000; i++) {
      ring.timeout(30 + (i % 3) * 10, () => void order.push((i % 3) * 10_000 + i));
      if (i % 7 === 0) ring.timeout(25).cancel();
    }
    await ring.drain();
    expect(order).toEqual(order.toSorted((a, b) => a - b));
    expect(order).toHaveLength(3000);
  });

  test("a shorter one that is started later ends first", async () => {
    await using ring = new Ring();
    const order: string[] = [];
    ring.timeout(60_000, () => void order.push("long"));
    await turns(30); // the kernel waits for that one by now
    await ring.timeout(5);
    order.push("short");
    expect(order).toEqual(["short"]);
    ring.cancelAll();
    await ring.drain();
  });

  test("is cancelled by hand, by a signal, by using, and by the ring's end", async () => {
    const ring = new Ring();
    const seen: number[] = [];
    const byHand = ring.timeout(60_000, (result) => void seen.push(result));
    expect([byHand.cancel(), byHand.cancel()]).toEqual([true, false]);
    const controller = new AbortController();
    const bySignal = rejected(ring.timeout(60_000, { signal: controller.signal }));
    controller.abort("enough");
    expect(await bySignal).toMatchObject({ name: "AbortError", cause: "enough" });
    expect(byHand.cancel()).toBe(false);
    {
      await using _timer = ring.timeout(60_000);
    }
    expect(ring.pendingCount).toBe(0);
    const aborted = ring.timeout(1, { signal: AbortSignal.abort() });
    expect([aborted.pending, (await rejected(aborted)).code]).toEqual([false, "ECANCELED"]);
    const last = rejected(ring.timeout(60_000));
    await ring.close({ cancel: true });
    expect([(await last).code, seen]).toEqual(["ECANCELED", [-125]]);
    expect(thrown(() => ring.timeout(1)).code).toBe("ESHUTDOWN");
  });

  test("one that is cancelled before it reaches the library ends cancelled", async () => {
    await using ring = new Ring();
    const timer = ring.timeout(0);
    timer.cancel();
    expect((await rejected(timer)).code).toBe("ECANCELED");
  });

  test("with a shorter time-out of its own ends with that", async () => {
    await using ring = new Ring();
    const error = await rejected(ring.timeout(60_000, { timeout: 5 }));
    expect([error.name, error.code]).toEqual(["TimeoutError", "ETIMEDOUT"]);
    expect(await ring.timeout(5, { timeout: 60_000 })).toBe(0);
  });

  test("inside a chain is the kernel's own", async () => {
    await using ring = new Ring();
    const before = ring.stats().sqes;
    const started = performance.now();
    const { members } = await ring.link([prepare.nop(), prepare.timeout(10).timeout(5000)]);
    // A link goes on behind a time-out that expired only if it is a hard one.
    expect(members.map(({ status }) => status)).toEqual(["done", "done"]);
    expect(performance.now() - started).toBeGreaterThanOrEqual(10);
    expect(ring.stats().sqes - before).toBe(3);
    const moment = prepare.timeout({ at: performance.now() } as never);
    expect(thrown(() => ring.batch([moment])).code).toBe("EINVAL");
  });
});

describe("a deadline", () => {
  test("is a time of performance.now() or of the wall clock", async () => {
    await using ring = new Ring();
    const at = performance.now() + 15;
    await ring.timeout({ at });
    expect(performance.now()).toBeGreaterThanOrEqual(at);
    const date = new Date(Date.now() + 15);
    await ring.timeout({ at: date });
    expect(Date.now()).toBeGreaterThanOrEqual(date.getTime());
  });

  test("that has passed ends in the next turn", async () => {
    await using ring = new Ring();
    const started = performance.now();
    for (const at of [0, -1e9, performance.now() - 5, new Date(0)]) {
      expect(await ring.timeout({ at })).toBe(0);
    }
    expect(performance.now() - started).toBeLessThan(1000);
  });

  test("that is none is refused", async () => {
    await using ring = new Ring();
    const far = performance.now() + 2 * DURATION_MAX;
    for (const at of [Number.NaN, Infinity, far, new Date(Number.NaN), "noon", undefined]) {
      const { code, message } = thrown(() => ring.timeout({ at: at as number }));
      expect([code, message]).toEqual(["EINVAL", expect.stringContaining("performance.now()")]);
    }
    expect(thrown(() => ring.timeout({} as never)).code).toBe("EINVAL");
  });

  test("starts in an order of its own: moments, not calls", async () => {
    await using ring = new Ring();
    const order: string[] = [];
    const now = performance.now();
    ring.timeout({ at: now + 30 }, () => void order.push("third"));
    ring.timeout({ at: now + 20 }, () => void order.push("second"));
    ring.timeout({ at: now + 10 }, () => void order.push("first"));
    await ring.drain();
    expect(order).toEqual(["first", "second", "third"]);
  });
});

describe("interval", () => {
  test("beats on its grid, without drift", async () => {
    await using ring = new Ring();
    const started = performance.now();
    const { promise, resolve } = Promise.withResolvers<number>();
    let beats = 0;
    const interval = ring.interval(5, (more) => {
      expect(more).toBeGreaterThanOrEqual(1);
      beats += more;
      const elapsed = performance.now() - started;
      // Beat n is due n periods after the start: so many, and never one more.
      expect(beats).toBeLessThanOrEqual(Math.floor(elapsed / 5));
      if (beats >= 20) resolve(elapsed);
    });
    const elapsed = await promise;
    expect(elapsed).toBeGreaterThanOrEqual(100);
    expect([interval.pending, interval.cancel(), interval.cancel()]).toEqual([true, true, false]);
    await ring.drain();
    expect(interval.pending).toBe(false);
  });

  test("tells beats that were missed as one, and goes on where it would be", async () => {
    await using ring = new Ring();
    const seen: number[] = [];
    const { promise, resolve } = Promise.withResolvers<void>();
    using _interval = ring.interval(5, (beats) => {
      if (seen.push(beats) === 3) resolve();
      const until = performance.now() + (seen.length === 1 ? 52 : 0);
      while (performance.now() < until); // the handler is slow, once
    });
    await promise;
    expect(seen[0]).toBeGreaterThanOrEqual(1);
    expect(seen[1]).toBeGreaterThanOrEqual(9); // ten were due meanwhile, and none is made up for
  });

  test("is iterated over until it is cancelled, or left", async () => {
    await using ring = new Ring();
    const interval = ring.interval(2);
    let turnsTaken = 0;
    for await (const beats of interval) {
      expect(beats).toBeGreaterThanOrEqual(1);
      if (++turnsTaken === 3) interval.cancel();
    }
    expect([turnsTaken, interval.pending]).toEqual([3, false]);
    const other = ring.interval(2);
    for await (const _ of other) break;
    await ring.drain();
    expect([other.pending, ring.pendingCount]).toEqual([false, 0]);
  });

  test("counts what a slow loop misses", async () => {
    await using ring = new Ring();
    const seen: number[] = [];
    for await (const beats of ring.interval(5)) {
      seen.push(beats);
      if (seen.length === 1) await ring.timeout(42);
      if (seen.length === 2) break;
    }
    expect(seen[1]).toBeGreaterThanOrEqual(7);
  });

  test("throws in a loop whose signal is aborted, and ends quietly with its ring", async () => {
    const ring = new Ring();
    const controller = new AbortController();
    const loop = async (signal?: AbortSignal) => {
      let beats = 0;
      for await (const more of ring.interval(1, signal === undefined ? {} : { signal })) {
        beats += more;
        if (beats > 2) controller.abort("enough");
      }
      return "over";
    };
    expect(await rejected(loop(controller.signal))).toMatchObject({
      name: "AbortError", cause: "enough",
    });
    expect(await rejected(loop(controller.signal))).toMatchObject({ name: "AbortError" });
    const quiet = loop();
    await ring.timeout(5);
    await ring.close({ cancel: true });
    expect(await quiet).toBe("over");
  });

  test("has one reader, and refuses what is no period", async () => {
    await using ring = new Ring();
    using told = ring.interval(1000, () => {});
    expect(thrown(() => told[Symbol.asyncIterator]()).code).toBe("EBUSY");
    using read = ring.interval(1000);
    const beats = read[Symbol.asyncIterator]();
    expect(thrown(() => read[Symbol.asyncIterator]()).code).toBe("EBUSY");
    const first = beats.next();
    expect((await rejected(beats.next())).code).toBe("EBUSY");
    for (const wrong of [0, 0.5, -1, Number.NaN, Infinity, DURATION_MAX + 1, "5"]) {
      expect([wrong, thrown(() => ring.interval(wrong as number)).code]).toEqual([wrong, "EINVAL"]);
    }
    expect(thrown(() => ring.interval(5, { timeout: 5 } as never)).code).toBe("EINVAL");
    expect(thrown(() => ring.interval(5, 5 as never)).code).toBe("EINVAL");
    read.cancel();
    expect(await first).toEqual({ done: true, value: undefined });
  });

  test("is pending under its own name", async () => {
    await using ring = new Ring();
    using interval = ring.interval(1, () => {});
    expect([ring.inspect().pending, interval.pending]).toEqual([{ interval: 1 }, true]);
  });
});

describe("what timers cost", () => {
  test("ten thousand at once cost a handful of system calls", async () => {
    await using ring = new Ring();
    await ring.nop();
    const before = ring.stats();
    let ended = 0;
    for (let i = 0; i < 10_000; i++) ring.timeout(50, () => void ended++);
    ring.submit();
    const started = ring.stats();
    expect([started.enters - before.enters, started.sqes - before.sqes]).toEqual([1, 1]);
    await ring.drain();
    const after = ring.stats();
    expect(ended).toBe(10_000);
    expect(after.sqes - before.sqes).toBeLessThanOrEqual(4);
    expect(after.enters - before.enters).toBeLessThanOrEqual(60);
  });

  test("a hundred thousand, half of them cancelled, end once each", async () => {
    const count = 100_000;
    await using ring = new Ring({ operations: count });
    const before = ring.stats();
    const ends = new Uint8Array(count);
    const cancelled = new Uint8Array(count);
    const timers = Array.from({ length: count }, (_, i) => {
      return ring.timeout(20 + (i * 7919) % 200, (result) => {
        ends[i] = (ends[i] ?? 0) + 1;
        cancelled[i] = result === -125 ? 1 : 0;
      });
    });
    for (let i = 0; i < count; i += 2) timers[i]?.cancel();
    expect(await ring.drain()).toBe(count);
    expect(ends.every((times) => times === 1)).toBe(true);
    expect(cancelled.every((flag, i) => flag === (i % 2 === 0 ? 1 : 0))).toBe(true);
    expect(ring.stats().sqes - before.sqes).toBeLessThanOrEqual(2 * 220 + 10);
  });

  test("starting, moving on and cancelling them submits next to nothing", async () => {
    await using ring = new Ring();
    const far = ring.timeout(60_000);
    ring.poll();
    const { sqes } = ring.stats();
    for (let i = 0; i < 1000; i++) {
      const timer = ring.timeout(60_000 + i);
      ring.poll();
      timer.cancel();
      ring.poll();
    }
    expect(ring.stats().sqes - sqes).toBe(0);
    far.cancel();
    await ring.drain();
  });
});

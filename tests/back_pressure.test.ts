// When a ring is full: EAGAIN while the kernel can take no more, ENOMEM without a free slot.
//
// Only a turn takes completions out of their queue, and none runs within a callback: what is
// started there fills the completion queue, then the submission queue, then the library's own.

import { describe, expect, test } from "bun:test";
import { statSync } from "node:fs";
import { prepare, Ring, type FeatureName, type Operation } from "../ts/index.ts";
import { file, rejected, thrown } from "./support/operations.ts";
import { patience } from "./support/patience.ts";
import { turns } from "./support/until.ts";

const ENTRIES = 4;
const COMPLETIONS = 4096;

/** A ring that is full: calls `then` in the callback that has filled it. */
async function fill(then: (ring: Ring, started: Operation[], error: Error) => void) {
  await using ring = new Ring({ entries: ENTRIES, completionEntries: COMPLETIONS });
  const settled: number[] = [];
  let started: Operation[] = [];
  ring.nop(() => {
    started = Array.from({ length: COMPLETIONS }, () => ring.nop((result) => settled.push(result)));
    const refused = thrown(() => {
      for (;;) started.push(ring.nop((result) => settled.push(result)));
    });
    then(ring, started, refused);
  });
  await ring.drain();
  expect(await ring.nop()).toBe(0);
  return { started: started.length, settled, stats: ring.stats() };
}

describe("with four entries", () => {
  test("a full ring refuses with EAGAIN, and goes on when completions were taken", async () => {
    const seen: unknown[] = [];
    const { started, settled, stats } = await fill((ring, _started, error) => {
      seen.push(error);
      const { submission, completion } = ring.inspect();
      seen.push(submission, completion.queued);
      expect(thrown(() => ring.read(0, new Uint8Array(1))).code).toBe("EAGAIN");
    });
    const [error, submission, completions] = seen;
    expect(error).toMatchObject({ code: "EAGAIN", phase: "submission", operation: "nop" });
    expect((error as Error).message).toContain("wait for completions");
    // Every queue is full, the completions' but for what could not all have gone there.
    expect(submission).toEqual({ entries: ENTRIES, queued: ENTRIES, waiting: 4 * ENTRIES });
    expect(completions).toBeGreaterThan(COMPLETIONS - ENTRIES);
    expect(completions).toBeLessThanOrEqual(COMPLETIONS);
    expect(started).toBe(Number(completions) + ENTRIES + 4 * ENTRIES);
    expect(settled).toEqual(Array.from({ length: started }, () => 0));
    // What the next turn hands over comes on top: a queue's worth, once.
    expect(stats.cqes_overflowed).toBeLessThanOrEqual(1);
  });

  test("a full ring still cancels: what waits never runs", async () => {
    const { started, settled } = await fill((_ring, operations) => {
      expect(operations.at(-1)?.cancel()).toBe(true);
    });
    const cancelled = settled.filter((result) => result === -125);
    expect([cancelled.length, settled.length]).toEqual([1, started]);
  });

  test("a full ring hands an owned buffer back, and refuses a batch whole", async () => {
    await fill((ring) => {
      const error = thrown(() => ring.read(0, new ArrayBuffer(24)));
      expect([error.code, (error.buffer as ArrayBuffer).byteLength]).toEqual(["EAGAIN", 24]);
      const pending = ring.pendingCount;
      const two = () => ring.batch([prepare.nop(), prepare.nop()]);
      expect([thrown(two).code, ring.pendingCount]).toEqual(["EAGAIN", pending]);
    });
  });

  test("a full slot table refuses with ENOMEM, and slots come back", async () => {
    await using ring = new Ring({ entries: ENTRIES, operations: 4 });
    const four = Array.from({ length: 4 }, () => ring.timeout(60_000));
    expect(thrown(() => ring.nop())).toMatchObject({
      code: "ENOMEM", phase: "submission", operation: "nop",
    });
    for (const operation of four) operation.cancel();
    await Promise.allSettled(four);
    await turns(1);
    expect(await ring.nop()).toBe(0);
  });

  test("completions beyond their queue come all the same, and that is counted", async () => {
    // A deferring ring would make them only as it is asked for them.
    const disable: FeatureName[] = ["defer_taskrun"];
    await using ring = new Ring({ completionEntries: COMPLETIONS, disable });
    const count = COMPLETIONS + 1000;
    let settled = 0;
    const waitMs = 300 * patience; // longer than it takes to submit them
    // Members of batches are time-outs of the kernel's, with a completion each.
    for (let i = 0; i < count; i += 250) {
      const length = Math.min(250, count - i);
      const members = Array.from({ length }, () => prepare.timeout(waitMs));
      for (const { operations } of [ring.batch(members)]) {
        for (const operation of operations) void operation.then(() => settled++);
      }
    }
    ring.submit();
    const end = performance.now() + waitMs + 50;
    while (performance.now() < end) statSync("/"); // the kernel is entered, the ring is not
    expect(await ring.drain()).toBe(count);
    expect(settled).toBe(count);
    expect(ring.stats().cqes_overflowed).toBeGreaterThan(0);
  });

  test("many operations at once go through, a queue's worth at a time", async () => {
    await using ring = new Ring({ entries: ENTRIES });
    using own = file("0123456789");
    const reads = Array.from({ length: 500 }, (_, i) => {
      return ring.read(own.fd, new Uint8Array(1), { at: i % 10 });
    });
    const bytes = await Promise.all(reads);
    expect(bytes.map(({ buffer }) => buffer[0])).toEqual(
      Array.from({ length: 500 }, (_, i) => 48 + (i % 10)),
    );
    expect((await rejected(ring.fsync(9999))).code).toBe("EBADF");
  });
});

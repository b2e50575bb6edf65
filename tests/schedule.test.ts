// schedule(): a NOP to continue after. It resolves in the turn that reaps it; one that is cancelled
// never does, whatever the kernel has done by then.

import { describe, expect, test } from "bun:test";
import { Ring } from "../ts/index.ts";
import { rejected, thrown } from "./support/operations.ts";

test("it resolves in the turn that reaps it, with nothing, before the next turn", async () => {
  await using ring = new Ring();
  const order: string[] = [];
  const scheduled = ring.schedule();
  void (async () => {
    order.push(`resolved with ${String(await scheduled)}`);
    ring.nop(() => order.push("a turn later"));
  })();
  expect(scheduled.pending).toBeTrue();
  expect(ring.poll()).toBe(1);
  expect([scheduled.pending, ...order]).toEqual([false, "resolved with undefined"]);
  expect(ring.drainSync()).toBe(1);
  expect(order.at(-1)).toBe("a turn later");
});

test("it counts as a completion, and what waits for an empty ring waits for it", async () => {
  await using ring = new Ring();
  ring.schedule();
  expect([ring.pendingCount, ring.waitSync()]).toEqual([1, 1]);
  ring.schedule();
  expect(await ring.wait()).toBe(1);
  let left = 10;
  const again = (): void => {
    if (left-- > 0) ring.schedule().then(again);
  };
  again();
  expect(await ring.runUntilEmpty()).toBe(10);
});

test("many at once resolve in their order", async () => {
  await using ring = new Ring();
  const order: number[] = [];
  const all = Array.from({ length: 5000 }, (_, i) => ring.schedule().then(() => order.push(i)));
  await Promise.all(all);
  expect(order).toEqual(Array.from({ length: 5000 }, (_, i) => i));
});

test("it goes through the ring", async () => {
  await using ring = new Ring();
  const before = ring.operationCount("nop").ring;
  await ring.schedule();
  expect(ring.operationCount("nop").ring).toBe(before + 1);
});

describe("a stop", () => {
  test("leaves it pending, for the next turn", async () => {
    await using ring = new Ring();
    let scheduled: ReturnType<Ring["schedule"]> | undefined;
    ring.nop(() => {
      scheduled = ring.schedule();
      ring.stop();
    });
    expect(ring.runUntilEmptySync()).toBe(1);
    expect(scheduled?.pending).toBeTrue();
    let resolved = 0;
    scheduled?.then(() => resolved++);
    expect([ring.poll(), resolved]).toEqual([1, 1]);
  });

  test("that came before takes effect after what is ready", async () => {
    await using ring = new Ring();
    ring.stop();
    const scheduled = ring.schedule();
    expect(await ring.run()).toBe(1);
    expect(scheduled.pending).toBeFalse();
    await scheduled;
  });
});

describe("one that is cancelled never resolves:", () => {
  test("before it is submitted", async () => {
    await using ring = new Ring();
    const scheduled = ring.schedule();
    expect([scheduled.cancel(), scheduled.cancel()]).toEqual([true, false]);
    const error = await rejected(scheduled);
    expect([error.name, error.code, error.operation]).toEqual([
      "AbortError", "ECANCELED", "schedule",
    ]);
  });

  test("when the kernel has done it already", async () => {
    await using ring = new Ring();
    const scheduled = ring.schedule();
    const witness = ring.nop();
    ring.submit(); // both complete at once, and wait to be reaped
    expect([scheduled.cancel(), witness.cancel()]).toEqual([true, true]);
    expect((await rejected(scheduled)).code).toBe("ECANCELED");
    expect(await witness).toBe(0); // of any other operation success wins
  });

  test("by the end of the ring", async () => {
    const ring = new Ring();
    const scheduled = ring.schedule();
    ring.submit();
    const closing = ring.close({ cancel: true });
    expect((await rejected(scheduled)).code).toBe("ECANCELED");
    await closing;
    expect(thrown(() => ring.schedule()).code).toBe("ESHUTDOWN");
  });

  test("by an end that tells of it", async () => {
    const ring = new Ring();
    const scheduled = ring.schedule();
    const closing = ring.close();
    expect((await rejected(scheduled)).code).toBe("ECANCELED");
    expect((await rejected(closing)).message).toMatch(/schedule, 0\.\d s/);
  });

  test("by its signal, also one that is aborted before", async () => {
    await using ring = new Ring();
    const controller = new AbortController();
    const scheduled = ring.schedule({ signal: controller.signal });
    controller.abort(new Error("enough"));
    const late = ring.schedule({ signal: controller.signal });
    for (const operation of [scheduled, late]) {
      const error = await rejected(operation);
      expect([error.code, (error.cause as Error).message]).toEqual(["ECANCELED", "enough"]);
    }
    expect([late.pending, ring.pendingCount]).toEqual([false, 0]);
  });

  test("by its kind", async () => {
    await using ring = new Ring();
    const scheduled = ring.schedule();
    const nop = ring.nop();
    expect(ring.cancelAll({ kind: "schedule" })).toBe(1);
    expect((await rejected(scheduled)).code).toBe("ECANCELED");
    expect(await nop).toBe(0);
  });

  test("after it has resolved there is nothing to cancel", async () => {
    await using ring = new Ring();
    const scheduled = ring.schedule();
    await scheduled;
    expect([scheduled.cancel(), await scheduled]).toEqual([false, undefined]);
  });
});

test("options that are none are refused", async () => {
  await using ring = new Ring();
  for (const options of [null, 1, "signal", { signal: {} }]) {
    expect(thrown(() => ring.schedule(options as never)).code).toBe("EINVAL");
  }
  expect(ring.pendingCount).toBe(0);
});

// The end of a process or a thread with reads pending on a pipe, a socket and a timer.
//
// In processes of their own: exit code, descriptors and mappings say whether anything was left. And
// the end of a ring whose time is too short for what it holds.

import { expect, setDefaultTimeout, test } from "bun:test";
import { BufferPool, type PooledBuffer, Ring } from "../ts/index.ts";
import { answer, program, run } from "./support/child.ts";
import { pipe, rejected } from "./support/operations.ts";
import { patience } from "./support/patience.ts";

setDefaultTimeout(60_000 * patience);

const teardown = program("teardown");

test.each(["close", "cancel"])("%s leaves nothing behind, within its time", async (how) => {
  const outcome = await answer(teardown, { arguments: [how] });
  expect(outcome).toEqual({ left: 0, inTime: true, kept: "EINVAL" });
});

test("exit keeps its exit code and says nothing", async () => {
  const { code, stdout, stderr } = await run(teardown, { arguments: ["exit"] });
  expect([code, stdout, stderr]).toEqual([7, "", ""]);
});

test.each(["terminate", "throw", "leave"])("a Worker's end by %s takes its ring", async (how) => {
  expect(await answer<unknown>(teardown, { arguments: [how] })).toEqual({ gone: true });
});

test("what the kernel has not given back in time is told, and its memory is nobody's", async () => {
  const logged: string[] = [];
  const ring = new Ring({ onLog: (message) => logged.push(message) });
  using empty = pipe();
  const owned = ring.read(empty.fd, new ArrayBuffer(4096));
  const pooled = new BufferPool({ ring, size: 64, count: 1 }).acquire();
  const reads = [owned, ring.read(empty.fd, pooled as PooledBuffer), ring.timeout(60_000)];
  ring.submit();
  // A kernel that takes its time: nobody asks it any more.
  ring.loop.hold();
  Object.assign(ring, { turnNow: () => 0 });
  await ring.close({ cancel: true, timeout: 0 });
  expect(logged).toHaveLength(1);
  const read = `read on fd ${empty.fd}, \\d\\.\\d s`;
  expect(logged[0]).toMatch(new RegExp(`still holds 3 .*kept: ${read}; ${read}; timeout, \\d`));
  for (const operation of reads) expect((await rejected(operation)).code).toBe("ECANCELED");
  // The kernel may still write to it.
  expect((await rejected(owned)).buffer).toBeUndefined();
  expect([ring.closed, ring.pendingCount]).toEqual([true, 0]);
});

test("ten thousand timers end within the time that close has by default", async () => {
  const logged: string[] = [];
  const closeTimeout = 1000 * patience; // the default, where nothing is slow
  const ring = new Ring({ closeTimeout, onLog: (message) => logged.push(message) });
  const results = new Set<number>();
  for (let i = 0; i < 10_000; i++) ring.timeout(60_000 + i, (result) => results.add(result));
  ring.submit();
  await ring.close({ cancel: true });
  expect([[...results], logged]).toEqual([[-125], []]);
});

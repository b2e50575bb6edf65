// The end of a process or a thread with reads pending on a pipe, a socket and a timer.
//
// In processes of their own: exit code, descriptors and mappings say whether anything was left.

import { expect, setDefaultTimeout, test } from "bun:test";
import { answer, program, run } from "./support/child.ts";

setDefaultTimeout(60_000);

const teardown = program("teardown");

test.each(["close", "cancel"])("%s leaves nothing behind, within its time", async (how) => {
  const outcome = await answer(teardown, { arguments: [how] });
  expect(outcome).toEqual({ left: 0, inTime: true, kept: "EINVAL" });
});

test("exit keeps its exit code and says nothing", async () => {
  const { code, stdout, stderr } = await run(teardown, { arguments: ["exit"] });
  expect([code, stdout, stderr]).toEqual([7, "", ""]);
});

test("a Worker that is terminated takes its ring along", async () => {
  expect(await answer<unknown>(teardown, { arguments: ["terminate"] })).toEqual({ gone: true });
});

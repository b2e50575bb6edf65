// What keeps a process alive and what does not: open things do, closed and unref'ed ones do not.
// Every case is a process of its own, which has to end by itself, or to stay until it is told.

import { describe, expect, test } from "bun:test";
import { exchange, program, run, start } from "./support/child.ts";

describe("a process ends by itself", () => {
  test.each(["nothing", "closed", "unref", "unref at once"])("with %s", async (name) => {
    const { code, stdout, stderr } = await run(program("alive"), { arguments: [name] });
    expect([code, stdout, stderr]).toEqual([0, "exit\n", ""]);
  });

  test("after unref'ed things have served as long as something else held it", async () => {
    const options = { arguments: ["unref and a timer"] };
    const { code, stdout, stderr } = await run(program("alive"), options);
    expect([code, stdout, stderr]).toEqual([0, "served\nexit\n", ""]);
  });

  test("when a connect was under way and is settled", async () => {
    const { code, stdout, stderr } = await run(program("alive"), { arguments: ["connecting"] });
    expect([code, stdout, stderr]).toEqual([0, "connected\nexit\n", ""]);
  });
});

describe("a process stays until its listener is stopped", () => {
  test.each(["serving", "ref again at once", "ref again while it rests"])(
    "%s",
    async (name) => {
      await using child = start(program("alive"), { arguments: [name] });
      const reader = child.stdout.getReader();
      const { value } = await reader.read();
      const port = Number.parseInt(Buffer.from(value ?? []).toString(), 10);
      expect(port).toBeGreaterThan(0);
      // One after the other: a process that is about to end has time to.
      for (let i = 0; i < 50; i++) expect(await exchange(port, `echo ${i}`)).toBe(`echo ${i}`);
      expect(await exchange(port, "quit")).toBe("");
      expect(await child.exited).toBe(0);
      expect(await child.stderr.text()).toBe("");
    },
  );
});

test("a process ends by itself with its ring closed", async () => {
  const { code, stdout, stderr } = await run(program("alive"), { arguments: ["ring closed"] });
  expect([code, stdout, stderr]).toEqual([0, "exit\n", ""]);
});

test("a process stays when its listener is ref'ed again while the loop spins", async () => {
  await using child = start(program("alive"), { arguments: ["ref again while it spins"] });
  const { value } = await child.stdout.getReader().read();
  const port = Number.parseInt(Buffer.from(value ?? []).toString(), 10);
  for (let i = 0; i < 50; i++) expect(await exchange(port, `echo ${i}`)).toBe(`echo ${i}`);
  expect(await exchange(port, "quit")).toBe("");
  expect(await child.exited).toBe(0);
});

/** Who is left with something open that is ref'ed stays: 3; the others end by themselves: 0. */
describe("what is pending on a ring holds the process until it is unref'ed", () => {
  test.each<[steps: string[], code: number, prints: string]>([
    [["timer"], 3, ""],
    [["timer unref"], 0, ""],
    [["timer unref ref"], 3, ""],
    [["timer", "cancel"], 0, ""],
    [["timer soon"], 0, "timer\n"],
    [["timer soon unref"], 0, ""],
    [["timer soon unref", "bun timer"], 0, "timer\n"],
    [["interval"], 3, ""],
    [["interval unref"], 0, ""],
    [["interval unref ref"], 3, ""],
    [["poll"], 3, ""],
    [["poll unref"], 0, ""],
    [["timer", "timer unref"], 3, ""],
    [["timer", "listener", "interval", "ring unref"], 0, ""],
    [["ring unref", "listener"], 0, ""],
    [["ring unref", "timer", "ring ref"], 3, ""],
    [["ring unref", "timer soon", "bun timer"], 0, "timer\n"],
  ])("%p", async (steps, code, prints) => {
    const { code: ended, stdout, stderr } = await run(program("held"), { arguments: steps });
    expect([ended, stdout, stderr]).toEqual([code, prints, ""]);
  });
});

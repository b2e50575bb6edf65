// The long runs as their users call them: what is no number, or none that makes sense, is said in
// one line before anything is built.

import { expect, test } from "bun:test";
import { fileURLToPath } from "node:url";

const WRONG: [string, string[], string][] = [
  ["soak", ["x"], "operations: expected a whole number from 1 to 1000000000, got 'x'"],
  ["soak", ["workers", "-3"], "workers: expected a whole number from 1 to 1000000000, got '-3'"],
  ["soak", ["cycles", "1e5"], "cycles: expected a whole number from 1 to 1000000000, got '1e5'"],
  ["fuzz", ["--help"], "seconds: expected a whole number from 1 to 86400, got '--help'"],
  ["fuzz", ["1", "-1"], "seed: expected a whole number from 0 to 4294967295, got '-1'"],
];

test.each(WRONG)("%s %p says what is wrong", async (task, words, message) => {
  const path = fileURLToPath(new URL(`../.tasks/${task}.mjs`, import.meta.url));
  const child = Bun.spawn([process.execPath, path, ...words], { stdout: "pipe", stderr: "pipe" });
  const output = await Promise.all([child.stdout.text(), child.stderr.text(), child.exited]);
  expect(output).toEqual(["", `${message}\n`, 1]);
});

// Public calls at random, in child processes: they may throw; they never crash, hang or leave
// anything behind, and what they throw is the library's own error.
//
// A failure prints the seed and the last calls. `npm run fuzz` makes more of them.

import { describe, expect, setDefaultTimeout, test } from "bun:test";
import { fuzz } from "./support/fuzz.ts";
import { patience } from "./support/patience.ts";

setDefaultTimeout(60_000 * patience);

/** Calls of each process in `npm test`. */
const CALLS = 1500;
const given = process.env["TEST_SEED"];
const seeds = given === undefined
  ? [1, 2, ...crypto.getRandomValues(new Uint32Array(2))]
  : [Number(given)];

describe("calls at random", () => {
  test.each(seeds)("with the seed %d", async (seed) => {
    const report = await fuzz(seed, CALLS);
    expect(report.slips).toEqual([]);
    expect(report.calls).toBeGreaterThan(CALLS / 2);
    // Neither nothing but refusals nor nothing refused: both would say that little was tried.
    expect(report.threw).toBeGreaterThan(CALLS / 50);
    expect(report.returned).toBeGreaterThan(CALLS / 5);
  });
});

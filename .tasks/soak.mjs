// `npm run soak`: ten million operations, or as many as the argument says, and memory stays flat.
// `npm run soak -- workers`: a thousand Workers, or so many, are terminated in mid-traffic, and
// nothing of them is left. `npm run soak -- cycles`: a million connections, or so many, are opened,
// used and closed, and memory stays flat. Builds first what is missing.

import { build } from "./build.mjs";
import { bun, foreground, main, wholeNumber } from "./tools.mjs";

const SOAKS = {
  operations: {
    count: "10000000",
    variable: "BUN_URING_SOAK",
    tests: ["tests/soak.test.ts"],
  },
  workers: {
    count: "1000",
    variable: "BUN_URING_TERMINATIONS",
    tests: ["tests/termination.test.ts", "-t", "mid-traffic"],
  },
  cycles: {
    count: "1000000",
    variable: "BUN_URING_CYCLES",
    tests: ["tests/resources.test.ts", "-t", "no slot and no memory"],
  },
};

await main(async () => {
  const given = process.argv.slice(2);
  const name = Object.hasOwn(SOAKS, given[0] ?? "") ? given.shift() : "operations";
  const { count, variable, tests } = SOAKS[name];
  process.env[variable] = wholeNumber(name, given[0] ?? count, 1, 1_000_000_000);
  await build();
  await foreground([bun, "test", ...tests]);
});

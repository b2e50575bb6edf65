// `npm run soak`: ten million operations, or as many as the argument says, and memory stays flat.
// `npm run soak -- workers`: a thousand Workers, or so many, are terminated in mid-traffic, and
// nothing of them is left. `npm run soak -- cycles`: a million connections, or so many, are opened,
// used and closed, and memory stays flat. Builds first what is missing.

import { build } from "./build.mjs";
import { bun, foreground, main } from "./tools.mjs";

await main(async () => {
  await build();
  const [what, count] = process.argv.slice(2);
  if (what === "workers") {
    process.env.BUN_URING_TERMINATIONS = count ?? "1000";
    await foreground([bun, "test", "tests/termination.test.ts", "-t", "mid-traffic"]);
  } else if (what === "cycles") {
    process.env.BUN_URING_CYCLES = count ?? "1000000";
    await foreground([bun, "test", "tests/resources.test.ts", "-t", "no slot and no memory"]);
  } else {
    process.env.BUN_URING_SOAK = what ?? "10000000";
    await foreground([bun, "test", "tests/soak.test.ts"]);
  }
});

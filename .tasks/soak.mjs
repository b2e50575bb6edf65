// `npm run soak`: ten million operations, or as many as the argument says, and memory stays flat.
// Builds first what is missing.

import { build } from "./build.mjs";
import { bun, foreground, main } from "./tools.mjs";

await main(async () => {
  await build();
  process.env.BUN_URING_SOAK = process.argv[2] ?? "10000000";
  await foreground([bun, "test", "tests/soak.test.ts"]);
});

// `npm run fuzz`: random public calls in one child process after the other, for a minute or as many
// seconds as the first argument says, from the seed in the second. Builds first what is missing.

import { build } from "./build.mjs";
import { bun, foreground, main } from "./tools.mjs";

await main(async () => {
  await build();
  await foreground([bun, "tests/support/programs/fuzz_long.ts", ...process.argv.slice(2)]);
});

// `npm run fuzz`: random public calls in one child process after the other, for a minute or as many
// seconds as the first argument says, from the seed in the second. Builds first what is missing.

import { build } from "./build.mjs";
import { bun, foreground, main, wholeNumber } from "./tools.mjs";

await main(async () => {
  const [seconds, seed] = process.argv.slice(2);
  if (seconds !== undefined) wholeNumber("seconds", seconds, 1, 86_400);
  if (seed !== undefined) wholeNumber("seed", seed, 0, 2 ** 32 - 1);
  await build();
  await foreground([bun, "tests/support/programs/fuzz_long.ts", ...process.argv.slice(2)]);
});

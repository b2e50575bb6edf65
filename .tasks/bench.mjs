// `npm run bench`: the benchmarks, with the remaining arguments. Installs and builds first what is
// missing.

import { build } from "./build.mjs";
import { bun, foreground, main } from "./tools.mjs";

await main(async () => {
  await build();
  await foreground([bun, "bench/run.ts", ...process.argv.slice(2)]);
});

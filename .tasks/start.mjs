// `npm start`: the echo server, with the remaining arguments. Installs and builds first what is
// missing.

import { build } from "./build.mjs";
import { bun, foreground, main } from "./tools.mjs";

await main(async () => {
  await build();
  await foreground([bun, "examples/echo-server.ts", ...process.argv.slice(2)]);
});

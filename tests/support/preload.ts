// Runs before the first test file. In a tree without its library a suite of failures would say less
// than one line, so it ends here; otherwise it sets the time that one test may take, and has every
// file give back what it took.

import { existsSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { afterAll, setDefaultTimeout } from "bun:test";
import { removeFolder } from "./folder.ts";

if (!existsSync(new URL("../../zig-out/lib/libbun_uring.so", import.meta.url))) {
  console.error("The library is not built: run `npm run build` first.");
  process.exit(1);
}

// Generous: the machine may be busy. A test awaits conditions, so a passing one never waits for it.
setDefaultTimeout(30_000);

afterAll(removeFolder);

// A hook of this file would run once, after the last file: each gets one of its own. It goes to the
// end of the file's last line, so that all lines keep their numbers.
const ledger = JSON.stringify(fileURLToPath(new URL("ledger.ts", import.meta.url)));

Bun.plugin({
  name: "ledger",
  setup(build) {
    build.onLoad({ filter: /\/tests\/\w+\.test\.ts$/ }, async ({ path }) => {
      const text = await Bun.file(path).text();
      const contents = `${text.trimEnd()} (await import(${ledger})).keepLedger();\n`;
      return { contents, loader: "ts" };
    });
  },
});

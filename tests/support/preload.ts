// Runs before the first test file. In a tree without its library a suite of failures would say less
// than one line, so it ends here. Otherwise each file gets the time that one test of it may take,
// and has to give back what it took.

import { existsSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { afterAll } from "bun:test";
import { removeFolder } from "./folder.ts";
import { patience } from "./patience.ts";

if (!existsSync(new URL("../../zig-out/lib/libbun_uring.so", import.meta.url))) {
  console.error("The library is not built: run `npm run build` first.");
  process.exit(1);
}

afterAll(removeFolder);

// Generous: the machine may be busy. A test awaits conditions, so a passing one never waits for it.
const LIMIT_MS = 30_000 * patience;

// A hook of this file would run once, after the last test file, and a limit would hold for the
// first: each gets its own. They go onto its first and last lines, so that all lines keep their
// numbers.
const ledger = JSON.stringify(fileURLToPath(new URL("ledger.ts", import.meta.url)));

Bun.plugin({
  name: "limit and ledger",
  setup(build) {
    build.onLoad({ filter: /\/tests\/\w+\.test\.ts$/ }, async ({ path }) => {
      const text = await Bun.file(path).text();
      const limit = `(await import("bun:test")).setDefaultTimeout(${LIMIT_MS});`;
      const contents = `${limit} ${text.trimEnd()} (await import(${ledger})).keepLedger();\n`;
      return { contents, loader: "ts" };
    });
  },
});

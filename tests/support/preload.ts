// Runs before every test file. In a tree without its library a suite of failures would say less
// than one line, so it ends here; otherwise it sets the time that one test may take.

import { existsSync } from "node:fs";
import { afterAll, setDefaultTimeout } from "bun:test";
import { removeFolder } from "./folder.ts";

if (!existsSync(new URL("../../zig-out/lib/libbun_uring.so", import.meta.url))) {
  console.error("The library is not built: run `npm run build` first.");
  process.exit(1);
}

// Generous: the machine may be busy. A test awaits conditions, so a passing one never waits for it.
setDefaultTimeout(30_000);

afterAll(removeFolder);

// `npm test`: every check of the tree, one part after the other, also after a failing one. The last
// line is the sum over all parts, `N passed, N failed`. With arguments (`npm test -- connect`) only
// `bun test` runs, with these arguments. It runs twice: on the kernel interface that the machine
// has, or that BUN_URING_BACKEND names, and on the epoll twin.

import { build } from "./build.mjs";
import { bunTest, checked, plain, ringTests, runParts } from "./suite.mjs";
import { run, tsc, zig } from "./tools.mjs";

const arguments_ = process.argv.slice(2);
const FORMATTED = ["zig", "build.zig"];

const PARTS = {
  build: async () => {
    await build();
    return { passed: 1, failed: 0 };
  },
  "zig unit tests": async () => countsOfZig(await run([...zig(), "build", "test"])),
  "zig format": async () => countOfOne(await run([...zig(), "fmt", "--check", ...FORMATTED])),
  // CI makes a stale file an error instead of rewriting it.
  "generated boundary": async () =>
    countOfOne(await run([...zig(), "build", "abi"], { env: { CI: "1" } })),
  types: async () => countOfOne(await run([process.execPath, tsc, "--project", "."])),
  "bun test": () => bunTest(arguments_),
  "bun test, epoll": () =>
    bunTest(arguments_.length > 0 ? arguments_ : ringTests(), { BUN_URING_BACKEND: "epoll" }),
};

/** A check without parts of its own. */
function countOfOne({ code }) {
  return code === 0 ? { passed: 1, failed: 0 } : { passed: 0, failed: 1 };
}

/** `zig: N passed, N failed`; without it the tests did not compile, or died. */
function countsOfZig({ code, output }) {
  const line = [...plain(output).matchAll(/^zig: (\d+) passed, (\d+) failed$/gm)].at(-1);
  return checked(code, Number(line?.[1] ?? 0), Number(line?.[2] ?? 0));
}

const BUN_PARTS = ["build", "bun test", "bun test, epoll"];
await runParts(PARTS, arguments_.length > 0 ? BUN_PARTS : undefined);

// `npm test`: every check of the tree, one part after the other, also after a failing one. The last
// line is the sum over all parts, `N passed, N failed`. With arguments (`npm test -- connect`) only
// `bun test` runs, with these arguments. It runs twice: on the kernel interface that the machine
// has, or that BUN_URING_BACKEND names, and on the epoll twin.

import { readdirSync } from "node:fs";
import { build } from "./build.mjs";
import { bun, inTree, run, TaskError, tsc, zig } from "./tools.mjs";

const arguments_ = process.argv.slice(2);
const FORMATTED = ["zig", "build.zig"];

/** Each gives `{ passed, failed }`; a part that gives nothing, or 0 and 0, has failed. */
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

async function bunTest(filters, env = {}) {
  return countsOfBun(await run([bun, "test", "--timeout=30000", ...filters], { env }));
}

/** About the tree and its texts: the same on every kernel. */
const WITHOUT_RING = /^(?:abi|backend|documents|package|parity_table|tidy|types)\.test\.ts$/;

function ringTests() {
  const files = readdirSync(inTree("tests")).filter((name) => name.endsWith(".test.ts"));
  return files.filter((name) => !WITHOUT_RING.test(name)).map((name) => `./tests/${name}`);
}

/** A check without parts of its own. */
function countOfOne({ code }) {
  return code === 0 ? { passed: 1, failed: 0 } : { passed: 0, failed: 1 };
}

/** `zig: N passed, N failed`; without it the tests did not compile, or died. */
function countsOfZig({ code, output }) {
  const line = [...plain(output).matchAll(/^zig: (\d+) passed, (\d+) failed$/gm)].at(-1);
  return checked(code, Number(line?.[1] ?? 0), Number(line?.[2] ?? 0));
}

/** ` N pass` and ` N fail`, each on its own line; an error outside of a test is a fail too. */
function countsOfBun({ code, output }) {
  const count = (word) => {
    const line = [...plain(output).matchAll(new RegExp(`^ *(\\d+) ${word}$`, "gm"))].at(-1);
    return Number(line?.[1] ?? 0);
  };
  return checked(code, count("pass"), count("fail"));
}

/** A non-zero exit code is a failure even where no test is counted as failed. */
function checked(code, passed, failed) {
  return { passed, failed: code !== 0 && failed === 0 ? 1 : failed };
}

function plain(output) {
  return output.replace(/\x1b\[[0-9;]*m/g, "");
}

async function runPart(name, part) {
  console.log(`\n== ${name}`);
  const started = performance.now();
  let counts = { passed: 0, failed: 0 };
  try {
    counts = await part();
  } catch (error) {
    console.error(error instanceof TaskError ? error.message : error);
    counts.failed = 1;
  }
  if (counts.passed + counts.failed === 0) {
    console.error(`${name}: nothing ran`);
    counts.failed = 1;
  }
  const seconds = ((performance.now() - started) / 1000).toFixed(1);
  return { name, ...counts, seconds };
}

const BUN_PARTS = ["build", "bun test", "bun test, epoll"];
const names = arguments_.length > 0 ? BUN_PARTS : Object.keys(PARTS);
const results = [];
for (const name of names) results.push(await runPart(name, PARTS[name]));

console.log();
for (const { name, passed, failed, seconds } of results) {
  console.log(`${name.padEnd(20)} ${passed} passed, ${failed} failed in ${seconds} s`);
}
const sum = (key) => results.reduce((total, result) => total + result[key], 0);
console.log(`${sum("passed")} passed, ${sum("failed")} failed`);
process.exitCode = sum("failed") > 0 ? 1 : 0;

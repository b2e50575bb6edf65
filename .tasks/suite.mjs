// `bun test` over the tree's suite, and what it says of itself: shared by the tasks that run it on
// one kernel interface after the other.

import { readdirSync } from "node:fs";
import { bun, inTree, run, TaskError } from "./tools.mjs";

/** With filters the test files that match one, else all; gives `{ passed, failed }`. */
export async function bunTest(filters, env = {}) {
  return countsOfBun(await run([bun, "test", "--timeout=30000", ...filters], { env }));
}

/** About the tree and its texts: the same on every kernel. */
const WITHOUT_RING =
  /^(?:abi|backend|documents|package|parity_table|refusals|tidy|types)\.test\.ts$/;

export function ringTests() {
  const files = readdirSync(inTree("tests")).filter((name) => name.endsWith(".test.ts"));
  return files.filter((name) => !WITHOUT_RING.test(name)).map((name) => `./tests/${name}`);
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
export function checked(code, passed, failed) {
  return { passed, failed: code !== 0 && failed === 0 ? 1 : failed };
}

export function plain(output) {
  return output.replace(/\x1b\[[0-9;]*m/g, "");
}

/** Runs named parts one after the other, also after a failing one; the last line is the sum. */
export async function runParts(parts, names = Object.keys(parts)) {
  const results = [];
  for (const name of names) results.push(await runPart(name, parts[name]));
  console.log();
  for (const { name, passed, failed, seconds } of results) {
    console.log(`${name.padEnd(20)} ${passed} passed, ${failed} failed in ${seconds} s`);
  }
  const sum = (key) => results.reduce((total, result) => total + result[key], 0);
  console.log(`${sum("passed")} passed, ${sum("failed")} failed`);
  process.exitCode = sum("failed") > 0 ? 1 : 0;
}

/** A part gives `{ passed, failed }`; one that gives nothing, or 0 and 0, has failed. */
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

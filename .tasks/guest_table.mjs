// What emulated machines have said (`npm run test:kernels`), as one table: kernel × feature ×
// result, and which share of the suite that was.

import { readFileSync } from "node:fs";
import { inTree } from "./tools.mjs";

/** It did not come up, or one part did not do what it should. */
export function isBad({ kernel, results }) {
  return kernel === "" || Object.values(results).some(({ code }) => code !== 0);
}

/**
 * Markdown, a column for each machine `{ release, kernel, features, results }`, results by the
 * names of their parts; the share is that of `tests`, all that the suite has.
 */
export function tableOf(machines, tests) {
  const row = (name, told) => `| ${[name, ...machines.map(told)].join(" | ")} |`;
  const parts = new Set(machines.flatMap(({ results }) => Object.keys(results)));
  parts.delete("features");
  return [
    row("", ({ kernel, release }) => kernel || `${release}: did not boot`),
    row("---", () => "---"),
    ...featureNames().map((name) => {
      return row(name, ({ features }) => (features.includes(name) ? "yes" : "no"));
    }),
    ...[...parts].sort().map((name) => row(name, ({ results }) => outcomeOf(results[name]))),
    row("suite, in all", ({ results }) => outcomeOf(sumOf(results))),
    row(`of the suite's ${tests} tests`, ({ results }) => {
      const { passed, failed } = sumOf(results);
      return `${((100 * (passed + failed)) / tests).toFixed(1)} %`;
    }),
  ].join("\n");
}

/** In the order of `Feature` in the generated boundary. */
function featureNames() {
  const text = readFileSync(inTree("ts/abi.ts"), "utf8");
  const body = /export const Feature = \{([^}]*)\}/.exec(text)[1];
  return [...body.matchAll(/(\w+):/g)].map(([, name]) => name);
}

function outcomeOf(result) {
  if (result === undefined) return "not run";
  const { code, late, passed, failed, skipped, seconds } = result;
  const told = [`${passed} passed`];
  if (failed > 0) told.push(`${failed} failed`);
  if (skipped > 0) told.push(`${skipped} skipped`);
  if (late) told.push("killed");
  else if (code !== 0 && failed === 0) told.push(`ended with ${code}`);
  return `${told.join(", ")}, ${seconds.toFixed(0)} s`;
}

function sumOf(results) {
  const suite = Object.values(results).filter(({ name }) => name.startsWith("suite"));
  const sum = (key) => suite.reduce((total, result) => total + result[key], 0);
  return {
    code: 0,
    late: false,
    passed: sum("passed"),
    failed: sum("failed"),
    skipped: sum("skipped"),
    seconds: sum("seconds"),
  };
}

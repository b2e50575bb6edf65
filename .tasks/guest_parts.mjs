// What an emulated machine runs (`npm run test:kernels`): the parts, and how long each may take;
// and how many tests the suite has in all.

import { spawnSync } from "node:child_process";
import { plain, ringTests } from "./suite.mjs";
import { bun, root, TaskError } from "./tools.mjs";

const SECONDS_OF_FILE = 300;
/** How much longer than on a machine of its own a test may wait there. */
const PATIENCE = "4";

/** Gigabytes, a million posts, processes by the dozen: too much for an emulated machine. */
const LEFT_OUT = [
  "fuzz", "post_threads", "receive", "resources", "serve", "soak", "termination",
];

/** The test files that run in a guest, or those that were asked for, by their short names. */
export function guestFiles(asked) {
  const all = ringTests().map((path) => /(\w+)\.test\.ts$/.exec(path)[1]);
  const known = all.filter((name) => !LEFT_OUT.includes(name));
  const unknown = asked.find((name) => !all.includes(name));
  if (unknown !== undefined) {
    throw new TaskError(`${unknown} is none of the test files of a ring: ${all.join(", ")}.`);
  }
  return asked.length > 0 ? asked : known;
}

/** Each part is a process of its own, so that one that dies or hangs leaves the others. */
export function guestParts(asked) {
  const environment = { BUN_URING_TEST_PATIENCE: PATIENCE };
  const files = guestFiles(asked).map((name) => ({
    name: `suite ${name}`,
    command: ["/bin/bun", "test", `./tests/${name}.test.ts`],
    seconds: SECONDS_OF_FILE,
    env: environment,
  }));
  const features = ["/bin/bun", "tests/support/programs/features.ts"];
  const first = { name: "features", command: features, seconds: 60, env: environment };
  const native = ["kernel.uring", "kernel.epoll"].map((filter) => ({
    name: `native ${filter}`, command: ["/bin/native", filter], seconds: 300, env: {},
  }));
  return [first, ...native, ...files];
}

/** All tests of the suite, run or not: a pattern that fits none has them counted. */
export function testsOfSuite() {
  const nothing = ["test", "--test-name-pattern=(?!)"];
  const { stdout, stderr } = spawnSync(bun, nothing, { cwd: root, encoding: "utf8" });
  const count = /^ *(\d+) filtered out$/m.exec(plain(stdout + stderr))?.[1];
  if (count === undefined) throw new TaskError(`The tests cannot be counted:\n${stderr}`);
  return Number(count);
}

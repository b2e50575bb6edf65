// `npm run test:matrix`: the suite on this machine's io_uring as each of these releases of Linux
// has it; `ts/releases.ts` says what that masks. An argument that is a release runs that one alone,
// all others name test files (`npm run test:matrix -- 6.1 send`).

import { build } from "./build.mjs";
import { bunTest, ringTests, runParts } from "./suite.mjs";

const RELEASES = ["5.19", "6.0", "6.1", "6.6", "6.12"];

const asked = process.argv.slice(2);
const releases = RELEASES.filter((release) => asked.includes(release));
const filters = asked.filter((argument) => !RELEASES.includes(argument));

const parts = {
  build: async () => {
    await build();
    return { passed: 1, failed: 0 };
  },
};
for (const release of releases.length > 0 ? releases : RELEASES) {
  const env = { BUN_URING_BACKEND: "uring", BUN_URING_DISABLE: release };
  parts[`as Linux ${release}`] = () => bunTest(filters.length > 0 ? filters : ringTests(), env);
}
await runParts(parts);

// Random calls for a given time: `npm run fuzz -- SECONDS SEED`. Ends with 1 at the first process
// that crashes, hangs, leaves something behind or throws what is not the library's error.

import { fuzz } from "../fuzz.ts";
import { removeFolder } from "../folder.ts";

const CALLS = 5000;
const [, , seconds = "60", first = String(Date.now() % 2 ** 32)] = process.argv;
const until = performance.now() + Number(seconds) * 1000;
let calls = 0;
let seed = Number(first);
try {
  for (; performance.now() < until; seed++) {
    const report = await fuzz(seed, CALLS, 120_000);
    calls += report.calls;
    if (report.slips.length === 0) continue;
    throw new Error(`repeat with seed ${seed}:\n${report.slips.join("\n")}`);
  }
  console.log(`${calls} calls with the seeds ${first} to ${seed - 1}: no crash, nothing left`);
} catch (error) {
  console.error((error as Error).message);
  process.exitCode = 1;
} finally {
  removeFolder();
}

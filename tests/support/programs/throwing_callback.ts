// A callback that throws: the process is told, the next callback runs. Prints what happened; in
// `bun test` itself an uncaught error would fail the test.

import { Ring } from "../../../ts/index.ts";
import { until } from "../until.ts";

const uncaught: string[] = [];
process.on("uncaughtException", (error) => uncaught.push(String(error)));

await using ring = new Ring();
let later = 0;
ring.nop(() => {
  throw new Error("from a callback");
});
ring.nop(() => later++);
await ring.drain();
await until(() => uncaught.length === 1);
console.log(JSON.stringify({ uncaught, later }));

// A Worker whose handlers throw and reject: what the ring told all the same, and what of it the
// process was told.

import { Ring } from "../../../ts/index.ts";
import { program } from "../child.ts";
import { until } from "../until.ts";

const told: string[] = [];
const caught: string[] = [];
process.on("uncaughtException", (error) => void caught.push(error.message));
process.on("unhandledRejection", (error) => void caught.push((error as Error).message));

const ring = new Ring();
const worker = ring.worker(new URL(`file://${program("worker_jobs")}#counts`), {
  data: 2,
  message(bytes) {
    told.push(Buffer.from(bytes).toString());
    throw new Error("in message");
  },
  async exit({ reason }) {
    told.push(reason);
    throw new Error("in exit");
  },
});
await worker.join();
await until(() => caught.length === 4);
await ring.close();
console.log(JSON.stringify({ told, caught }));

// What a pool does to the life of its process. Arguments: "idle": its Workers have nothing to do;
// "pending": a job is awaited; "forgotten": a job runs and nobody waits for it; "close": the ring
// is closed under one. Each must end by itself; prints what it saw.

import { Ring } from "../../../ts/index.ts";

const ring = new Ring({ offloadWorkers: 1 });
const slowly = (milliseconds: number): number => {
  const end = Date.now() + milliseconds;
  while (Date.now() < end);
  return milliseconds;
};

switch (process.argv[2]) {
  case "idle":
    console.log(await ring.offload(slowly, 1));
    break;
  case "pending":
    void ring.offload(slowly, 200).then((value) => console.log(value));
    break;
  case "forgotten":
    ring.offload(slowly, 50);
    process.on("exit", () => console.log(ring.pendingCount));
    break;
  case "close": {
    const job = ring.offload(slowly, 600_000);
    job.then(undefined, ({ code }: { code: string }) => console.log(code));
    await ring.close({ cancel: true });
    break;
  }
}

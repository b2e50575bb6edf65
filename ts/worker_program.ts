// The program of a Worker that `ring.worker` starts: runs the module's function to its end, and
// tells how it ended: by a post, behind all messages.

import { describeError, tellOfDeath } from "./described_error.ts";
import type { Instruction } from "./worker.ts";
import { WorkerContext } from "./worker_context.ts";
import { importFunction } from "./worker_module.ts";

declare const self: Worker;

let context: WorkerContext | null = null;
const stopping = Promise.withResolvers<void>();

tellOfDeath((error) => context?.end(error));

self.onmessage = ({ data }: MessageEvent<Instruction>) => {
  if (data === "stop") stopping.resolve();
  else run(new WorkerContext(data, stopping.promise), data.module);
};

async function run(own: WorkerContext, module: string): Promise<void> {
  context = own;
  try {
    const work = await importFunction("worker", module);
    await work(own);
    own.end(null);
  } catch (error) {
    own.end(describeError(error));
  }
  process.exit(0);
}

// Four Workers write one log: each posts its lines to the thread that has the ring, and that thread
// alone submits. It answers with a post of its own when a line is in the file.
//
// Shows: a ring belongs to one thread; others submit by posting to it. A line travels as a block of
// native memory, without a copy between the threads. Needs Linux 5.19 with io_uring.
//
//   run it   bun examples/workers.ts log.txt
//   try it   cut -d, -f1 log.txt | sort | uniq -c

import { isMainThread } from "node:worker_threads";
import { NativeBlock, Ring } from "bun-uring";

declare const self: Worker;

const WORKERS = 4;
const LINES = 250;
/** The key of answers; lines have their Worker's number, from 1. */
const WRITTEN = 0;

/** What a Worker is told; it tells the token of its own ring first, and "done" at the end. */
interface Start {
  number: number;
  log: { id: number };
}

if (isMainThread) await writeLog(process.argv[2]);
else await writeLines();

async function writeLog(path: string | undefined): Promise<void> {
  if (path === undefined) {
    console.error("usage: bun examples/workers.ts FILE");
    process.exit(2);
  }
  await using ring = new Ring();
  const fd = await ring.openat(path, "w");
  let end = 0;
  const finished = Array.from({ length: WORKERS }, (_, i) => new Promise<void>((resolve) => {
    const number = i + 1;
    const worker = new Worker(import.meta.url);
    worker.onmessage = ({ data }: MessageEvent<{ id: number } | "done">) => {
      if (data === "done") {
        worker.terminate();
        return resolve();
      }
      const answers = Ring.open(data);
      ring.onPost(number, async (line: NativeBlock) => {
        const at = end;
        end += line.byteLength;
        const { bytes } = await ring.write(fd, line.bytes, { at });
        if (bytes < line.byteLength) throw new Error(`${path}: the disk is full`);
        line[Symbol.dispose]();
        answers.post(WRITTEN, at);
      });
      worker.postMessage({ number, log: ring.token } satisfies Start);
    };
  }));
  await Promise.all(finished);
  await ring.close(fd);
  console.log(`${WORKERS * LINES} lines, ${end} bytes`);
}

async function writeLines(): Promise<void> {
  await using ring = new Ring();
  let written = 0;
  ring.onPost(WRITTEN, () => void written++);
  self.postMessage(ring.token);
  const { data } = await new Promise<MessageEvent<Start>>((resolve) => (self.onmessage = resolve));
  using log = Ring.open(data.log);
  for (let line = 1; line <= LINES; line++) {
    log.post(data.number, new NativeBlock(Buffer.from(`Worker ${data.number}, line ${line}\n`)));
    while (written < line) await ring.wait();
  }
  self.postMessage("done");
}

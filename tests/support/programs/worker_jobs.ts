// What Workers of `ring.worker` do in tests: the export says it.
//
// The default one does nothing but what Neolith's simplest does: it returns.

import type { WorkerContext } from "../../../ts/index.ts";

export default function returns(worker: WorkerContext): void {
  worker.post(JSON.stringify(worker.data ?? null));
}

/** Loops until it should stop. */
export function loops(worker: WorkerContext): void {
  let rounds = 0;
  while (!worker.shouldStop) {
    rounds++;
    if (rounds === 1) worker.post("looping");
    worker.sleep(1);
  }
  worker.post("stopped");
}

/** Never looks whether it should stop. */
export function deaf(worker: WorkerContext): never {
  worker.post("deaf");
  for (;;);
}

/** As many messages as `data` says, each its number; a full queue is tried again. */
export function counts(worker: WorkerContext): void {
  let refused = 0;
  const post = (text: string): void => {
    while (!taken(worker, text)) {
      refused++;
      worker.sleep(0);
    }
  };
  for (let i = 0; i < (worker.data as number); i++) post(`${i}`);
  post(`refused ${refused > 0}`);
}

/** False if the queue is full. */
function taken(worker: WorkerContext, text: string): boolean {
  try {
    worker.post(text);
    return true;
  } catch (error) {
    if ((error as { code?: string }).code === "EAGAIN") return false;
    throw error;
  }
}

/** The same, and never waits: what a queue that drops its oldest is for. */
export function floods(worker: WorkerContext): void {
  for (let i = 0; i < (worker.data as number); i++) worker.post(`${i}`);
}

/** Seven messages while nobody takes: what became of them, when it is asked to go on. */
export function fills(worker: WorkerContext): void {
  const outcomes = Array.from({ length: 7 }, (_, i) => taken(worker, `${i}`));
  const shared = worker.data as Int32Array;
  Atomics.store(shared, 0, 1);
  worker.receive();
  worker.post(outcomes.join());
}

/** Answers until there is nothing more. */
export function echoes(worker: WorkerContext): void {
  for (let message; (message = worker.receive()) !== null; ) worker.post(message);
}

/** Awaits, and does not block. */
export async function awaits(worker: WorkerContext): Promise<void> {
  worker.post("awaiting");
  await worker.stopping;
  worker.post("asked");
}

export function throws(worker: WorkerContext): void {
  worker.post("last words");
  throw new RangeError("thrown in a Worker");
}

export function exits(worker: WorkerContext): void {
  worker.post("last words");
  process.exit(3);
}

export const nothing = 7;

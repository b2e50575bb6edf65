// A Worker that does what it is told with a ring of another thread: post numbers or blocks, in
// order and until it has posted all; write by post; wake up; stop.

import { NativeBlock, Ring, type Poster, type Token, type UringError } from "../../../ts/index.ts";

declare const self: Worker;

export interface Task {
  token: Pick<Token, "id">;
  /** Shared: `signals` waits for turns in it, and the poster for room. */
  shared: Int32Array;
  what: "numbers" | "blocks" | "lines" | "wakeup" | "stop";
  key: number;
  count: number;
}

self.onmessage = ({ data: task }: MessageEvent<Task>) => {
  using poster = Ring.open(task.token);
  let refused = 0;
  for (let i = 0; i < task.count; i++) {
    if (task.what === "wakeup" || task.what === "stop") signal(poster, task, i);
    else while (!accepted(poster, task, i)) refused++;
  }
  self.postMessage({ key: task.key, refused });
};

/** False while the mailbox is full: after a pause it is tried again. */
function accepted(poster: Poster, task: Task, i: number): boolean {
  try {
    poster.post(task.key, task.what === "numbers" ? i : block(task, i));
    return true;
  } catch (error) {
    if ((error as UringError).code !== "EAGAIN") throw error;
    Atomics.wait(task.shared, 1, 0, 1);
    return false;
  }
}

function block(task: Task, i: number): NativeBlock {
  const text = task.what === "lines" ? `${task.key} ${i}\n` : `${i}`;
  return new NativeBlock(Buffer.from(text));
}

/** When it is this signal's turn. */
function signal(poster: Poster, { shared, what }: Task, i: number): void {
  while (Atomics.load(shared, 0) <= i) Atomics.wait(shared, 0, i);
  if (what === "wakeup") poster.wakeup();
  else poster.stop();
}

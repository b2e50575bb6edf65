// Waiting for a condition that no event announces: turns of the event loop, with a deadline.
// A test prefers events and promises; this is for counters of the kernel or of the process.

import { patience } from "./patience.ts";

const DEADLINE_MS = 15_000 * patience;

/** Resolves when `condition` holds; throws, naming it, when it does not within the deadline. */
export async function until(
  condition: () => boolean | Promise<boolean>,
  name = condition.toString(),
): Promise<void> {
  const deadline = performance.now() + DEADLINE_MS;
  while (!(await condition())) {
    if (performance.now() > deadline) throw new Error(`never came true: ${name}`);
    await turn();
  }
}

/** One turn of Bun's loop. */
export function turn(): Promise<void> {
  return new Promise((resolve) => setImmediate(resolve));
}

/** Turns of Bun's loop: time enough for what must not happen to happen. */
export async function turns(count: number): Promise<void> {
  for (let i = 0; i < count; i++) await turn();
}

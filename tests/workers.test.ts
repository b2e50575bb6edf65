// Rings in Workers: each thread has its own, and a Worker that is terminated leaves nothing behind.
// It happens in a process of its own, whose descriptors and mappings can be counted.

import { expect, setDefaultTimeout, test } from "bun:test";
import { Ring } from "../ts/index.ts";
import { answer, program } from "./support/child.ts";

// The preload's holds for the first file of a run alone.
setDefaultTimeout(30_000);

interface Held {
  descriptors: number;
  bytes: number;
}

test("Workers echo on rings of their own, and terminated ones leave nothing behind", async () => {
  const { echoed, before, after } = await answer<{
    echoed: boolean[];
    before: Held;
    after: Held;
  }>(program("workers"));
  expect(echoed).toEqual([true, true, true, true]);
  expect(after.descriptors).toBeLessThanOrEqual(before.descriptors);
  expect(after.bytes).toBeLessThanOrEqual(before.bytes);
});

test("every thread has a default ring of its own, which stays the same", async () => {
  expect(Ring.default).toBe(Ring.default);
  const source = `
    import { Ring } from ${JSON.stringify(new URL("../ts/index.ts", import.meta.url).href)};
    postMessage(Ring.default.handle);
  `;
  const url = URL.createObjectURL(new Blob([source], { type: "application/typescript" }));
  const worker = new Worker(url);
  const handle = await new Promise<number>((resolve, reject) => {
    worker.onmessage = ({ data }: MessageEvent<number>) => resolve(data);
    worker.onerror = ({ message }) => reject(new Error(message));
  });
  expect(handle).not.toBe(Ring.default.handle);
  worker.terminate();
});

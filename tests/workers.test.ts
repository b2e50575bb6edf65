// Rings in Workers: each thread has its own, and a Worker that is terminated leaves nothing behind.
// It happens in a process of its own, whose descriptors and mappings can be counted.

import { expect, test } from "bun:test";
import { connect, Ring } from "../ts/index.ts";
import { answer, program } from "./support/child.ts";
import { End } from "./support/pair.ts";
import { turns, until } from "./support/until.ts";

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

test("a Worker that is terminated in the midst of sends takes its memory with it", async () => {
  const worker = new Worker(program("sending_worker"));
  const messages: number[] = [];
  let wake = (): void => {};
  worker.onmessage = ({ data }: MessageEvent<number>) => {
    messages.push(data);
    wake();
  };
  const next = async (): Promise<number> => {
    while (messages.length === 0) await new Promise<void>((resolve) => (wake = resolve));
    return messages.shift() as number;
  };
  const port = await next();
  const end = new End();
  const sockets = [];
  for (let i = 0; i < 4; i++) {
    const socket = await connect({ hostname: "127.0.0.1", port, socket: end.handlers });
    sockets.push(socket);
    socket.pause();
    socket.write("go");
    expect(await next()).toBe(3); // sends that are under way, none of which can end
    await turns(20);
  }
  const closed = new Promise((resolve) => worker.addEventListener("close", resolve));
  worker.terminate();
  await closed;
  for (const socket of sockets) socket.terminate();
  await until(() => Ring.default.pendingCount === 0, "own connections are closed");
  expect(messages).toEqual([]);
  Bun.gc(true);
  await using ring = new Ring({ entries: 8 }); // buries what the Worker left
  expect(await ring.nop()).toBe(0);
});

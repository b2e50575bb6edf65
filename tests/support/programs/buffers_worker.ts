// A Worker that moves bytes with every kind of buffer: posts what it read. In a Worker only native
// memory is used in place; the results are the same.

import { closeSync, openSync } from "node:fs";
import { BufferPool, Ring } from "../../../ts/index.ts";

declare const self: Worker;

self.onmessage = async ({ data }) => {
  await using ring = new Ring();
  const fd = openSync(data as string, "r+");
  const text = (bytes: ArrayBuffer | SharedArrayBuffer | Uint8Array) =>
    Buffer.from(bytes as Uint8Array).toString();
  const moved = await ring.read(fd, new ArrayBuffer(10), { at: 0 });
  const shared = await ring.read(fd, new SharedArrayBuffer(4), { at: 0 });
  const plain = await ring.read(fd, new Uint8Array(3), { at: 7 });
  using buffer = new BufferPool({ ring, size: 4, count: 1 }).acquire();
  if (buffer === null) throw new Error("no buffer");
  await ring.read(fd, buffer, { at: 5 });
  const pooled = text(buffer.bytes);
  const written = await ring.write(fd, new Uint8Array(Buffer.from("abc")).buffer, { at: 0 });
  closeSync(fd);
  self.postMessage({
    main: Bun.isMainThread,
    moved: text(moved.buffer),
    shared: text(new Uint8Array(shared.buffer)),
    plain: text(plain.buffer),
    pooled,
    written: written.bytes,
  });
};

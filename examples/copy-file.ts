// Copies a file: eight pieces on their way at a time, and none of their bytes ever in JavaScript.
//
// Shows: a pool of buffers that the kernel fills and empties in place. While an operation has one
// nobody else can touch it; `using` gives it back. Needs Linux 5.19 with io_uring.
//
//   run it   bun examples/copy-file.ts package.json copy.json
//   try it   cmp package.json copy.json

import { BufferPool, Ring } from "bun-uring";

const PIECE = 256 * 1024;
const IN_FLIGHT = 8;

const [from, to] = process.argv.slice(2);
if (from === undefined || to === undefined) {
  console.error("usage: bun examples/copy-file.ts FROM TO");
  process.exit(2);
}

await using ring = new Ring();
const pool = new BufferPool({ ring, size: PIECE, count: IN_FLIGHT });
const source = await ring.openat(from);
const { size, mode } = await ring.statx(from);
const target = await ring.openat(to, "w", { mode: mode & 0o777 });
let next = 0;

/** Carries one piece after the other until none is left. */
async function carry(): Promise<void> {
  using buffer = pool.acquire();
  while (buffer !== null && next < size) {
    let at = next;
    next += PIECE;
    const end = Math.min(next, size);
    while (at < end) {
      const { bytes } = await ring.read(source, buffer, { at, length: end - at });
      if (bytes === 0) return; // the file is shorter than it was
      let done = 0;
      while (done < bytes) {
        const rest = { at: at + done, offset: done, length: bytes - done };
        done += (await ring.write(target, buffer, rest)).bytes;
      }
      at += bytes;
    }
  }
}

await Promise.all(Array.from({ length: IN_FLIGHT }, carry));
await Promise.all([ring.close(source), ring.close(target)]);
console.log(`${size} bytes`);

// Buffers of operations: pooled, moved in, plain, shared; what is refused while one is in flight.
//
// Whatever happens to the user's memory in mid-flight, the kernel writes to none that is not its.

import { heapStats } from "bun:jsc";
import { describe, expect, test } from "bun:test";
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { BufferPool, Ring } from "../ts/index.ts";
import { folder } from "./support/folder.ts";
import { pipe, rejected, thrown } from "./support/operations.ts";
import { turns, until } from "./support/until.ts";

const text = (bytes: Uint8Array, length = bytes.length) =>
  Buffer.from(bytes.subarray(0, length)).toString();

describe("a pooled buffer", () => {
  test("is empty while the kernel has it, fresh afterwards, and goes back with using", async () => {
    await using ring = new Ring();
    using own = pipe();
    const pool = new BufferPool({ ring, size: 100, count: 2 });
    {
      using buffer = pool.acquire();
      if (buffer === null) throw new Error("no buffer");
      const before = buffer.bytes;
      before.fill(1);
      const read = ring.read(own.fd, buffer);
      expect([before.length, buffer.inFlight, buffer.length]).toEqual([0, true, 100]);
      const error = thrown(() => buffer.bytes);
      expect(error.code).toBe("EBUSY");
      expect(error.message).toContain(`buffer is in flight: read on fd ${own.fd}`);
      expect(pool.stats).toMatchObject({ free: 1, inFlight: 1, acquires: 1 });
      await ring.write(own.fd, "pooled");
      const { bytes } = await read;
      expect(text(buffer.bytes, bytes)).toBe("pooled");
      expect(buffer.bytes.byteLength).toBe(100);
    }
    expect(pool.stats).toMatchObject({ free: 2, inFlight: 0, leaked: 0 });
  });

  test("is null when all are taken; the pool never grows", async () => {
    await using ring = new Ring();
    const pool = new BufferPool({ ring, size: 4096, count: 1 });
    const only = pool.acquire();
    expect([pool.acquire(), pool.acquire()]).toEqual([null, null]);
    only?.release();
    expect(pool.stats).toMatchObject({ count: 1, free: 1, acquires: 3, refusals: 2 });
  });

  test("goes back at its last completion with release, or when disposed of in flight", async () => {
    await using ring = new Ring();
    using own = pipe();
    using other = pipe();
    const pool = new BufferPool({ ring, size: 64, count: 2 });
    const [first, second] = [pool.acquire(), pool.acquire()];
    if (first === null || second === null) throw new Error("no buffer");
    const reads = [
      ring.read(own.fd, first, { release: true }),
      ring.read(other.fd, second),
    ];
    second.release();
    expect(pool.stats.free).toBe(0);
    await ring.write(own.fd, "x");
    await reads[0];
    await ring.write(other.fd, "y");
    await reads[1];
    expect(pool.stats.free).toBe(2);
    expect(thrown(() => first.bytes).code).toBe("EINVAL");
    expect(thrown(() => ring.read(own.fd, second)).code).toBe("EINVAL");
  });

  test("that is collected without release goes back and is counted", async () => {
    await using ring = new Ring();
    const pool = new BufferPool({ ring, size: 64, count: 8 });
    (() => {
      for (let i = 0; i < 8; i++) pool.acquire();
    })();
    await until(() => {
      Bun.gc(true);
      return pool.leaked >= 7;
    });
    expect(pool.stats.free).toBe(pool.leaked);
  });

  test("carries parts of itself, and its data is where it was put", async () => {
    await using ring = new Ring();
    using own = pipe();
    const pool = new BufferPool({ ring, size: 16, count: 1 });
    using buffer = pool.acquire();
    if (buffer === null) throw new Error("no buffer");
    buffer.bytes.set(Buffer.from("0123456789abcdef"));
    expect((await ring.write(own.fd, buffer, { offset: 10, length: 3 })).bytes).toBe(3);
    expect((await ring.read(own.fd, buffer, { offset: 0, length: 8 })).bytes).toBe(3);
    expect(text(buffer.bytes)).toBe("abc3456789abcdef");
  });

  test("of another ring is refused", async () => {
    await using ring = new Ring();
    await using other = new Ring();
    using buffer = new BufferPool({ ring, size: 16, count: 1 }).acquire();
    expect(thrown(() => other.read(0, buffer as never)).code).toBe("EINVAL");
  });

  test("vectors of them move in place", async () => {
    await using ring = new Ring();
    using own = pipe();
    const pool = new BufferPool({ ring, size: 4, count: 2 });
    using first = pool.acquire();
    using second = pool.acquire();
    if (first === null || second === null) throw new Error("no buffer");
    await ring.write(own.fd, "vectors!");
    expect((await ring.readv(own.fd, [first, second])).bytes).toBe(8);
    expect(text(first.bytes) + text(second.bytes)).toBe("vectors!");
    expect((await ring.writev(own.fd, [second, first])).bytes).toBe(8);
    const bytes = new Uint8Array(8);
    await ring.read(own.fd, bytes);
    expect(text(bytes)).toBe("ors!vect");
  });
});

describe("an ArrayBuffer", () => {
  test("is moved in and handed back with its bytes", async () => {
    await using ring = new Ring();
    using own = pipe();
    const given = new ArrayBuffer(16);
    const view = new Uint8Array(given);
    const read = ring.read(own.fd, given);
    expect([given.detached, view.length]).toEqual([true, 0]);
    await ring.write(own.fd, "moved");
    const { bytes, buffer } = await read;
    expect(text(new Uint8Array(buffer), bytes)).toBe("moved");
    const written = await ring.write(own.fd, buffer, { length: 5 });
    expect([written.bytes, written.buffer.byteLength]).toEqual([5, 16]);
  });

  test("comes back with an error too, in both phases", async () => {
    await using ring = new Ring({ operations: 1 });
    using own = pipe();
    const read = ring.read(own.fd, new ArrayBuffer(16));
    const full = thrown(() => ring.read(own.fd, new ArrayBuffer(24)));
    expect([full.code, (full.buffer as ArrayBuffer).byteLength]).toEqual(["ENOMEM", 24]);
    read.cancel();
    const error = await rejected(read);
    expect([error.code, (error.buffer as ArrayBuffer).byteLength]).toEqual(["ECANCELED", 16]);
  });

  test("survives a collection in mid-flight with nobody holding it", async () => {
    await using ring = new Ring();
    using own = pipe();
    const read = ring.read(own.fd, new ArrayBuffer(1 << 20));
    ring.submit();
    for (let i = 0; i < 5; i++) {
      Bun.gc(true);
      new Uint8Array(1 << 20).fill(0xa5);
    }
    await ring.write(own.fd, "still here");
    const { bytes, buffer } = await read;
    expect(text(new Uint8Array(buffer), bytes)).toBe("still here");
  });

  test("of a forgotten handle lives until the last completion, and no longer", async () => {
    await using ring = new Ring();
    using own = pipe();
    const held = () => {
      Bun.gc(true);
      return heapStats().extraMemorySize;
    };
    const before = held();
    const count = 8;
    const size = 8 << 20;
    (() => {
      for (let i = 0; i < count; i++) void ring.read(own.fd, new ArrayBuffer(size));
    })();
    ring.submit();
    await turns(2);
    expect(held() - before).toBeGreaterThan((count - 1) * size);
    for (let left = count - 1; left >= 0; left--) {
      await ring.write(own.fd, "x");
      // Else one read may take two bytes: where a worker of the kernel reads (before 6.4), later.
      await until(() => ring.pendingCount === left);
    }
    await until(() => held() - before < size);
  });

  test("of WebAssembly that grows in mid-read is not written to where it was", async () => {
    await using ring = new Ring();
    using own = pipe();
    // Only the first few have room to grow where they are.
    const memories = Array.from({ length: 40 }, () => new WebAssembly.Memory({ initial: 1 }));
    const reads = memories.map(({ buffer }) => ring.read(own.fd, buffer, { length: 16 }));
    ring.submit();
    for (const memory of memories) memory.grow(1);
    Bun.gc(true);
    // What is allocated now may lie where they were.
    const poison = Array.from({ length: 80 }, () => new Uint8Array(65536).fill(0xaa));
    await ring.write(own.fd, Buffer.alloc(16 * memories.length, 1));
    for (const read of reads) expect((await rejected(read)).code).toBe("EINVAL");
    expect(poison.every((bytes) => bytes.every((byte) => byte === 0xaa))).toBe(true);
    expect(memories.every(({ buffer }) => new Uint8Array(buffer).every((byte) => byte === 0)))
      .toBe(true);
  });

  test("of WebAssembly stays where it is", async () => {
    await using ring = new Ring();
    using own = pipe();
    const memory = new WebAssembly.Memory({ initial: 1, maximum: 1 });
    await ring.write(own.fd, "wasm");
    const { bytes, buffer } = await ring.read(own.fd, memory.buffer);
    expect([buffer === memory.buffer, text(new Uint8Array(buffer), bytes)]).toEqual([true, "wasm"]);
  });
});

describe("a plain view", () => {
  test("that is transferred and collected in mid-read gets EINVAL and no byte", async () => {
    await using ring = new Ring();
    using own = pipe();
    const view = new Uint8Array(4096);
    const read = ring.read(own.fd, view);
    ring.submit();
    const taken = view.buffer.transfer();
    Bun.gc(true);
    await ring.write(own.fd, "too late");
    const error = await rejected(read);
    expect([error.code, error.phase]).toEqual(["EINVAL", "completion"]);
    expect(new Uint8Array(taken).every((byte) => byte === 0)).toBe(true);
  });

  test("that is transferred, dropped and collected in mid-read harms nobody's memory", async () => {
    await using ring = new Ring();
    using own = pipe();
    const [count, size] = [50, 8192];
    const reads = (() => {
      const views = Array.from({ length: count }, () => new Uint8Array(size));
      const started = views.map((view) => ring.read(own.fd, view.subarray(0, 64)));
      for (const view of views) view.buffer.transfer();
      return started;
    })();
    ring.submit();
    await turns(1);
    Bun.gc(true);
    // What is allocated now may lie where they were.
    const poison = Array.from({ length: 4 * count }, () => new Uint8Array(size).fill(0xaa));
    await ring.write(own.fd, Buffer.alloc(64 * count, 1));
    for (const read of reads) expect((await rejected(read)).code).toBe("EINVAL");
    expect(poison.every((bytes) => bytes.every((byte) => byte === 0xaa))).toBe(true);
  });

  test("may be changed after a write has started: its bytes were copied", async () => {
    await using ring = new Ring();
    using own = pipe();
    const bytes = new Uint8Array(Buffer.from("as it was"));
    const write = ring.write(own.fd, bytes);
    bytes.fill(0);
    await write;
    const read = new Uint8Array(9);
    await ring.read(own.fd, read);
    expect(text(read)).toBe("as it was");
  });

  test("that overlaps one being read into is refused; a disjoint one is not", async () => {
    await using ring = new Ring();
    using own = pipe();
    using other = pipe();
    const whole = new Uint8Array(64);
    const first = ring.read(own.fd, whole.subarray(0, 32));
    const second = ring.read(other.fd, whole.subarray(32));
    for (const call of [
      () => ring.read(own.fd, whole.subarray(31, 33)),
      () => ring.write(own.fd, whole.subarray(0, 1)),
      () => ring.readv(own.fd, [new Uint8Array(1), whole]),
      () => ring.writev(own.fd, ["a", whole]),
    ]) {
      const error = thrown(call);
      expect([call.toString(), error.code]).toEqual([call.toString(), "EBUSY"]);
      expect(error.message).toMatch(/buffer is in flight: read on fd \d+/);
    }
    await ring.write(own.fd, "a");
    await first;
    await ring.write(other.fd, "b");
    await second;
    await ring.write(own.fd, whole); // free again
    expect((await ring.read(own.fd, whole)).bytes).toBe(64);
  });
});

describe("shared memory", () => {
  test("is used in place; sends of the same bytes go together, a read does not", async () => {
    await using ring = new Ring();
    using own = pipe();
    const shared = new SharedArrayBuffer(8);
    const view = new Uint8Array(shared);
    view.set(Buffer.from("in place"));
    const writes = [ring.write(own.fd, shared), ring.write(own.fd, view)];
    expect(thrown(() => ring.read(own.fd, view)).code).toBe("EBUSY");
    for (const write of writes) expect((await write).bytes).toBe(8);
    view.fill(0);
    await ring.read(own.fd, view);
    expect(text(view)).toBe("in place");
  });
});

describe("in a Worker", () => {
  test("every kind of buffer gives the same results", async () => {
    const path = join(folder, "worker");
    writeFileSync(path, "0123456789");
    const source = new URL("./support/programs/buffers_worker.ts", import.meta.url);
    const worker = new Worker(source);
    const { promise, resolve } = Promise.withResolvers<unknown>();
    worker.onmessage = ({ data }) => resolve(data);
    worker.postMessage(path);
    expect(await promise).toEqual({
      main: false, moved: "0123456789", shared: "0123", plain: "789", pooled: "5678", written: 3,
    });
    worker.terminate();
    expect((await Bun.file(path).text())).toBe("abc3456789");
  });
});

// Registered buffers and files: the state machine, fixed reads and writes, handles that are void.
//
// UNREGISTERED → REGISTERED → DRAINING → UNREGISTERED, with every refusal by its code.

import { describe, expect, test } from "bun:test";
import { closeSync, openSync } from "node:fs";
import {
  BufferPool,
  prepare,
  Ring,
  type FeatureName,
  type OperationName,
  type RegisteredBuffer,
} from "../ts/index.ts";
import { descriptors } from "./support/descriptors.ts";
import { file, pipe, rejected, thrown } from "./support/operations.ts";
import { until } from "./support/until.ts";

const text = (bytes: Uint8Array) => Buffer.from(bytes).toString();

/** A ring with one registered buffer of 64 bytes. */
function setUp() {
  const ring = new Ring();
  const pool = new BufferPool({ ring, size: 64, count: 2 });
  const pooled = pool.acquire();
  if (pooled === null) throw new Error("no buffer");
  const [buffer] = ring.buffers.register([pooled]) as [RegisteredBuffer];
  return { ring, pool, pooled, buffer, [Symbol.asyncDispose]: () => ring.close({ cancel: true }) };
}

describe("registered buffers", () => {
  test("carry fixed reads and writes", async () => {
    await using own = setUp();
    using ends = pipe();
    const { ring, buffer } = own;
    expect([ring.buffers.state, ring.buffers.count, buffer.length]).toEqual(["registered", 1, 64]);
    buffer.bytes.set(Buffer.from("fixed"));
    expect((await ring.write(ends.fd, buffer, { length: 5 })).bytes).toBe(5);
    const read = await ring.read(ends.fd, buffer, { offset: 10, length: 20 });
    expect([read.bytes, read.buffer === buffer]).toEqual([5, true]);
    expect(text(buffer.bytes.subarray(10, 15))).toBe("fixed");
    expect(ring.operationCount("read_fixed").ring).toBe(1);
  });

  test("of shared memory are used in place", async () => {
    await using ring = new Ring();
    using ends = pipe();
    const shared = new SharedArrayBuffer(4096);
    const [buffer] = ring.buffers.register([shared]) as [RegisteredBuffer];
    await ring.write(ends.fd, "shared");
    await ring.read(ends.fd, buffer);
    expect(text(new Uint8Array(shared).subarray(0, 6))).toBe("shared");
  });

  test("refuse what reaches beyond them, nothing at all, and a second registration", async () => {
    await using own = setUp();
    const { ring, buffer, pooled } = own;
    expect(thrown(() => ring.read(0, buffer, { offset: 60, length: 5 })).code).toBe("EOVERFLOW");
    expect(thrown(() => ring.read(0, buffer, { offset: 65 })).code).toBe("EOVERFLOW");
    expect(thrown(() => ring.read(0, buffer, { length: 0 })).code).toBe("EINVAL");
    expect(thrown(() => ring.recv(0, buffer)).code).toBe("EINVAL");
    expect(thrown(() => ring.buffers.register([pooled])).code).toBe("EEXIST");
    expect(thrown(() => ring.buffers.register([])).code).toBe("EINVAL");
    expect(thrown(() => ring.buffers.register([new Uint8Array(1) as never])).code).toBe("EINVAL");
  });

  test("of a pool that were released are nobody's: EINVAL, and nothing is lent", async () => {
    await using own = setUp();
    using ends = pipe();
    const { ring, buffer, pool, pooled } = own;
    pooled.release();
    for (let i = 0; i < 2; i++) {
      expect(thrown(() => ring.read(ends.fd, buffer)).code).toBe("EINVAL");
    }
    expect([pool.stats.free, pool.stats.inFlight, ring.buffers.inFlight]).toEqual([2, 0, 0]);
  });

  test("with nothing in flight are unregistered when requestUnregister returns", async () => {
    await using own = setUp();
    const { ring, buffer, pooled } = own;
    expect([ring.buffers.requestUnregister(), ring.buffers.state]).toEqual([true, "unregistered"]);
    expect(thrown(() => ring.read(0, buffer)).code).toBe("ENOENT");
    expect(thrown(() => buffer.bytes).code).toBe("ENOENT");
    expect(thrown(() => ring.buffers.requestUnregister()).code).toBe("ENOENT");
    expect(thrown(() => ring.buffers.update(0, pooled)).code).toBe("ENOENT");
    const [again] = ring.buffers.register([pooled]);
    expect(again?.bytes.length).toBe(64);
    expect(thrown(() => buffer.bytes).code).toBe("ENOENT"); // of the registration before
  });

  test("drain: running operations finish, new ones get EBUSY, ordinary ones go on", async () => {
    await using own = setUp();
    using ends = pipe();
    const { ring, buffer, pooled } = own;
    const read = ring.read(ends.fd, buffer, { length: 8 });
    ring.submit();
    expect([ring.buffers.inFlight, ring.buffers.requestUnregister()]).toEqual([1, false]);
    expect(ring.buffers.state).toBe("draining");
    expect(thrown(() => ring.read(ends.fd, buffer, { offset: 8 })).code).toBe("EBUSY");
    expect(thrown(() => ring.buffers.register([pooled])).code).toBe("EBUSY");
    expect(thrown(() => ring.buffers.update(0, pooled)).code).toBe("EBUSY");
    const unregistered = ring.buffers.unregister();
    await ring.write(ends.fd, "ordinary");
    expect((await read).bytes).toBe(8);
    await unregistered;
    expect(ring.buffers.state).toBe("unregistered");
    expect(thrown(() => ring.read(ends.fd, buffer)).code).toBe("ENOENT");
  });

  test("after a time-out are registered as before", async () => {
    await using own = setUp();
    using ends = pipe();
    using other = pipe();
    const { ring, buffer } = own;
    const read = ring.read(ends.fd, buffer, { length: 8 });
    ring.submit();
    const error = await rejected(ring.buffers.unregister({ timeout: 50 }));
    expect([error.code, ring.buffers.state]).toEqual(["ETIMEDOUT", "registered"]);
    expect(thrown(() => ring.buffers.unregisterSync({ timeout: 50 })).code).toBe("ETIMEDOUT");
    expect(ring.buffers.state).toBe("registered");
    const second = ring.read(other.fd, buffer, { offset: 8, length: 8 });
    await ring.write(ends.fd, "first");
    await read;
    await ring.write(other.fd, "second");
    expect((await second).bytes).toBe(6);
    expect(ring.buffers.unregisterSync()).toBe(true);
  });

  test("unregister blocking waits for the last completion", async () => {
    await using own = setUp();
    using ends = pipe();
    const { ring, buffer } = own;
    ring.read(ends.fd, buffer, { length: 4, timeout: 20 });
    expect([ring.buffers.unregisterSync(), ring.buffers.state]).toEqual([true, "unregistered"]);
  });

  test("in its own callback the last operation is over: unregistering finishes there", async () => {
    await using own = setUp();
    using ends = pipe();
    const { ring, buffer } = own;
    const seen: unknown[] = [];
    ring.read(ends.fd, buffer, { length: 4 }, () => {
      seen.push(ring.buffers.inFlight, ring.buffers.unregisterSync(), ring.buffers.state);
    });
    await ring.write(ends.fd, "data");
    await ring.drain();
    expect(seen).toEqual([0, true, "unregistered"]);
  });

  test("in another callback unregistering only asks", async () => {
    await using own = setUp();
    using ends = pipe();
    const { ring, buffer } = own;
    const read = ring.read(ends.fd, buffer, { length: 4 });
    ring.submit();
    const seen: unknown[] = [];
    ring.nop(() => seen.push(ring.buffers.unregisterSync(), ring.buffers.state));
    await ring.wait();
    expect(seen).toEqual([false, "draining"]);
    await ring.write(ends.fd, "data");
    await read;
    expect(ring.buffers.state).toBe("unregistered");
  });

  test("updated in use keep the old buffer for what is in flight", async () => {
    await using own = setUp();
    using ends = pipe();
    const { ring, buffer, pool, pooled } = own;
    const read = ring.read(ends.fd, buffer, { length: 8 });
    ring.submit();
    const other = pool.acquire();
    if (other === null) throw new Error("no buffer");
    const updated = ring.buffers.update(0, other);
    expect(thrown(() => ring.read(ends.fd, buffer)).code).toBe("ENOENT");
    await ring.write(ends.fd, "old");
    await read;
    expect(text(pooled.bytes.subarray(0, 3))).toBe("old");
    await ring.write(ends.fd, "new");
    await ring.read(ends.fd, updated);
    expect(text(other.bytes.subarray(0, 3))).toBe("new");
  });
});

describe("registered files", () => {
  test("stand in for descriptors", async () => {
    await using ring = new Ring();
    using ends = pipe();
    const [registered] = ring.files.register([ends.fd]);
    if (registered === undefined) throw new Error("no file");
    expect((await ring.write(registered, "by place")).bytes).toBe(8);
    const bytes = new Uint8Array(8);
    const read = ring.read(registered, bytes);
    expect(read.fd).toBe(ends.fd);
    expect((await read).bytes).toBe(8);
    expect(text(bytes)).toBe("by place");
    expect(ring.files.requestUnregister()).toBe(true);
    expect(thrown(() => ring.read(registered, bytes)).code).toBe("ENOENT");
  });

  test("that are not open are refused", async () => {
    await using ring = new Ring();
    expect(thrown(() => ring.files.register([9999])).code).toBe("EBADF");
    expect(ring.files.state).toBe("unregistered");
    expect(thrown(() => ring.files.register([-1])).code).toBe("EINVAL");
  });

  test.each<OperationName | FeatureName>(["registered_files", "read"])(
    "keep their file though its number is another's, without %s",
    async (masked) => {
      const before = descriptors().length;
      {
        await using ring = new Ring({ disable: [masked] });
        using own = file("mine");
        const fd = openSync(own.path, "r");
        const [registered] = ring.files.register([fd]);
        if (registered === undefined) throw new Error("no file");
        closeSync(fd);
        using other = file("another's");
        expect(other.fd).toBe(fd);
        const bytes = new Uint8Array(4);
        expect((await ring.read(registered, bytes, { at: 0 })).bytes).toBe(4);
        expect(text(bytes)).toBe("mine");
        ring.files.update(0, other.fd);
        expect(ring.files.requestUnregister()).toBe(true);
        ring.files.register([own.fd]); // goes with the ring
      }
      await until(() => descriptors().length <= before);
    },
  );

  test("that a chain waits for are not updated; a refused update changes nothing", async () => {
    await using ring = new Ring();
    using own = pipe();
    using first = file("first");
    using second = file("second");
    const [registered] = ring.files.register([first.fd]);
    if (registered === undefined) throw new Error("no file");
    const bytes = new Uint8Array(5);
    const chain = ring.link([
      prepare.read().file(own.fd).buffer(new Uint8Array(4)),
      prepare.read().file(registered).buffer(bytes).at(0),
    ]);
    ring.submit();
    const error = thrown(() => ring.files.update(0, second.fd));
    expect([error.code, error.message]).toEqual(["EAGAIN", expect.stringContaining("chain")]);
    await ring.write(own.fd, "data");
    expect((await chain).members.map(({ status }) => status)).toEqual(["done", "done"]);
    expect(text(bytes)).toBe("first");
    expect(thrown(() => ring.files.update(0, 9999)).code).toBe("EBADF");
    expect((await ring.read(registered, bytes, { at: 0 })).bytes).toBe(5);
    const updated = ring.files.update(0, second.fd);
    await ring.read(updated, bytes, { at: 0 });
    expect(text(bytes)).toBe("secon");
  });

  test("updated in use keep the old file for what is in flight", async () => {
    await using ring = new Ring();
    using first = pipe();
    using second = pipe();
    const [registered] = ring.files.register([first.fd]);
    if (registered === undefined) throw new Error("no file");
    const bytes = new Uint8Array(8);
    const read = ring.read(registered, bytes);
    ring.submit();
    const updated = ring.files.update(0, second.fd);
    await ring.write(updated, "second");
    await ring.write(first.fd, "first");
    expect([(await read).bytes, text(bytes.subarray(0, 5))]).toEqual([5, "first"]);
  });
});

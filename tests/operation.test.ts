// Operations on files and the ring itself: results, errors in both phases, callbacks, cancelling.
//
// Every kind runs twice, through the ring and by its plain system call, with the same outcome; the
// ring's own counters prove which way it went.

import { describe, expect, test } from "bun:test";
import { closeSync, constants, fstatSync, openSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { OperationKind } from "../ts/abi.ts";
import { BufferPool, prepare, Ring, type OperationName } from "../ts/index.ts";
import { missing } from "./support/backend.ts";
import { answer, program } from "./support/child.ts";
import { descriptors } from "./support/descriptors.ts";
import { folder } from "./support/folder.ts";
import {
  FILE_KINDS,
  file,
  pipe,
  rejected,
  RING_KINDS,
  SOCKET_KINDS,
  thrown,
} from "./support/operations.ts";
import { turns, until } from "./support/until.ts";

let made = 0;

const CASES: [OperationName, (ring: Ring) => Promise<void>][] = [
  ["nop", async (ring) => {
    expect(await ring.nop()).toBe(0);
  }],
  ["read", async (ring) => {
    using own = file("hello world");
    const bytes = new Uint8Array(5);
    expect(await ring.read(own.fd, bytes, { at: 6 })).toEqual({ bytes: 5, buffer: bytes });
    expect(Buffer.from(bytes).toString()).toBe("world");
    expect((await ring.read(own.fd, bytes, { at: 99 })).bytes).toBe(0);
  }],
  ["write", async (ring) => {
    using own = file("hello world");
    expect((await ring.write(own.fd, "HELLO")).bytes).toBe(5);
    expect((await ring.write(own.fd, Buffer.from("_"))).bytes).toBe(1);
    expect(own.text()).toBe("HELLO_world");
  }],
  ["readv", async (ring) => {
    using own = file("abcdef");
    const parts = [new Uint8Array(2), new Uint8Array(3)];
    expect((await ring.readv(own.fd, parts, { at: 1 })).bytes).toBe(5);
    expect(parts.map((part) => Buffer.from(part).toString())).toEqual(["bc", "def"]);
  }],
  ["writev", async (ring) => {
    using own = file();
    expect((await ring.writev(own.fd, ["ab", Buffer.from("cd")], { at: 2 })).bytes).toBe(4);
    expect(own.text()).toBe("\0\0abcd");
  }],
  ["fsync", async (ring) => {
    using own = file("a");
    expect(await ring.fsync(own.fd)).toBe(0);
  }],
  ["datasync", async (ring) => {
    using own = file("a");
    expect(await ring.datasync(own.fd)).toBe(0);
  }],
  ["sync_file_range", async (ring) => {
    using own = file("a");
    expect(await ring.syncFileRange(own.fd, 0, 1, 2)).toBe(0);
  }],
  ["fallocate", async (ring) => {
    using own = file("a");
    expect(await ring.fallocate(own.fd, 0, 100)).toBe(0);
    expect(own.text()).toHaveLength(100);
  }],
  ["ftruncate", async (ring) => {
    using own = file("abc");
    expect(await ring.ftruncate(own.fd, 2)).toBe(0);
    expect(own.text()).toBe("ab");
  }],
  ["openat", async (ring) => {
    const path = join(folder, `opened-${made++}`);
    const fd = await ring.openat(path, "wx", { mode: 0o600 });
    expect(descriptors()).toContain(fd);
    closeSync(fd);
    expect((await rejected(ring.openat(path, "wx"))).code).toBe("EEXIST");
  }],
  ["close", async (ring) => {
    const fd = openSync("/dev/null", "r");
    expect(await ring.close(fd)).toBe(0);
    expect(thrown(() => fstatSync(fd)).code).toBe("EBADF");
  }],
  ["statx", async (ring) => {
    using own = file("12345");
    const status = await ring.statx(own.path);
    expect([status.size, status.isFile, status.isDirectory]).toEqual([5, true, false]);
    expect((await ring.statx(folder)).isDirectory).toBe(true);
  }],
  ["splice", async (ring) => {
    using own = file("spliced");
    using target = file();
    using between = pipe();
    expect(await ring.splice(own.fd, between.fd, 7, { sourceAt: 0 })).toBe(7);
    expect(await ring.splice(between.fd, target.fd, 7, { at: 0 })).toBe(7);
    expect(target.text()).toBe("spliced");
  }],
  ["rename", async (ring) => {
    using own = file("renamed");
    expect(await ring.rename(own.path, `${own.path}.b`)).toBe(0);
    expect(readFileSync(`${own.path}.b`, "utf8")).toBe("renamed");
  }],
  ["unlink", async (ring) => {
    using own = file();
    expect(await ring.unlink(own.path)).toBe(0);
    expect((await rejected(ring.unlink(own.path))).code).toBe("ENOENT");
  }],
  ["mkdir", async (ring) => {
    const path = join(folder, `made-${made++}`);
    expect(await ring.mkdir(path)).toBe(0);
    expect((await ring.statx(path)).isDirectory).toBe(true);
    expect((await rejected(ring.mkdir(path))).code).toBe("EEXIST");
  }],
  ["link", async (ring) => {
    using own = file("linked");
    expect(await ring.link(own.path, `${own.path}.l`)).toBe(0);
    expect((await ring.statx(`${own.path}.l`)).links).toBe(2);
  }],
  ["symlink", async (ring) => {
    using own = file("named");
    expect(await ring.symlink(own.path, `${own.path}.s`)).toBe(0);
    expect(readFileSync(`${own.path}.s`, "utf8")).toBe("named");
  }],
];

test("a read by a plain call does not wait for who may never write", async () => {
  await using ring = new Ring({ disable: ["read"] });
  using empty = pipe();
  const { code } = await rejected(ring.read(empty.fd, new Uint8Array(8), { timeout: 20 }));
  expect(code).toBe("EAGAIN");
});

describe.each(["ring", "plain"] as const)("by way of the %s, an operation", (way) => {
  test.each(CASES)("%s does what its system call does", async (kind, run) => {
    await using ring = new Ring({ disable: way === "plain" ? FILE_KINDS : [] });
    await run(ring);
    const { ring: through, plain } = ring.operationCount(kind);
    expect({ through: through > 0, plain: plain > 0 }).toEqual({
      through: way === "ring" && !missing.has(kind),
      plain: way === "plain" || missing.has(kind),
    });
  });
});

test("every kind is run through the ring, and by its plain call where it has one", () => {
  const kinds = [...FILE_KINDS, ...SOCKET_KINDS, ...RING_KINDS];
  expect(kinds.toSorted()).toEqual(Object.keys(OperationKind).sort() as typeof kinds);
  expect(CASES.map(([kind]) => kind)).toEqual([...FILE_KINDS]);
  for (const kind of RING_KINDS) {
    expect([kind, thrown(() => new Ring({ disable: [kind] })).code]).toEqual([kind, "EINVAL"]);
  }
});

test("timers and registered buffers go through the ring", async () => {
  await using ring = new Ring();
  using own = file("fixed");
  const [buffer] = ring.buffers.register([new SharedArrayBuffer(5)]);
  if (buffer === undefined) throw new Error("no buffer");
  await ring.timeout(0);
  expect((await ring.read(own.fd, buffer, { at: 0 })).bytes).toBe(5);
  expect((await ring.write(own.fd, buffer, { at: 5 })).bytes).toBe(5);
  expect(own.text()).toBe("fixedfixed");
  for (const kind of ["timeout", "read_fixed", "write_fixed"] as const) {
    expect([kind, ring.operationCount(kind)]).toEqual([kind, { ring: 1, plain: 0 }]);
  }
});

describe("a callback", () => {
  test("gets the result, and its handle is over by then", async () => {
    await using ring = new Ring();
    using own = file("hello");
    const bytes = new Uint8Array(8);
    const seen: unknown[] = [];
    const operation = ring.read(own.fd, bytes, { at: 0 }, (result, buffer) => {
      seen.push(result, buffer === bytes, operation.pending, operation.cancel());
    });
    expect([operation.pending, operation.kind, operation.fd]).toEqual([true, "read", own.fd]);
    operation.userData = "mine";
    await ring.drain();
    expect(seen).toEqual([5, true, false, false]);
    expect([operation.pending, operation.kind, operation.fd, operation.userData]).toEqual([
      false, "read", own.fd, "mine",
    ]);
    expect((await operation).bytes).toBe(5);
  });

  test("gets a failure as a negative number", async () => {
    await using ring = new Ring();
    const results: number[] = [];
    ring.fsync(9999, (result) => results.push(result));
    ring.openat(join(folder, "nowhere"), "r", (result) => results.push(result));
    expect(ring.drainSync()).toBe(2);
    expect(results.toSorted((a, b) => a - b)).toEqual([-9, -2]);
  });

  test("that throws stops nothing else and is told to the process", async () => {
    const outcome = await answer(program("throwing_callback"));
    expect(outcome).toEqual({ uncaught: ["Error: from a callback"], later: 1 });
  });

  test("may start, cancel and stop, and may not turn the ring", async () => {
    await using ring = new Ring();
    const seen: string[] = [];
    const far = ring.timeout(60_000);
    ring.nop(() => {
      for (const call of [
        () => ring.poll(), () => ring.waitSync(0), () => ring.drainSync(0),
        () => ring.runSomeSync(), () => ring.runUntilEmptySync(),
      ]) seen.push(thrown(call).code);
      ring.nop(() => seen.push("second"));
      far.cancel();
    });
    expect((await rejected(far)).code).toBe("ECANCELED");
    await ring.drain();
    expect(seen).toEqual(["EBUSY", "EBUSY", "EBUSY", "EBUSY", "EBUSY", "second"]);
  });
});

describe("an error", () => {
  test("in the call throws at once, with phase submission", async () => {
    await using ring = new Ring({ operations: 4 });
    for (const call of [
      () => ring.read(-1, new Uint8Array(1)),
      () => ring.read(1.5, new Uint8Array(1)),
      () => ring.read(0, {} as Uint8Array),
      () => ring.read(0, new Uint8Array(new ArrayBuffer(8, { maxByteLength: 16 }))),
      () => ring.read(0, new ArrayBuffer(8, { maxByteLength: 16 })),
      () => ring.read(0, new Uint8Array(1), { at: -1 }),
      () => ring.read(0, new Uint8Array(1), { timeout: -1 }),
      () => ring.openat("", "r"),
      () => ring.openat("a\0b", "r"),
      () => ring.openat("a", "q"),
      () => ring.timeout(-1),
      () => ring.nop(5 as never),
      () => ring.readv(0, []),
      () => ring.poll(0, 0),
    ]) {
      const { code, phase } = thrown(call);
      expect([call.toString(), code, phase]).toEqual([call.toString(), "EINVAL", "submission"]);
    }
    expect(ring.pendingCount).toBe(0);
  });

  test("is what options get whose getters start operations of their own", async () => {
    await using ring = new Ring();
    using own = file("0123456789");
    const pool = new BufferPool({ ring, size: 4096, count: 1 });
    const pooled = pool.acquire();
    if (pooled === null) throw new Error("no buffer");
    const bytes = new Uint8Array(2);
    let inner: PromiseLike<unknown> | undefined;
    const options = {
      at: 4,
      get timeout() {
        inner = ring.read(own.fd, pooled, { at: 0 });
        return 60_000;
      },
    };
    expect(thrown(() => ring.read(own.fd, bytes, options)).code).toBe("EINVAL");
    expect((await inner) as { bytes: number }).toMatchObject({ bytes: 10 });
    expect((await ring.read(own.fd, bytes, { at: 4 })).bytes).toBe(2);
    expect(Buffer.from(bytes).toString()).toBe("45");
  });

  test("is all that changing a pool or its buffers comes to", async () => {
    await using ring = new Ring();
    const pool = new BufferPool({ ring, size: 64, count: 1 });
    const pooled = pool.acquire();
    for (const [thing, name] of [
      [pool, "size"], [pool, "count"], [pool, "ring"], [pooled, "address"], [pooled, "length"],
    ] as const) {
      expect(() => Object.assign(thing ?? {}, { [name]: 1 << 30 })).toThrow(TypeError);
    }
  });

  test("of a descriptor that is not open comes later, with phase completion", async () => {
    await using ring = new Ring();
    const error = await rejected(ring.read(9999, new Uint8Array(1)));
    expect(error).toMatchObject({
      name: "UringError", code: "EBADF", errno: -9, operation: "read", phase: "completion",
    });
    expect(error.message).toContain("read on fd 9999");
  });

  test("that nobody awaits is nobody's", async () => {
    await using ring = new Ring();
    const unhandled: unknown[] = [];
    const listener = (error: unknown) => unhandled.push(error);
    process.on("unhandledRejection", listener);
    ring.fsync(9999);
    await ring.drain();
    await turns(3);
    process.off("unhandledRejection", listener);
    expect(unhandled).toEqual([]);
  });

  test("that is awaited by chaining alone is rejected there", async () => {
    await using ring = new Ring();
    const operation = ring.fsync(9999);
    const chained = operation.then(() => "fine").then((text) => text);
    expect((await rejected(chained)).code).toBe("EBADF");
    expect(await operation.then(undefined, (error) => error.code)).toBe("EBADF");
    expect(await operation.catch((error) => error.code)).toBe("EBADF");
  });
});

describe("cancelling", () => {
  test("before the flush runs nothing", async () => {
    await using ring = new Ring();
    const path = join(folder, "never");
    const operation = ring.mkdir(path);
    expect([operation.cancel(), operation.cancel()]).toEqual([true, false]);
    const error = await rejected(operation);
    expect([error.name, error.code]).toEqual(["AbortError", "ECANCELED"]);
    expect((await rejected(ring.statx(path))).code).toBe("ENOENT");
  });

  test("in flight ends a read of a pipe", async () => {
    await using ring = new Ring();
    using own = pipe();
    const operation = ring.read(own.fd, new Uint8Array(4));
    ring.submit();
    expect(operation.cancel()).toBe(true);
    expect((await rejected(operation)).code).toBe("ECANCELED");
  });

  test("a stale handle cancels nobody else's operation", async () => {
    await using ring = new Ring({ operations: 1 });
    const old = ring.nop();
    await old;
    await turns(1);
    const next = ring.timeout(5);
    expect(old.cancel()).toBe(false);
    expect(await next).toBe(0);
  });

  test("by a signal; an aborted one submits nothing", async () => {
    await using ring = new Ring();
    const stillborn = ring.mkdir(join(folder, "unborn"), { signal: AbortSignal.abort("why") });
    expect(stillborn.pending).toBe(false);
    const error = await rejected(stillborn);
    expect([error.name, error.cause]).toEqual(["AbortError", "why"]);
    expect(ring.operationCount("mkdir")).toEqual({ ring: 0, plain: 0 });
    const controller = new AbortController();
    const pending = ring.timeout(60_000, { signal: controller.signal });
    ring.submit();
    controller.abort();
    expect((await rejected(pending)).name).toBe("AbortError");
  });

  test("by a time-out is a TimeoutError; one that is not reached changes nothing", async () => {
    await using ring = new Ring();
    using own = pipe();
    const error = await rejected(ring.read(own.fd, new Uint8Array(4), { timeout: 5 }));
    expect([error.name, error.code]).toEqual(["TimeoutError", "ETIMEDOUT"]);
    await ring.write(own.fd, "data");
    const read = await ring.read(own.fd, new Uint8Array(4), { timeout: 60_000 });
    expect(read.bytes).toBe(4);
  });

  test("by a time-out reaches what a worker of the kernel waits in", async () => {
    await using ring = new Ring();
    using empty = pipe();
    using target = pipe();
    const deserted = pipe();
    closeSync(deserted.fd);
    const writing = constants.O_WRONLY | constants.O_TRUNC;
    for (const operation of [
      ring.splice(empty.fd, target.fd, 10, { timeout: 20 }),
      ring.openat(deserted.path, writing, { timeout: 20 }),
    ]) {
      const error = await rejected(operation);
      expect([operation.kind, error.name, error.code]).toEqual([
        operation.kind, "TimeoutError", "ETIMEDOUT",
      ]);
    }
    const moved = ring.splice(empty.fd, target.fd, 10, { timeout: 60_000 });
    ring.submit();
    await ring.write(empty.fd, "in time");
    expect(await moved).toBe(7);
    const chained = await ring.link([
      prepare.timeout(30),
      prepare.splice(empty.fd, target.fd, 10).timeout(20),
      prepare.nop(),
    ], { hard: true });
    // Its time begins with its turn.
    expect(ring.latency("splice").max).toBeGreaterThan(45_000);
    expect(chained.members.map(({ status }) => status)).toEqual(["done", "failed", "done"]);
    const [, member] = chained.members;
    expect(member?.status === "failed" && member.error.code).toBe("ETIMEDOUT");
  });

  test("all that fit a filter", async () => {
    await using ring = new Ring();
    using own = pipe();
    const reads = [ring.read(own.fd, new Uint8Array(1)), ring.read(own.fd, new Uint8Array(1))];
    const timer = ring.timeout(60_000);
    ring.submit();
    expect(ring.cancelAll({ fd: own.fd, kind: "read" })).toBe(2);
    expect(ring.cancelAll({ kind: "read" })).toBe(0);
    for (const read of reads) expect((await rejected(read)).code).toBe("ECANCELED");
    expect([timer.pending, ring.cancelAll()]).toEqual([true, 1]);
    await rejected(timer);
  });

  test("as an operation says what came of asking", async () => {
    await using ring = new Ring();
    const timer = ring.timeout(60_000);
    expect(await ring.cancel(timer)).toBe(0);
    expect((await rejected(timer)).code).toBe("ECANCELED");
    expect((await rejected(ring.cancel(timer))).code).toBe("ENOENT");
  });

  test("close of a descriptor cancels what is pending on it first", async () => {
    await using ring = new Ring();
    using own = pipe();
    const fd = openSync(own.path, "r+");
    const read = ring.read(fd, new Uint8Array(1));
    ring.submit();
    expect(await ring.close(fd)).toBe(0);
    expect((await rejected(read)).code).toBe("ECANCELED");
  });

  test("disposing of a handle cancels it; asynchronously, it waits for the end", async () => {
    await using ring = new Ring();
    {
      await using operation = ring.timeout(60_000);
      ring.submit();
      expect(operation.pending).toBe(true);
    }
    expect(ring.pendingCount).toBe(0);
  });

  test("a descriptor that was opened all the same is closed and counted", async () => {
    await using ring = new Ring();
    const before = descriptors();
    {
      await using operation = ring.openat("/dev/null", "r");
      ring.submit(); // it is open by now, whatever dispose asks for
      expect(operation.pending).toBe(true);
    }
    expect(descriptors()).toEqual(before);
    expect(ring.stats().descriptors_reclaimed).toBe(1);
  });

  test("a descriptor of a forgotten handle is closed when it is collected", async () => {
    await using ring = new Ring();
    const before = descriptors();
    (() => {
      for (let i = 0; i < 8; i++) ring.openat("/dev/null", "r");
    })();
    await ring.drain();
    await until(() => {
      Bun.gc(true);
      return ring.stats().descriptors_reclaimed >= 7;
    });
    expect(descriptors().length).toBeLessThanOrEqual(before.length + 1);
  });
});

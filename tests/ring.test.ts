// What a ring says of itself: counters, latencies, inspection, and the error that ends it.
//
// The fatal error is provoked by taking the kernel's descriptor away from under the library.

import { describe, expect, test } from "bun:test";
import { closeSync, fstatSync, openSync, readlinkSync } from "node:fs";
import { Feature, OperationKind } from "../ts/abi.ts";
import { BufferPool, Ring, type RingInspection } from "../ts/index.ts";
import { backend } from "./support/backend.ts";
import { descriptors } from "./support/descriptors.ts";
import { pair } from "./support/pair.ts";
import { until } from "./support/until.ts";
import { file, pipe, rejected, thrown } from "./support/operations.ts";

const FILES = { uring: "anon_inode:[io_uring]", epoll: "anon_inode:[eventpoll]" };

/** The descriptor of the ring that is opened by `open`. */
function ringDescriptor(open: () => Ring): [Ring, number] {
  const isRing = (fd: number) => {
    try {
      return readlinkSync(`/proc/self/fd/${fd}`) === FILES[backend];
    } catch (error) {
      // The one that read the directory is gone by now.
      if ((error as { code?: string }).code === "ENOENT") return false;
      throw error;
    }
  };
  const before = new Set(descriptors().filter(isRing));
  const ring = open();
  const [fd] = descriptors().filter((each) => isRing(each) && !before.has(each));
  if (fd === undefined) throw new Error("the ring has no descriptor");
  return [ring, fd];
}

describe("stats", () => {
  test("count submissions, completions and calls, and what is in flight", async () => {
    await using ring = new Ring();
    for (let i = 0; i < 100; i++) ring.nop();
    ring.timeout(60_000);
    ring.poll();
    using own = file("0123456789");
    await ring.read(own.fd, new Uint8Array(7), { at: 0 });
    await ring.writev(own.fd, ["ab", "c"], { at: 0 });
    const stats = ring.stats();
    expect([stats.bytes_received, stats.bytes_sent]).toEqual([7, 3]);
    expect(stats.sqes).toBeGreaterThanOrEqual(101);
    expect(stats.cqes).toBeGreaterThanOrEqual(100);
    expect(stats.in_flight).toBe(ring.pendingCount);
    expect(stats.sqes_per_enter).toBeCloseTo(stats.sqes / stats.enters);
    expect(stats.cqes_per_enter).toBeCloseTo(stats.cqes / stats.enters);
  });
});

describe("latency", () => {
  test("of a kind is counted, and its percentiles ascend", async () => {
    await using ring = new Ring();
    expect(ring.latency("timeout")).toEqual({ count: 0, p50: 0, p90: 0, p99: 0, max: 0 });
    for (let i = 0; i < 10; i++) await ring.timeout(2);
    const { count, p50, p90, p99, max } = ring.latency("timeout");
    expect(count).toBe(10);
    expect(p50).toBeGreaterThan(1000); // microseconds; the bucket of 2 ms begins at 1049
    expect([p50, p90, p99, max].toSorted((a, b) => a - b)).toEqual([p50, p90, p99, max]);
    expect(thrown(() => ring.latency("nothing" as never)).code).toBe("EINVAL");
  });
});

describe("inspect", () => {
  test("says what is pending by kind, and what is registered", async () => {
    await using ring = new Ring({ entries: 64, completionEntries: 4096 });
    using own = pipe();
    const pooled = new BufferPool({ ring, size: 64, count: 1 }).acquire();
    if (pooled === null) throw new Error("no buffer");
    ring.buffers.register([pooled]);
    ring.read(own.fd, new Uint8Array(1));
    ring.read(own.fd, new Uint8Array(1));
    ring.timeout(60_000);
    ring.poll();
    expect(ring.inspect()).toEqual({
      state: "open",
      backend,
      reason: ring.reason,
      pending: { read: 2, timeout: 1 },
      connections: 0,
      listeners: 0,
      datagramSockets: 0,
      submission: { entries: 64, queued: 0, waiting: 0 },
      completion: { entries: 4096, queued: 0, undispatched: 0 },
      registered: {
        buffers: { state: "registered", count: 1, inFlight: 0 },
        files: { state: "unregistered", count: 0, inFlight: 0 },
      },
      lentBuffers: 0,
      fatalError: null,
    });
    const text = Bun.inspect(ring);
    expect(text).toStartWith("Ring {");
    expect(text).toContain("read: 2");
    for (const name of Object.keys(ring.inspect())) expect(text).toContain(`${name}: `);
  });

  test("tells what is open and on loan this moment, and nothing of a closed ring", async () => {
    const ring = new Ring();
    const seen: RingInspection[] = [];
    const both = await pair({
      ring,
      serverSocket: {
        binaryType: "borrowed",
        data: (_socket: unknown, chunk: Uint8Array) => {
          if (chunk.length > 4096) seen.push(ring.inspect());
        },
      },
    });
    expect(ring.inspect()).toMatchObject({ connections: 2, listeners: 1, lentBuffers: 0 });
    expect(ring.pendingCount).toBe(3);
    both.client.write(Buffer.alloc(100_000));
    await until(() => seen.length > 0);
    expect(seen[0]?.lentBuffers).toBe(1);
    expect(ring.inspect().lentBuffers).toBe(0);
    await ring.close();
    expect(ring.inspect()).toMatchObject({
      state: "closed", pending: {}, connections: 0, listeners: 0, lentBuffers: 0,
      submission: { queued: 0, waiting: 0 }, completion: { queued: 0, undispatched: 0 },
    });
  });
});

describe("an error that ends the ring", () => {
  test("is ESHUTDOWN for who posts to it", async () => {
    const [ring, fd] = ringDescriptor(() => new Ring({
      disable: ["registered_ring_fd"],
      onLog: () => {},
    }));
    const poster = Ring.open(ring.token.unref());
    ring.timeout(60_000).catch((error) => error);
    closeSync(fd);
    await rejected(ring.drain());
    for (const call of [() => poster.post(1, 1), () => poster.wakeup(), () => poster.stop()]) {
      expect(thrown(call).code).toBe("ESHUTDOWN");
    }
    await ring.close();
  });

  test("is told once to everything pending, and kept; memory is not given back", async () => {
    const logged: string[] = [];
    const [ring, fd] = ringDescriptor(() => new Ring({
      disable: ["registered_ring_fd"],
      onLog: (message) => logged.push(message),
    }));
    using own = pipe();
    const moved = ring.read(own.fd, new ArrayBuffer(64));
    const timer = ring.timeout(60_000);
    const [registered] = ring.buffers.register([new SharedArrayBuffer(8)]);
    if (registered === undefined) throw new Error("no registered buffer");
    ring.read(own.fd, registered);
    ring.poll();
    const unregistering = ring.buffers.unregister();
    const given = openSync("/dev/null", "r");
    closeSync(fd);
    const closing = ring.close(given);
    ring.nop();
    const waiting = ring.drain();
    expect((await rejected(waiting)).code).toBe("EBADF");
    expect((await rejected(timer)).code).toBe("EBADF");
    expect((await rejected(unregistering)).code).toBe("EBADF");
    // The twin has run what was queued when it hears that epoll is gone; a ring has not taken it.
    const taken = backend === "epoll";
    if (taken) expect(await closing).toBe(0);
    else expect((await rejected(closing)).code).toBe("EBADF");
    // It was given away: nobody else would close it.
    expect(thrown(() => fstatSync(given)).code).toBe("EBADF");
    const error = await rejected(moved);
    // The kernel may still write to it.
    expect([error.code, error.buffer]).toEqual(["EBADF", undefined]);
    expect(thrown(() => ring.nop())).toBe(ring.fatalError as never);
    const inspection = ring.fatalError?.inspection as RingInspection;
    expect(inspection.pending).toEqual({
      read: 2, timeout: 1, ...(taken ? {} : { close: 1, nop: 1 }),
    });
    expect([ring.inspect().state, logged.length]).toEqual(["failed", 1]);
    await ring.close();
    expect([ring.closed, logged.length]).toEqual([true, 2]);
    expect(logged[1]).toMatch(/still holds \d+ .*memory is kept: what was pending when it failed/);
  });
});

test("a program that is started inherits nothing of a ring", async () => {
  await using ring = new Ring();
  ring.timeout(60_000);
  ring.submit();
  const listing = Bun.spawnSync(["ls", "-l", "/proc/self/fd"]).stdout.toString();
  expect(listing).toContain("/proc");
  expect(listing).not.toMatch(/io_uring|eventpoll|eventfd|timerfd/);
});

describe("features", () => {
  test("and operations have different names: `disable` tells them apart by those", () => {
    const operations = new Set(Object.keys(OperationKind));
    expect(Object.keys(Feature).filter((name) => operations.has(name))).toEqual([]);
  });

  test("that are unknown are refused in disable", () => {
    expect(thrown(() => new Ring({ disable: ["nothing" as never] })).code).toBe("EINVAL");
  });
});

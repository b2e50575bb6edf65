// Mistakes that earlier systems made, where JavaScript is what shows that we do not make them.
//
// docs/lessons.md lists them all, with whose they were; most stand with their subject, those of
// the native half in zig/testing/lessons.zig. Here are the ones that belong nowhere else.

import { describe, expect, test } from "bun:test";
import { closeSync, existsSync, readFileSync, readlinkSync } from "node:fs";
import { join } from "node:path";
import { prepare, Ring, type BatchResult, type Operation } from "../ts/index.ts";
import { backend } from "./support/backend.ts";
import { descriptors } from "./support/descriptors.ts";
import { folder } from "./support/folder.ts";
import { pipe, rejected } from "./support/operations.ts";
import { turns, until } from "./support/until.ts";

let made = 0;

describe("a signal that aborts", () => {
  test("in the line after the start keeps the operation from the kernel", async () => {
    await using ring = new Ring();
    const path = join(folder, `unstarted-${made++}`);
    const controller = new AbortController();
    const operation = ring.mkdir(path, { signal: controller.signal });
    controller.abort();
    expect((await rejected(operation)).name).toBe("AbortError");
    expect([existsSync(path), ring.operationCount("mkdir").ring]).toEqual([false, 0]);
  });

  test("while its member waits is kept until the kernel can hear it", async () => {
    await using ring = new Ring();
    using first = pipe();
    using second = pipe();
    const controller = new AbortController();
    const bytes = () => new Uint8Array(1);
    const waiting = prepare.read().file(second.fd).buffer(bytes()).signal(controller.signal);
    const chain = ring.link([prepare.read().file(first.fd).buffer(bytes()), waiting]);
    ring.submit();
    controller.abort();
    await turns(5);
    expect(chain.pending).toBe(true);
    await using other = new Ring();
    await other.write(first.fd, "x");
    const result: BatchResult = await chain;
    expect(result.members.map(({ status }) => status)).toEqual(["done", "failed"]);
    const [, member] = result.members;
    expect(member?.status === "failed" && member.error.name).toBe("AbortError");
  });
});

describe("an accept that succeeded before it was cancelled", () => {
  /** A listener, and a client that has connected to it: the kernel has taken the connection. */
  async function knock(ring: Ring) {
    const unix = `\0bun-uring-lessons-${process.pid}-${made++}`;
    const listener = await ring.socket("unix");
    await ring.bind(listener, { unix });
    await ring.listen(listener);
    const client = await ring.socket("unix");
    await ring.connect(client, { unix });
    return { listener, client };
  }

  test("hands its descriptor over", async () => {
    await using ring = new Ring();
    const { listener, client } = await knock(ring);
    const accept = ring.accept(listener);
    ring.submit(); // it is done, and nobody has heard of it
    expect(accept.cancel()).toBe(true);
    const { fd } = await accept;
    expect(descriptors()).toContain(fd);
    for (const own of [listener, client, fd]) closeSync(own);
  });

  test("closes it where nobody waits for it any more", async () => {
    await using ring = new Ring();
    const { listener, client } = await knock(ring);
    const before = descriptors();
    {
      await using accept = ring.accept(listener);
      ring.submit();
      expect(accept.pending).toBe(true);
    }
    expect([descriptors(), ring.stats().descriptors_reclaimed]).toEqual([before, 1]);
    for (const own of [listener, client]) closeSync(own);
  });
});

describe("with more to cancel than the queue holds", () => {
  const count = 40;

  const crowd = (ring: Ring, signal?: AbortSignal): Operation[] => {
    const options = signal === undefined ? {} : { signal };
    return Array.from({ length: count }, () => ring.timeout(60_000, options) as Operation);
  };

  const codes = async (operations: Operation[]) => {
    const errors = await Promise.all(operations.map((operation) => rejected(operation)));
    return new Set(errors.map(({ code }) => code));
  };

  test("cancel never throws, and all of it is heard", async () => {
    await using ring = new Ring({ entries: 2 });
    const operations = crowd(ring);
    await turns(2);
    for (const operation of operations) expect(operation.cancel()).toBe(true);
    expect(await codes(operations)).toEqual(new Set(["ECANCELED"]));
  });

  test("nor does the listener of a signal, in which nobody would catch it", async () => {
    await using ring = new Ring({ entries: 2 });
    const controller = new AbortController();
    const operations = crowd(ring, controller.signal);
    await turns(2);
    controller.abort();
    expect(await codes(operations)).toEqual(new Set(["ECANCELED"]));
  });

  test("nor does disposing, nor closing the ring", async () => {
    const ring = new Ring({ entries: 2 });
    const operations = crowd(ring);
    const outcome = codes(operations);
    for (const operation of operations.slice(count / 2)) operation[Symbol.dispose]();
    await ring.close({ cancel: true });
    expect(await outcome).toEqual(new Set(["ECANCELED"]));
    expect(ring.pendingCount).toBe(0);
  });
});

describe("a time-out of an operation that is over", () => {
  test("does not end the one that has its slot now", async () => {
    await using ring = new Ring({ operations: 1 });
    await using other = new Ring();
    using own = pipe();
    const first = ring.read(own.fd, new Uint8Array(1), { timeout: 30 });
    await other.write(own.fd, "1");
    expect((await first).bytes).toBe(1);
    // The slot is free when the time-out is gone, too.
    const started: Operation<unknown>[] = [];
    await until(() => {
      try {
        started.push(ring.read(own.fd, new Uint8Array(1)));
      } catch (error) {
        expect(error).toMatchObject({ code: "ENOMEM" });
      }
      return started.length > 0;
    });
    const [second] = started;
    await other.timeout(60); // the first one's would have struck by now
    await turns(2);
    expect(second?.pending).toBe(true);
    await other.write(own.fd, "2");
    expect(await second).toMatchObject({ bytes: 1 });
  });
});

describe("a registration", () => {
  /** What the kernel says of its ring: the lines of io_uring's fdinfo. */
  function told(ringFd: number): { buffers: number; addresses: string[] } {
    const text = readFileSync(`/proc/self/fdinfo/${ringFd}`, "utf8");
    const buffers = Number(/^UserBufs:\s+(\d+)/m.exec(text)?.[1]);
    return { buffers, addresses: [...text.matchAll(/^ +\d+: (0x[0-9a-f]+\/\d+)/gm)].map(String) };
  }

  const isRing = (fd: number): boolean => {
    try {
      return readlinkSync(`/proc/self/fd/${fd}`) === "anon_inode:[io_uring]";
    } catch (error) {
      // The one that read the directory is gone by now.
      if ((error as { code?: string }).code === "ENOENT") return false;
      throw error;
    }
  };

  // The twin's table is memory of its own, where nobody can look.
  const onRing = test.skipIf(backend !== "uring");

  onRing("of buffers is in the kernel's own table, and leaves it again", async () => {
    const before = new Set(descriptors().filter(isRing));
    await using ring = new Ring();
    const fd = descriptors().filter(isRing).find((number) => !before.has(number));
    if (fd === undefined) throw new Error("the ring has no descriptor");
    expect(told(fd).buffers).toBe(0);
    ring.buffers.register([new SharedArrayBuffer(4096), new SharedArrayBuffer(8192)]);
    const { buffers, addresses } = told(fd);
    expect([buffers, addresses.length]).toEqual([2, 2]);
    expect(addresses.map((line) => line.split("/")[1]?.split(",")[0])).toEqual(["4096", "8192"]);
    ring.buffers.requestUnregister();
    expect(told(fd).buffers).toBe(0);
  });
});

test("docs/lessons.md names tests that exist", () => {
  const root = join(import.meta.dir, "..");
  const list = readFileSync(join(root, "docs/lessons.md"), "utf8");
  const named = [...list.matchAll(/`([\w/]+(?:\.test\.ts|\.zig))` "([^"]+)"/g)];
  const missing = named.filter(([, path = "", name = ""]) => {
    return !readFileSync(join(root, path), "utf8").includes(`"${name}"`);
  });
  expect([named.length > 30, missing.map(([text]) => text)]).toEqual([true, []]);
});

// Descriptors passed over Unix sockets by sendmsg and recvmsg: they arrive in order, work, are
// close-on-exec, and are closed and counted if nobody takes them.

import { describe, expect, test } from "bun:test";
import { closeSync, fstatSync, openSync, readFileSync, readSync, writeSync } from "node:fs";
import { devNull } from "node:os";
import { fileURLToPath } from "node:url";
import { prepare, Ring, UringError } from "../ts/index.ts";
import { descriptors, linkOf } from "./support/descriptors.ts";
import { rejected } from "./support/operations.ts";
import { until } from "./support/until.ts";

const HERE = fileURLToPath(import.meta.url);

/** Two connected Unix sockets. */
async function pair(ring: Ring, type: "stream" | "datagram" | "seqpacket" = "stream") {
  const name = `\0bun-uring-${crypto.randomUUID()}`;
  const listener = await ring.socket("unix", type);
  await ring.bind(listener, { unix: name });
  const client = await ring.socket("unix", type);
  if (type === "datagram") {
    await ring.connect(client, { unix: name });
    return ends(client, listener);
  }
  await ring.listen(listener);
  const [accepted] = await Promise.all([ring.accept(listener), ring.connect(client, {
    unix: name,
  })]);
  closeSync(listener);
  return ends(client, accepted.fd);
}

function ends(client: number, server: number) {
  const close = () => [client, server].forEach((fd) => closeSync(fd));
  return { client, server, [Symbol.dispose]: close };
}

/** Which file a descriptor is of, whatever its number. */
function identity(fd: number): string {
  const { dev, ino } = fstatSync(fd);
  return `${dev} ${ino}`;
}

/** FD_CLOEXEC, as the kernel tells it. */
function isCloseOnExec(fd: number): boolean {
  const flags = /^flags:\s+(\d+)/m.exec(readFileSync(`/proc/self/fdinfo/${fd}`, "utf8"))?.[1];
  return (Number.parseInt(flags ?? "", 8) & 0o2000000) !== 0;
}

const closeAll = (fds: readonly number[]) => fds.forEach((fd) => closeSync(fd));

describe.each(["stream", "datagram", "seqpacket"] as const)("over a %s socket", (type) => {
  test("descriptors arrive in order, with the message, and work", async () => {
    await using ring = new Ring();
    using both = await pair(ring, type);
    const own = [openSync(HERE, "r"), openSync(devNull, "r+"), openSync(HERE, "r")];
    const sent = await ring.sendmsg(both.client, ["take ", "these"], { descriptors: own });
    expect(sent.bytes).toBe(10);
    const bytes = new Uint8Array(32);
    const message = await ring.recvmsg(both.server, [bytes], { descriptors: 8 });
    const taken = message.descriptors;
    expect(Buffer.from(bytes.subarray(0, message.bytes)).toString()).toBe("take these");
    expect(taken.map(identity)).toEqual(own.map(identity));
    expect(taken.filter((fd) => own.includes(fd))).toEqual([]);
    expect(taken.map(isCloseOnExec)).toEqual([true, true, true]);
    const text = Buffer.alloc(14);
    readSync(taken[0] as number, text, 0, 14, 0);
    expect(text.toString()).toBe("// Descriptors");
    expect(writeSync(taken[1] as number, "x")).toBe(1);
    closeAll([...own, ...taken]);
  });

  test("messages with and without them keep their own", async () => {
    await using ring = new Ring();
    using both = await pair(ring, type);
    const one = openSync(devNull, "r");
    const two = openSync(HERE, "r");
    await ring.sendmsg(both.client, ["a"], { descriptors: [one] });
    await ring.sendmsg(both.client, ["b"]);
    await ring.sendmsg(both.client, ["c"], { descriptors: [two, one] });
    const seen: [string, string[]][] = [];
    for (let received = 0; received < 3;) {
      const bytes = new Uint8Array(8);
      const message = await ring.recvmsg(both.server, [bytes], { descriptors: 4 });
      received += message.bytes;
      const text = Buffer.from(bytes.subarray(0, message.bytes)).toString();
      seen.push([text, message.descriptors.map(identity)]);
      closeAll(message.descriptors);
    }
    // A stream may hand out bytes together with those before them, never with those behind.
    const expected = type === "stream"
      ? [["a", [identity(one)]], ["bc", [identity(two), identity(one)]]]
      : [["a", [identity(one)]], ["b", []], ["c", [identity(two), identity(one)]]];
    expect(seen).toEqual(expected as never);
    closeAll([one, two]);
  });
});

test("as many as the kernel passes at once: 253", async () => {
  await using ring = new Ring();
  using both = await pair(ring);
  const fd = openSync(devNull, "r");
  const many = Array<number>(253).fill(fd);
  await ring.sendmsg(both.client, ["x"], { descriptors: many });
  const message = await ring.recvmsg(both.server, [new Uint8Array(1)], { descriptors: 253 });
  expect(message.descriptors.length).toBe(253);
  expect(new Set(message.descriptors).size).toBe(253);
  closeAll([fd, ...message.descriptors]);
});

describe("what nobody takes", () => {
  /** Of those that are passed here: others of the process come and go, as they are collected. */
  const counts = () => descriptors().filter((fd) => linkOf(fd) === devNull).length;

  test("has no room: the kernel closes it", async () => {
    await using ring = new Ring();
    using both = await pair(ring);
    const fd = openSync(devNull, "r");
    const before = counts();
    await ring.sendmsg(both.client, ["x"], { descriptors: [fd, fd, fd] });
    const none = await ring.recvmsg(both.server, [new Uint8Array(1)]);
    expect(none.descriptors).toEqual([]);
    await ring.sendmsg(both.client, ["x"], { descriptors: [fd, fd, fd] });
    const one = await ring.recvmsg(both.server, [new Uint8Array(1)], { descriptors: 1 });
    expect(one.descriptors.length).toBe(1);
    closeAll(one.descriptors);
    expect(counts()).toBe(before);
    closeSync(fd);
  });

  test("is in an operation that is disposed of, or forgotten: it is closed", async () => {
    await using ring = new Ring();
    using both = await pair(ring);
    const fd = openSync(devNull, "r");
    const before = counts();
    await ring.sendmsg(both.client, ["xy"], { descriptors: [fd, fd] });
    const disposed = ring.recvmsg(both.server, [new Uint8Array(1)], { descriptors: 2 });
    await ring.drain();
    disposed[Symbol.dispose]();
    expect([counts(), ring.stats().descriptors_reclaimed]).toEqual([before, 2]);
    await ring.sendmsg(both.client, ["x"], { descriptors: [fd] });
    // Without a handle that anybody holds, nor a callback.
    (() => void ring.recvmsg(both.server, [new Uint8Array(8)], { descriptors: 2 }))();
    await ring.drain();
    await until(() => {
      Bun.gc(true);
      return ring.stats().descriptors_reclaimed === 3;
    });
    expect(counts()).toBe(before);
    closeSync(fd);
  });

  test("comes while the ring closes: it is closed", async () => {
    const ring = new Ring();
    const fd = openSync(devNull, "r");
    const before = counts();
    const both = await pair(ring);
    await ring.sendmsg(both.client, ["x"], { descriptors: [fd] });
    ring.recvmsg(both.server, [new Uint8Array(1)], { descriptors: 1 });
    await ring.close({ cancel: true });
    both[Symbol.dispose]();
    await until(() => counts() <= before);
    closeSync(fd);
  });
});

describe("the callback and prepared forms", () => {
  test("a callback gets them with the message", async () => {
    await using ring = new Ring();
    using both = await pair(ring);
    const fd = openSync(devNull, "r");
    const got = Promise.withResolvers<readonly number[]>();
    ring.recvmsg(both.server, [new Uint8Array(4)], { descriptors: 2 }, (_result, message) => {
      got.resolve(message.descriptors);
    });
    const one = prepare.sendmsg({ descriptors: [fd] }).file(both.client).buffer(["x"]);
    const batch = ring.batch([one]);
    expect((await batch).cause).toBeNull();
    const taken = await got.promise;
    expect(taken.map(identity)).toEqual([identity(fd)]);
    closeAll([fd, ...taken]);
  });

  test("an operation that fails has none", async () => {
    await using ring = new Ring();
    using both = await pair(ring);
    const operation = ring.recvmsg(both.server, [new Uint8Array(4)], { descriptors: 2 });
    operation.cancel();
    expect((await rejected(operation)).code).toBe("ECANCELED");
    const late = ring.recvmsg(both.server, [new Uint8Array(4)], { descriptors: 2, timeout: 5 });
    expect((await rejected(late)).code).toBe("ETIMEDOUT");
    expect(ring.stats().descriptors_dropped).toBe(0);
  });
});

describe("what cannot be passed", () => {
  const wrong = [null, 7, "7", [-1], [1.5], ["1"], [2 ** 31], Array(254).fill(0), {}];

  test.each(wrong)("sendmsg refuses %p as descriptors", async (given) => {
    await using ring = new Ring();
    const call = () => ring.sendmsg(1, ["x"], { descriptors: given as never });
    expect(call).toThrow(UringError);
    expect(call).toThrow("descriptor");
  });

  test.each([-1, 254, 1.5, "1", true])("recvmsg refuses room for %p", async (given) => {
    await using ring = new Ring();
    const call = () => ring.recvmsg(1, [new Uint8Array(1)], { descriptors: given as never });
    expect(call).toThrow("descriptors must be an integer from 0 to 253");
  });

  test("a descriptor that is not open fails in the completion", async () => {
    await using ring = new Ring();
    using both = await pair(ring);
    const closed = rejected(ring.sendmsg(both.client, ["x"], { descriptors: [999_999] }));
    expect((await closed).code).toBe("EBADF");
    const whole = await ring.sendmsg(both.client, ["still"]);
    expect(whole.bytes).toBe(5);
  });
});

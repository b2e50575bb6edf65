// What a chain promises when something comes between: a cancel, a time-out, a full queue, a member
// that never starts, a kind that the ring does not know.

import { expect, test } from "bun:test";
import { closeSync, writeSync } from "node:fs";
import { prepare, Ring, type BatchResult } from "../ts/index.ts";
import { file, pipe, rejected, thrown } from "./support/operations.ts";

const outcomes = ({ members }: BatchResult) =>
  members.map((member) => (member.status === "done" ? "done" : member.error.code));

test("operations without a single byte end with 0", async () => {
  await using ring = new Ring();
  using own = file("content");
  const nothing = new Uint8Array(0);
  expect((await ring.read(own.fd, nothing, { at: 0 })).bytes).toBe(0);
  expect((await ring.write(own.fd, nothing, { at: 0 })).bytes).toBe(0);
  expect((await ring.read(own.fd, new ArrayBuffer(0), { at: 0 })).bytes).toBe(0);
  expect(own.text()).toBe("content");
});

test("a close at the end of a chain waits for the write before it", async () => {
  await using ring = new Ring();
  using own = file();
  const { fd } = await ring.openat(own.path, "r+").then((opened) => ({ fd: Number(opened) }));
  const result = await ring.link([
    prepare.write().file(fd).buffer("data").at(0),
    prepare.close().file(fd),
  ]);
  expect([outcomes(result), own.text()]).toEqual([["done", "done"], "data"]);
});

test("a close in a chain does not run while the read before it waits", async () => {
  await using ring = new Ring();
  using first = pipe();
  using second = pipe();
  const waiting = ring.read(second.fd, new Uint8Array(4));
  const batch = ring.link([
    prepare.read().file(first.fd).buffer(new Uint8Array(4)),
    prepare.fsync().file(second.fd),
  ]);
  ring.submit();
  waiting.cancel();
  expect((await rejected(waiting)).code).toBe("ECANCELED");
  expect(batch.operations.map(({ pending }) => pending)).toEqual([true, true]);
  writeSync(first.fd, "abcd");
  expect(outcomes(await batch)).toEqual(["done", "EINVAL"]);
});

test("a member cancelled before it was submitted breaks its chain", async () => {
  await using ring = new Ring();
  using own = file();
  const batch = ring.link([
    prepare.write().file(own.fd).buffer("first").at(0),
    prepare.write().file(own.fd).buffer("second").at(5),
  ]);
  batch.operations[0]?.cancel();
  expect(outcomes(await batch)).toEqual(["ECANCELED", "ECANCELED"]);
  expect(own.text()).toBe("");
});

test("a member that has not started yet is cancelled when its turn comes", async () => {
  await using ring = new Ring();
  using first = pipe();
  using second = pipe();
  const batch = ring.link(
    [first, second].map(({ fd }) => prepare.read().file(fd).buffer(new Uint8Array(4))),
    { hard: true },
  );
  ring.submit();
  expect(batch.operations[1]?.cancel()).toBe(true);
  writeSync(first.fd, "abcd");
  expect(outcomes(await batch)).toEqual(["done", "ECANCELED"]);
});

test("a chain broken by a failure is not taken for a time-out", async () => {
  await using ring = new Ring();
  using own = file();
  const result = await ring.link([
    prepare.fsync().file(9999),
    prepare.write().file(own.fd).buffer("x").timeout(5000),
  ]);
  expect(outcomes(result)).toEqual(["EBADF", "ECANCELED"]);
});

test("a hard link holds although its member has a time-out", async () => {
  await using ring = new Ring();
  using own = file();
  const members = [
    prepare.fsync().file(9999).timeout(5000),
    prepare.write().file(own.fd).buffer("x"),
  ];
  expect(outcomes(await ring.link(members, { hard: true }))).toEqual(["EBADF", "done"]);
});

test("a chain whose last member never starts catches nobody else", async () => {
  await using ring = new Ring();
  using own = file();
  using idle = pipe();
  const batch = ring.link([
    prepare.read().file(idle.fd).buffer(new Uint8Array(4)),
    prepare.write().file(own.fd).buffer("x").signal(AbortSignal.abort()),
  ]);
  expect((await ring.write(own.fd, Buffer.from("stranger"), { at: 0 })).bytes).toBe(8);
  expect(batch.operations[0]?.pending).toBe(true);
  batch.operations[0]?.cancel();
  await batch;
});

test("what a plain call does is refused behind another member of a chain", async () => {
  await using ring = new Ring({ disable: ["ftruncate"] });
  using own = file("0123456789");
  const write = () => prepare.write().file(own.fd).buffer("ab").at(0);
  const refused = thrown(() => ring.link([write(), prepare.ftruncate(4).file(own.fd)]));
  expect([refused.code, own.text()]).toEqual(["EOPNOTSUPP", "0123456789"]);
  const result = await ring.link([prepare.ftruncate(4).file(own.fd), write()]);
  expect([outcomes(result), own.text()]).toEqual([["done", "done"], "ab23"]);
});

test("a plain call that fails breaks its chain", async () => {
  await using ring = new Ring({ disable: ["ftruncate"] });
  using own = file("0123456789");
  const result = await ring.link([
    prepare.ftruncate(4).file(9999),
    prepare.write().file(own.fd).buffer("ab").at(0),
  ]);
  expect([outcomes(result), own.text()]).toEqual([["EBADF", "ECANCELED"], "0123456789"]);
});

test("a write that waits in the queue keeps the file that it was started on", async () => {
  await using ring = new Ring();
  using one = file();
  using other = file();
  const [registered] = ring.files.register([one.fd]);
  if (registered === undefined) throw new Error("no registered file");
  const writing = ring.write(registered, Buffer.from("mine"), { at: 0 });
  ring.files.update(0, other.fd);
  await writing;
  expect([one.text(), other.text()]).toEqual(["mine", ""]);
});

test("a registered file stays what it is when its descriptor is closed", async () => {
  await using ring = new Ring({ connections: 16 });
  using one = file();
  const { fd } = await ring.openat(one.path, "r+").then((opened) => ({ fd: Number(opened) }));
  const [registered] = ring.files.register([fd]);
  if (registered === undefined) throw new Error("no registered file");
  closeSync(fd);
  using other = file();
  await ring.write(registered, Buffer.from("mine"), { at: 0 });
  expect([one.text(), other.text()]).toEqual(["mine", ""]);
});

test("a cancelled splice says that it was cancelled", async () => {
  await using ring = new Ring();
  using idle = pipe();
  using own = file();
  const splicing = ring.splice(idle.fd, own.fd, 10);
  await ring.nop();
  splicing.cancel();
  expect((await rejected(splicing)).code).toBe("ECANCELED");
});

// Chains and batches of prepared operations: what each member came to, and why.
//
// Link flags are set when a member is started; a chain whose first members went out earlier would
// lose its link, so all of them go out together or none.

import { describe, expect, test } from "bun:test";
import { prepare, Ring, type BatchResult } from "../ts/index.ts";
import { file, thrown } from "./support/operations.ts";

const outcomes = ({ members }: BatchResult) =>
  members.map((member) => (member.status === "done" ? "done" : [member.status, member.error.code]));

describe("a chain", () => {
  test("runs its members in order", async () => {
    await using ring = new Ring();
    using own = file();
    const bytes = new Uint8Array(5);
    const result = await ring.link([
      prepare.write().file(own.fd).buffer("chain").at(0),
      prepare.fsync().file(own.fd),
      prepare.read().file(own.fd).buffer(bytes).at(0),
    ]);
    expect([outcomes(result), result.cause]).toEqual([["done", "done", "done"], null]);
    expect(Buffer.from(bytes).toString()).toBe("chain");
  });

  test("ends at the member that fails; the rest is cancelled because of it", async () => {
    await using ring = new Ring();
    using own = file();
    const result = await ring.link([
      prepare.nop(),
      prepare.fsync().file(9999),
      prepare.write().file(own.fd).buffer("never").at(0),
      prepare.nop(),
    ]);
    expect(outcomes(result)).toEqual([
      "done", ["failed", "EBADF"], ["cancelled", "ECANCELED"], ["cancelled", "ECANCELED"],
    ]);
    expect([result.cause, own.text()]).toEqual([1, ""]);
    const [, failed, third] = result.members;
    if (third?.status !== "cancelled" || failed?.status !== "failed") throw new Error("statuses");
    expect([third.cause, third.error.cause === failed.error]).toEqual([1, true]);
  });

  test("ends at a short read, which is its cause without being an error", async () => {
    await using ring = new Ring();
    using own = file("abc");
    const result = await ring.link([
      prepare.read().file(own.fd).buffer(new Uint8Array(10)).at(0),
      prepare.nop(),
    ]);
    expect(outcomes(result)).toEqual(["done", ["cancelled", "ECANCELED"]]);
    expect(result.cause).toBe(0);
  });

  test("of hard links goes on after a failure", async () => {
    await using ring = new Ring();
    using own = file();
    const result = await ring.link([
      prepare.fsync().file(9999),
      prepare.write().file(own.fd).buffer("anyway").at(0),
    ], { hard: true });
    expect([outcomes(result), own.text()]).toEqual([[["failed", "EBADF"], "done"], "anyway"]);
  });

  test("cancelled on request says so, and why the rest did not run", async () => {
    await using ring = new Ring();
    const chain = ring.link([prepare.timeout(60_000), prepare.nop()]);
    ring.submit();
    expect([chain.pending, chain.operations[0]?.cancel()]).toEqual([true, true]);
    const result = await chain;
    expect(outcomes(result)).toEqual([["failed", "ECANCELED"], ["cancelled", "ECANCELED"]]);
    expect(result.cause).toBe(0);
  });

  test("keeps its link after a submission of its own before it", async () => {
    await using ring = new Ring();
    using own = file();
    ring.nop();
    ring.submit();
    const result = await ring.link([
      prepare.fsync().file(9999),
      prepare.write().file(own.fd).buffer("never").at(0),
    ]);
    expect([outcomes(result).length, own.text()]).toEqual([2, ""]);
  });

  test("leaves what is started after it alone", async () => {
    await using ring = new Ring();
    const chain = ring.link([prepare.nop(), prepare.fsync().file(9999)]);
    const after = ring.nop();
    expect([(await chain).cause, await after]).toEqual([1, 0]);
  });
});

describe("a batch", () => {
  test("goes out together, each member for itself", async () => {
    await using ring = new Ring();
    const result = await ring.batch([prepare.nop(), prepare.fsync().file(9999), prepare.nop()]);
    expect(outcomes(result)).toEqual(["done", ["failed", "EBADF"], "done"]);
  });

  test("larger than the submission queue is refused whole, and memory comes back", async () => {
    await using ring = new Ring({ entries: 4 });
    const buffer = new ArrayBuffer(16);
    const members = [
      prepare.write().file(1).buffer(buffer),
      ...Array.from({ length: 8 }, () => prepare.nop()),
    ];
    const error = thrown(() => ring.batch(members));
    expect([error.code, ring.pendingCount, ring.poll()]).toEqual(["EINVAL", 0, 0]);
    const [first] = error.operations as PromiseLike<unknown>[];
    const handedBack = await Promise.resolve(first).catch((failure) => failure.buffer);
    expect((handedBack as ArrayBuffer).byteLength).toBe(16);
    expect(await ring.nop()).toBe(0);
  });

  test("with a member that is refused runs none", async () => {
    await using ring = new Ring();
    using own = file();
    const error = thrown(() => ring.batch([
      prepare.write().file(own.fd).buffer("never").at(0),
      prepare.fsync().file(-1),
    ]));
    expect(error.code).toBe("EINVAL");
    await ring.drain();
    expect(own.text()).toBe("");
  });
});

describe("a prepared operation", () => {
  test("is consumed by its submission", async () => {
    await using ring = new Ring();
    const prepared = prepare.nop();
    expect(await prepared.submit(ring)).toBe(0);
    expect(thrown(() => prepared.submit(ring)).message).toContain("submitted already");
    expect(thrown(() => ring.link([prepared])).code).toBe("EINVAL");
  });

  test("that lacks something says what, where the type checker was not asked", async () => {
    await using ring = new Ring();
    const lacking = prepare.read().file(0) as unknown as ReturnType<typeof prepare.nop>;
    expect(thrown(() => lacking.submit(ring)).message).toContain("buffer is not set");
    expect(thrown(() => ring.batch([{} as never])).code).toBe("EINVAL");
    expect(thrown(() => ring.batch([])).code).toBe("EINVAL");
  });

  test("takes position, time-out and signal", async () => {
    await using ring = new Ring();
    using own = file("0123456789");
    const bytes = new Uint8Array(2);
    const { signal } = new AbortController();
    const prepared = prepare.read().file(own.fd).buffer(bytes).at(4);
    await prepared.timeout(60_000).signal(signal).submit(ring);
    expect(Buffer.from(bytes).toString()).toBe("45");
  });
});

// The end of a ring: with operations pending, in a callback, by collection; what it leaves alone.
//
// How a whole process or thread ends is in teardown.test.ts.

import { describe, expect, test } from "bun:test";
import { openSync } from "node:fs";
import { Ring } from "../ts/index.ts";

describe("close", () => {
  test("with operations pending rejects with EBUSY and lists them, all of them ended", async () => {
    const ring = new Ring();
    const timer = ring.timeout(60_000);
    const outcome = timer.catch((error) => (error as { code: string }).code);
    const error = await Promise.resolve(ring.close()).then(() => null, (reason) => reason);
    expect([error.code, error.operation]).toEqual(["EBUSY", "close"]);
    expect(error.message).toMatch(/timeout, 0\.\d s/);
    expect([await outcome, ring.closed, ring.pendingCount]).toEqual(["ECANCELED", true, 0]);
  });

  test("with cancel, or by disposal, is silent", async () => {
    const ring = new Ring();
    ring.timeout(60_000);
    expect(await ring.close({ cancel: true })).toBeUndefined();
    {
      await using other = new Ring();
      other.timeout(60_000);
    }
  });

  test("never closes a descriptor that was passed in", async () => {
    const ring = new Ring();
    const fd = openSync("/dev/zero", "r");
    ring.read(fd, new Uint8Array(8));
    await ring.close({ cancel: true });
    await using other = new Ring();
    expect((await other.read(fd, new Uint8Array(8))).bytes).toBe(8);
    await other.close(fd);
  });

  test("inside a callback takes effect after the dispatch; what was ready is told", async () => {
    const ring = new Ring();
    const seen: string[] = [];
    ring.nop(() => {
      void ring.close({ cancel: true });
      seen.push(`closing ${ring.closed}`);
    });
    ring.nop(() => seen.push("second"));
    await ring.drain();
    await ring.close();
    expect([seen, ring.closed]).toEqual([["closing false", "second"], true]);
  });

  test("a ring that is collected open says so, once, and is closed", async () => {
    const logged: string[] = [];
    (() => {
      for (let i = 0; i < 4; i++) new Ring({ onLog: (message) => logged.push(message) });
    })();
    for (let i = 0; i < 50 && logged.length < 3; i++) {
      Bun.gc(true);
      await new Promise((resolve) => setImmediate(resolve));
    }
    expect(logged.length).toBeGreaterThanOrEqual(3);
    expect(logged[0]).toContain("garbage-collected open");
  });
});

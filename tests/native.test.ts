// The native half does not trust its caller: garbage in every argument is a negative errno.
// It runs in a process of its own, where a crash is one failed test and not the end of the suite.

import { describe, expect, test } from "bun:test";
import { connect, listen, Ring } from "../ts/index.ts";
import { native } from "../ts/native.ts";
import { ERRNO } from "../ts/abi.ts";
import { answer, program } from "./support/child.ts";
import { until } from "./support/until.ts";

describe("native functions", () => {
  test.each(["1", "2", "3", String(Date.now() % 1e6)])(
    "answer garbage with an errno and go on working, seed %s",
    async (seed) => {
      const outcome = await answer<{ unexpected: string[]; opened: number; text: string }>(
        program("garbage"),
        { arguments: [seed] },
      );
      expect(outcome.unexpected).toEqual([]);
      expect(outcome.text).toBe("still here");
    },
  );

  test("a stale handle is refused with EBADF, also when its place is taken", async () => {
    const closed = new Ring();
    const { handle } = closed;
    await closed.close();
    await using ring = new Ring();
    expect(ring.handle).not.toBe(handle);
    expect(native.bu_ring_turn(handle, 0, 0)).toBe(-ERRNO.EBADF);
    expect(native.bu_nop(handle)).toBe(-ERRNO.EBADF);
    expect(native.bu_ring_close(handle, 0)).toBe(-ERRNO.EBADF);
    expect(ring.pendingCount).toBe(0);
  });

  test("a hundred rings may follow one another", async () => {
    for (let i = 0; i < 100; i++) {
      await using ring = new Ring({ entries: 8, receiveBuffers: 1, connections: 2 });
      expect(ring.closed).toBe(false);
    }
  });

  test("more connections than slots are refused; a slot that is free again serves", async () => {
    await using ring = new Ring({ connections: 4 });
    const opened: { terminate(): void }[] = [];
    const two = Promise.withResolvers<void>();
    let closed = 0;
    const gone = Promise.withResolvers<void>();
    using listener = listen({
      hostname: "127.0.0.1",
      port: 0,
      ring,
      socket: {
        open: (socket) => {
          opened.push(socket);
          if (opened.length === 2) two.resolve();
        },
        data() {},
        close: () => {
          if (++closed === 2) gone.resolve();
        },
      },
    });
    const place = { hostname: "127.0.0.1", port: listener.port, ring, socket: {} };
    await Promise.all([connect(place), connect(place)]);
    await two.promise;
    const refused: unknown = await connect(place).catch((error: unknown) => error);
    expect((refused as { code: string }).code).toBe("ENOMEM");
    expect((refused as { phase: string }).phase).toBe("submission");
    for (const socket of opened) socket.terminate();
    await gone.promise;
    // A slot is claimed again from the next turn of the ring on.
    await until(() => ring.pendingCount === 1, "only the listener is open");
    using again = await connect(place);
    expect(again.readyState).toBe(1);
  });
});

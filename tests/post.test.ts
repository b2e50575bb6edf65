// Posts within one thread: tokens, keys, data, handlers, bounds, waiting, both doorbells.
//
// What other threads do is in post_threads.test.ts; here every step is in order.

import { describe, expect, test } from "bun:test";
import { NativeBlock, Ring, type PostData, type RingOptions } from "../ts/index.ts";
import { native } from "../ts/native.ts";
import { features } from "./support/backend.ts";
import { program, run } from "./support/child.ts";
import { pipe, rejected, thrown } from "./support/operations.ts";
import { until } from "./support/until.ts";

const DOORBELLS: [string, RingOptions][] = [["an eventfd as doorbell", {}]];
// The twin, and an older kernel, have no ring that a message could go to.
if (features.has("msg_ring")) {
  DOORBELLS.push(["messages of MSG_RING", { disable: ["doorbell"] }]);
}

/** A ring, a poster to it, and what arrives. */
function open(options: RingOptions = {}) {
  const ring = new Ring(options);
  const arrived: [key: number, data: PostData][] = [];
  const posts = ring.onPost([0, 0xffff_ffff], (data, key) => arrived.push([key, data]));
  const poster = Ring.open(ring.token);
  return { ring, poster, posts, arrived, [Symbol.asyncDispose]: () => ring.close() };
}

describe.each(DOORBELLS)("with %s", (_name, options) => {
  test("posts arrive in order, once each, and count as completions", async () => {
    await using own = open(options);
    const { ring, poster, arrived } = own;
    for (let i = 0; i < 1000; i++) poster.post(i % 7, i);
    expect(ring.waitSync() + ring.runUntilEmptySync()).toBe(1000);
    expect(arrived).toEqual(Array.from({ length: 1000 }, (_, i) => [i % 7, i]));
  });

  test("a post wakes a ring that sleeps in Bun's loop, again and again", async () => {
    await using own = open(options);
    for (let i = 0; i < 5; i++) {
      const waiting = own.ring.wait();
      // Nothing else moves meanwhile: the ring is asleep when the timer comes.
      const timer = setInterval(() => own.poster.post(1, i), 60);
      expect(await waiting).toBe(1);
      clearInterval(timer);
    }
    expect(own.arrived.slice(0, 2)).toEqual([[1, 0], [1, 1]]);
  });

  test("a wake-up is no event and ends a wait with 0", async () => {
    await using own = open(options);
    own.poster.wakeup();
    expect(own.ring.waitSync()).toBe(0);
    const waiting = own.ring.wait();
    own.poster.wakeup();
    expect(await waiting).toBe(0);
    expect([own.arrived, own.ring.stats().posts_unhandled]).toEqual([[], 0]);
  });

  test("a stop ends run after what is ready, also one that came before", async () => {
    await using own = open(options);
    own.poster.stop();
    for (let i = 0; i < 3; i++) own.poster.post(1, i);
    expect(await own.ring.run()).toBe(3);
    const running = own.ring.run();
    own.poster.post(1, 3);
    own.poster.stop();
    expect(await running).toBe(1);
  });
});

test("without a doorbell of either kind there is no token", async () => {
  await using ring = new Ring({ disable: ["doorbell", "msg_ring"] });
  expect(thrown(() => ring.token).code).toBe("EOPNOTSUPP");
});

describe("a token", () => {
  test("is the same each time, goes through a structured clone, as does its id", async () => {
    await using own = open();
    const { token } = own.ring;
    expect(own.ring.token).toBe(token);
    expect(Number.isSafeInteger(token.id) && token.id > 0).toBeTrue();
    const forms = [token, structuredClone(token), token.id, JSON.parse(JSON.stringify(token))];
    forms.forEach((form, i) => Ring.open(form as number).post(i, i));
    own.ring.poll();
    expect(own.arrived).toEqual([[0, 0], [1, 1], [2, 2], [3, 3]]);
  });

  test("of no ring is refused", async () => {
    await using ring = new Ring();
    const { token } = ring;
    const closed = new Ring();
    const { id } = closed.token;
    await closed.close();
    token.unref();
    for (const wrong of [undefined, null, "1", 0, -1, 0.5, 2 ** 31, {}, Number.NaN, [token.id]]) {
      expect(thrown(() => Ring.open(wrong as number)).code).toBe("EINVAL");
    }
    for (const stale of [id, 1023, 1, 2 ** 31 - 1]) {
      const error = thrown(() => Ring.open(stale));
      expect([error.code, error.operation]).toEqual(["ESHUTDOWN", "Ring.open"]);
    }
  });

  test.each([
    ["keeps the process alive", "token", false],
    ["does not when it is unref'ed", "token unref", true],
    ["does again when it is ref'ed", "token unref ref", false],
    ["does not when the ring is closed", "token close", true],
  ])("%s", async (_name, steps, ends) => {
    // One that stays is ended by its own unref'ed timer.
    const options = { arguments: steps.split(" ") };
    const { code, stdout, stderr } = await run(program("token"), options);
    expect([code, stdout, stderr]).toEqual([ends ? 0 : 3, "", ""]);
  });

  test("is not needed for posts of the ring's own thread, which keep it alive", async () => {
    const { code, stdout } = await run(program("token"), { arguments: ["post"] });
    expect([code, stdout]).toEqual([0, `${Array.from({ length: 3000 }, (_, i) => i).join()}\n`]);
  });
});

describe("keys and data", () => {
  test("that are none are refused with EINVAL, and nothing is posted", async () => {
    await using own = open();
    const block = new NativeBlock(1);
    for (const key of [-1, 0.5, 2 ** 32, "1", null, undefined, Number.NaN, 1n, {}]) {
      expect(thrown(() => own.poster.post(key as number, 1)).code).toBe("EINVAL");
      expect(thrown(() => own.poster.post(key as number, block)).code).toBe("EINVAL");
      expect(thrown(() => own.ring.onPost(key as number, () => {})).code).toBe("EINVAL");
      expect(thrown(() => own.ring.onPost([0, key as number], () => {})).code).toBe("EINVAL");
    }
    const wrong = [0.5, 2 ** 53, -(2 ** 53), Number.NaN, Infinity, "1", null, undefined, 1n, {}];
    for (const data of [...wrong, new Uint8Array(1)]) {
      expect(thrown(() => own.poster.post(1, data as number)).code).toBe("EINVAL");
    }
    expect(thrown(() => own.ring.onPost([2, 1], () => {})).code).toBe("EINVAL");
    expect(thrown(() => own.ring.onPost(1, null as never)).code).toBe("EINVAL");
    expect([own.ring.poll(), own.arrived, block.byteLength]).toEqual([0, [], 1]);
  });

  test("at their limits arrive as they are", async () => {
    await using own = open();
    const all: [number, number][] = [
      [0, 0], [0xffff_ffff, Number.MAX_SAFE_INTEGER], [7, Number.MIN_SAFE_INTEGER], [1 << 20, -1],
    ];
    for (const [key, data] of all) own.poster.post(key, data);
    own.ring.poll();
    expect(own.arrived).toEqual(all);
  });
});

describe("handlers", () => {
  test("are found by key, then by the narrowest range, then by nobody", async () => {
    const logged: string[] = [];
    await using ring = new Ring({ onLog: (message) => logged.push(message) });
    const told: string[] = [];
    const note = (name: string) => (_data: number, key: number) => void told.push(`${name} ${key}`);
    ring.onPost([0, 100], note("wide"));
    ring.onPost([10, 20], note("narrow"));
    using five = ring.onPost(15, note("exact"));
    for (const key of [15, 12, 5, 101, 102]) ring.post(key, 1);
    ring.poll();
    five.remove();
    ring.post(15, 1);
    ring.poll();
    expect(told).toEqual(["exact 15", "narrow 12", "wide 5", "narrow 15"]);
    expect([ring.stats().posts_unhandled, logged.length]).toEqual([2, 1]);
    expect(logged[0]).toContain("key 101 has no handler");
  });

  test("of the same keys are refused until the first is removed", async () => {
    await using ring = new Ring();
    for (const keys of [3, [4, 6]] as const) {
      const first = ring.onPost(keys, () => {});
      expect(thrown(() => ring.onPost(keys, () => {})).code).toBe("EEXIST");
      first.remove();
      first.remove(); // of no consequence
      ring.onPost(keys, () => {})[Symbol.dispose]();
    }
  });

  test("that throw or reject stop nothing else", async () => {
    const { code, stdout } = await run(program("post_throws"));
    expect(code).toBe(0);
    expect(JSON.parse(stdout)).toEqual({
      handled: 4,
      told: [0, 1, 2, 3],
      errors: ["thrown 0", "rejected 1"],
    });
  });

  test("may post, which arrives in a later turn, and may not turn the ring", async () => {
    await using ring = new Ring();
    const told: number[] = [];
    ring.onPost(1, (data: number) => {
      told.push(data);
      expect(thrown(() => ring.poll()).code).toBe("EBUSY");
      if (data < 5) ring.post(1, data + 1);
    });
    ring.post(1, 0);
    expect([ring.poll(), told]).toEqual([1, [0]]);
    await ring.runUntilEmpty();
    expect(told).toEqual([0, 1, 2, 3, 4, 5]);
  });
});

describe("a mailbox", () => {
  test("that is full refuses with EAGAIN and loses nothing", async () => {
    await using own = open({ posts: 4 });
    for (let i = 0; i < 4; i++) own.poster.post(1, i);
    const error = thrown(() => own.poster.post(1, 4));
    expect([error.code, error.phase]).toEqual(["EAGAIN", "submission"]);
    expect(error.message).toContain("mailbox is full");
    using block = new NativeBlock(8);
    expect(thrown(() => own.poster.post(1, block)).code).toBe("EAGAIN");
    expect(block.byteLength).toBe(8); // still the caller's
    expect(own.ring.poll()).toBe(4);
    own.poster.post(1, 4);
    own.ring.poll();
    expect(own.arrived.map(([, data]) => data)).toEqual([0, 1, 2, 3, 4]);
  });

  test("of another size than a power of two is refused", () => {
    expect(thrown(() => new Ring({ posts: 3 })).code).toBe("EINVAL");
    expect(thrown(() => new Ring({ posts: 1 })).code).toBe("EINVAL");
  });

  test("of a ring that is closed refuses with ESHUTDOWN", async () => {
    const own = open();
    own.poster.post(1, 1);
    const closing = own.ring.close();
    await closing;
    for (const call of [
      () => own.poster.post(1, 1), () => own.poster.wakeup(), () => own.poster.stop(),
      () => own.poster.post(1, new NativeBlock(1)),
    ]) expect(thrown(call).code).toBe("ESHUTDOWN");
  });

  test("is not reached through a poster that was disposed of", async () => {
    await using own = open();
    const poster = Ring.open(own.ring.token);
    poster[Symbol.dispose]();
    for (const call of [() => poster.post(1, 1), () => poster.wakeup(), () => poster.stop()]) {
      expect(thrown(call).code).toBe("ESHUTDOWN");
    }
    own.poster.post(1, 1);
    expect(own.ring.poll()).toBe(1);
  });
});

describe("waiting", () => {
  test("with a token out waits, though nothing is pending", async () => {
    await using ring = new Ring();
    expect([ring.waitSync(), await ring.wait(), ring.runSomeSync()]).toEqual([0, 0, 0]);
    const poster = Ring.open(ring.token);
    ring.onPost(1, () => {});
    const started = performance.now();
    expect([ring.waitSync(20), await ring.wait(20)]).toEqual([0, 0]);
    expect(performance.now() - started).toBeGreaterThan(35);
    setImmediate(() => poster.post(1, 1));
    expect(await ring.wait()).toBe(1);
    // These are about what is pending, and nothing is.
    expect([ring.drainSync(), await ring.drain(), ring.runUntilEmptySync()]).toEqual([0, 0, 0]);
  });

  test("a wake-up before the wait ends the next one, and poll forgets it", async () => {
    await using own = open();
    const { ring, poster } = own;
    for (let i = 0; i < 3; i++) poster.wakeup();
    expect(await ring.wait()).toBe(0);
    expect(ring.waitSync(1)).toBe(0); // three were one
    poster.wakeup();
    expect(ring.poll()).toBe(0);
    setImmediate(() => poster.post(1, 1));
    expect(await ring.wait()).toBe(1);
  });

  test("a wake-up leaves drain, run and runSome alone", async () => {
    await using own = open();
    const timer = own.ring.timeout(60_000);
    own.poster.wakeup();
    expect((await rejected(own.ring.drain(5))).code).toBe("ETIMEDOUT");
    const some = own.ring.runSome();
    own.poster.wakeup();
    own.poster.post(1, 1);
    expect(await some).toBe(1);
    timer.cancel();
    await own.ring.drain();
  });

  test("stop ends every form of run, and is used up by it", async () => {
    await using own = open();
    const { ring, poster } = own;
    const timer = ring.timeout(60_000);
    for (const stop of [() => ring.stop(), () => poster.stop()]) {
      for (const form of [
        () => ring.run(), () => ring.runSome(), () => ring.runUntilEmpty(),
        () => ring.runSomeSync(), () => ring.runUntilEmptySync(),
      ]) {
        stop();
        expect(await form()).toBe(0);
      }
      for (const form of [() => ring.run(), () => ring.runSome(), () => ring.runUntilEmpty()]) {
        const running = form();
        setImmediate(stop);
        expect(await running).toBe(0);
      }
    }
    expect(ring.waitSync(1)).toBe(0);
    timer.cancel();
    expect(await ring.runUntilEmpty()).toBe(1);
  });

  test("runUntilEmpty takes every post, drain only what is pending", async () => {
    await using own = open();
    for (let i = 0; i < 3000; i++) own.poster.post(1, i);
    expect(own.ring.runUntilEmptySync()).toBe(3000);
    for (let i = 0; i < 3000; i++) own.poster.post(1, i);
    expect(await own.ring.runUntilEmpty()).toBe(3000);
    expect(own.arrived.length).toBe(6000);
  });

  test("runSome handles as many posts as it is told, the others keep", async () => {
    await using own = open();
    for (let i = 0; i < 5; i++) own.poster.post(1, i);
    expect([own.ring.runSomeSync(2), own.arrived.length]).toEqual([2, 2]);
    expect([await own.ring.runSome(1), own.arrived.length]).toEqual([1, 3]);
    expect([own.ring.poll(), own.arrived.length]).toEqual([2, 5]);
  });
});

describe("a block", () => {
  const blocks = () => native.bu_block_count();

  /** A block in the hands of nobody goes with the garbage. */
  async function collected(count: number): Promise<void> {
    await until(() => {
      Bun.gc(true);
      return blocks() === count;
    }, "blocks are freed");
  }

  test("moves: its bytes are empty here, and there without a copy", async () => {
    await using own = open();
    const before = blocks();
    const sent = new NativeBlock(new Uint8Array([1, 2, 3]));
    const view = sent.bytes.subarray(1);
    own.poster.post(1, sent);
    expect([sent.byteLength, sent.bytes.length, view.length]).toEqual([0, 0, 0]);
    expect(view[0]).toBeUndefined();
    own.ring.poll();
    const [, received] = own.arrived[0] as [number, NativeBlock];
    expect([...received.bytes]).toEqual([1, 2, 3]);
    expect(blocks()).toBe(before + 1);
    // Onwards, from whoever has it.
    received.bytes[0] = 9;
    own.poster.post(2, received);
    own.ring.poll();
    const [, second] = own.arrived[1] as [number, NativeBlock];
    expect([...second.bytes, received.byteLength]).toEqual([9, 2, 3, 0]);
    second[Symbol.dispose]();
    second[Symbol.dispose]();
    expect(blocks()).toBe(before);
  });

  test("that is empty or no block is refused, and is zeroed when it is new", () => {
    for (const source of [0, -1, 0.5, Number.NaN, 2 ** 40, "1", null, {}, new Uint8Array(0)]) {
      expect(thrown(() => new NativeBlock(source as number)).code).toBe("EINVAL");
    }
    using block = new NativeBlock(100_000);
    expect(block.bytes.every((byte) => byte === 0)).toBeTrue();
    expect(block.byteLength).toBe(100_000);
  });

  test("that was posted, disposed of or transferred is not posted", async () => {
    await using own = open();
    const before = blocks();
    const posted = new NativeBlock(1);
    own.poster.post(1, posted);
    const disposed = new NativeBlock(1);
    disposed[Symbol.dispose]();
    const transferred = new NativeBlock(1);
    const elsewhere = structuredClone(transferred.bytes.buffer, {
      transfer: [transferred.bytes.buffer],
    });
    for (const block of [posted, disposed, transferred]) {
      const error = thrown(() => own.poster.post(1, block));
      expect([error.code, block.byteLength]).toEqual(["EINVAL", 0]);
    }
    expect([own.ring.poll(), elsewhere.byteLength]).toEqual([1, 1]);
    (own.arrived[0]?.[1] as NativeBlock)[Symbol.dispose]();
    elsewhere.transfer(0);
    expect(blocks()).toBe(before);
  });

  test("is freed once when nobody has a handler, throws it away, or the ring closes", async () => {
    const before = blocks();
    const own = open({ onLog: () => {} });
    own.posts.remove();
    own.ring.onPost(1, () => {});
    own.ring.onPost(2, () => {
      throw new Error("not mine");
    });
    for (const key of [0, 1, 3]) own.poster.post(key, new NativeBlock(5000));
    own.ring.poll();
    own.ring.poll(); // what nobody took goes with the next turn
    await collected(before);
    for (let i = 0; i < 10; i++) own.poster.post(1, new NativeBlock(5000));
    expect(blocks()).toBe(before + 10);
    await own.ring.close();
    expect(blocks()).toBe(before);
    using late = new NativeBlock(1);
    expect(thrown(() => own.poster.post(1, late)).code).toBe("ESHUTDOWN");
    expect(blocks()).toBe(before + 1);
  });

  test("is freed once when it is forgotten, before a post and after", async () => {
    await using own = open();
    const before = blocks();
    (() => {
      for (let i = 0; i < 20; i++) {
        const block = new NativeBlock(4096);
        if (i % 2 === 0) own.poster.post(1, block);
      }
    })();
    own.ring.poll();
    expect(own.arrived.length).toBe(10);
    own.arrived.length = 0;
    await collected(before);
  });

  test("takes part in reads and writes like any memory", async () => {
    await using own = open();
    using fifo = pipe();
    using block = new NativeBlock(new Uint8Array([5, 6, 7]));
    expect(await own.ring.write(fifo.fd, block.bytes)).toMatchObject({ bytes: 3 });
    using other = new NativeBlock(3);
    expect(await own.ring.read(fifo.fd, other.bytes)).toMatchObject({ bytes: 3 });
    expect([...other.bytes]).toEqual([5, 6, 7]);
  });
});

// The byte queue of a Worker, in one thread: the cases of Neolith's queue, and those that its lock
// spares it: positions that wrap, a reader that dies with a message in its hands. Between threads
// it is tested with Workers: worker.test.ts.

import { describe, expect, test } from "bun:test";
import { ByteQueue, createQueue, type QueueShape } from "../ts/worker_queue.ts";

const options = { capacity: 4, messageSize: 32, dropOldest: false };
const bytes = (text: string) => Buffer.from(text);

/** Everything in it, in order. */
function takeAll(queue: ByteQueue): string[] {
  const texts: string[] = [];
  for (let message; (message = queue.take()) !== null; ) texts.push(`${Buffer.from(message)}`);
  return texts;
}

/** The same queue after so many messages: positions are words that wrap. */
function movedTo(position: number, given = options): QueueShape {
  const shape = createQueue(given);
  const words = new Int32Array(shape.memory);
  words[0] = position;
  words[1] = position;
  const cellWords = (words.length - 4) / given.capacity;
  for (let i = 0; i < given.capacity; i++) {
    const at = (position + i) | 0;
    words[4 + (at & (given.capacity - 1)) * cellWords] = at;
  }
  return shape;
}

describe("a queue", () => {
  test("is empty at first", () => {
    const queue = new ByteQueue(createQueue(options));
    expect(queue.take()).toBeNull();
    expect(queue.stats()).toEqual({
      capacity: 4, messageSize: 32, queued: 0, put: 0, dropped: 0,
    });
  });

  test("gives back what was put, as a copy", () => {
    const queue = new ByteQueue(createQueue(options));
    const message = bytes("Hello, World!");
    expect(queue.put(message)).toBe(true);
    message.fill(0);
    const taken = queue.take();
    expect(Buffer.from(taken ?? []).toString()).toBe("Hello, World!");
    expect([taken?.buffer.byteLength, queue.take()]).toEqual([13, null]);
  });

  test("takes messages of no bytes and of the most", () => {
    const queue = new ByteQueue(createQueue({ ...options, messageSize: 5 }));
    for (const text of ["", "12345"]) expect(queue.put(bytes(text))).toBe(true);
    expect(takeAll(queue)).toEqual(["", "12345"]);
  });

  test.each([0, 2 ** 31 - 3, -3])("keeps the order, refuses when full, from %d on", (from) => {
    const queue = new ByteQueue(movedTo(from));
    let next = 0;
    let expected = 0;
    for (let lap = 0; lap < 5; lap++) {
      while (queue.put(bytes(`${next}`))) next++;
      expect(queue.stats().queued).toBe(4);
      for (const text of takeAll(queue)) expect(text).toBe(`${expected++}`);
      expect(queue.stats().queued).toBe(0);
    }
    expect([next, expected, queue.stats().dropped]).toEqual([20, 20, 0]);
  });

  test.each([0, 2 ** 31 - 3, -3])("drops its oldest where it is told to, from %d on", (from) => {
    const dropping = { ...options, dropOldest: true };
    const queue = new ByteQueue(movedTo(from, dropping));
    for (let i = 0; i < 11; i++) expect(queue.put(bytes(`${i}`))).toBe(true);
    expect(queue.stats()).toMatchObject({ queued: 4, dropped: 7 });
    expect(takeAll(queue)).toEqual(["7", "8", "9", "10"]);
    queue.put(bytes("next"));
    expect(takeAll(queue)).toEqual(["next"]);
  });

  test("counts what was put, also what was taken since", () => {
    const queue = new ByteQueue(createQueue(options));
    queue.put(bytes("Test"));
    expect(queue.stats()).toMatchObject({ queued: 1, put: 1 });
    queue.take();
    expect(queue.stats()).toMatchObject({ queued: 0, put: 1 });
  });

  test("a reader that died with a message does not hold up the one that puts for ever", () => {
    const shape = createQueue({ ...options, dropOldest: true });
    const queue = new ByteQueue(shape);
    for (let i = 0; i < 4; i++) queue.put(bytes(`${i}`));
    // The reader has claimed the first message and never gives its cell back.
    Atomics.add(new Int32Array(shape.memory), 0, 1);
    expect(queue.put(bytes("4"))).toBe(false);
    expect(takeAll(queue)).toEqual(["1", "2", "3"]);
  });

  test("a signal ends a wait that began before it was looked at", () => {
    const queue = new ByteQueue(createQueue(options));
    const seen = queue.signals;
    queue.signal();
    queue.wait(seen, 60_000); // it would not end in the time of a test
    expect(queue.take()).toBeNull();
  });
});

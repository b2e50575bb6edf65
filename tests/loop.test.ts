// The ring inside Bun's event loop: whatever JavaScript starts an operation, it leaves before the
// loop sleeps; handlers may start anything; promises go on before the next event; Bun's own timers
// stay on time under load, and an idle process sleeps.

import { describe, expect, test } from "bun:test";
import { closeSync, readdirSync, readFileSync, writeSync } from "node:fs";
import { readFile } from "node:fs/promises";
import { connect, listen, Ring, type Socket } from "../ts/index.ts";
import { Loop } from "../ts/loop.ts";
import { answer, program, start } from "./support/child.ts";
import { eventfd } from "./support/descriptors.ts";
import { End, pair } from "./support/pair.ts";
import { turns, until } from "./support/until.ts";

/** More turns than the loop spins: the ring sleeps afterwards. */
const ASLEEP = 60;

/** Makes an eventfd readable. */
function add(bell: number): void {
  writeSync(bell, new Uint8Array(BigUint64Array.of(1n).buffer));
}

/** Runs `work` from somewhere in Bun's loop, when the ring sleeps. */
const ORIGINS: Record<string, (work: () => void) => unknown> = {
  "the test itself": (work) => work(),
  "a microtask": (work) => queueMicrotask(work),
  "a promise": (work) => Promise.resolve().then(work),
  "process.nextTick": (work) => process.nextTick(work),
  "an immediate": (work) => setImmediate(work),
  "a timer"(work) {
    const timer = setInterval(() => {
      clearInterval(timer);
      work();
    }, 5);
  },
  async "an answer of fetch"(work) {
    using server = Bun.serve({ hostname: "127.0.0.1", port: 0, fetch: () => new Response("ok") });
    await fetch(server.url).then(work);
  },
  "a request of Bun.serve"(work) {
    const server = Bun.serve({
      hostname: "127.0.0.1",
      port: 0,
      fetch() {
        work();
        return new Response("ok");
      },
    });
    return fetch(server.url).finally(() => server.stop());
  },
  "a file that was read": (work) => readFile(import.meta.path).then(work),
  "a message"(work) {
    const { port1, port2 } = new MessageChannel();
    port1.onmessage = () => {
      port1.close();
      work();
    };
    port2.postMessage("go");
  },
  async "a handler of Bun.listen"(work) {
    const data = () => {
      work();
      server.stop(true);
    };
    const server = Bun.listen({ hostname: "127.0.0.1", port: 0, socket: { data } });
    const client = await Bun.connect({
      hostname: "127.0.0.1",
      port: server.port,
      socket: { data() {} },
    });
    client.write("go");
  },
};

describe.each(Object.keys(ORIGINS))("from %s", (name) => {
  const from = (work: () => void) => ORIGINS[name]?.(work);

  test("a write, a connect and an end leave although the ring slept", async () => {
    using both = await pair({ allowHalfOpen: true });
    const { client, server, atServer, atClient } = both;
    await turns(ASLEEP);
    void from(() => void client.write("one"));
    expect((await atServer.received(3)).toString()).toBe("one");

    await turns(ASLEEP);
    const opened = Promise.withResolvers<Socket>();
    const place = { hostname: "127.0.0.1", port: both.listener.port };
    void from(() => opened.resolve(connect({ ...place, socket: {} })));
    (await opened.promise).terminate();

    await turns(ASLEEP);
    void from(() => server.end("two"));
    await atClient.ended.promise;
    expect(atClient.bytes.toString()).toBe("two");
  });

  test("a ring's first listener accepts", async () => {
    await using ring = new Ring();
    const accepted = Promise.withResolvers<void>();
    const socket = { open: () => accepted.resolve(), data() {} };
    void from(() => {
      const listener = listen({ hostname: "127.0.0.1", port: 0, ring, socket });
      void connect({ hostname: "127.0.0.1", port: listener.port, ring, socket: {} });
    });
    await accepted.promise;
    for (const listener of ring.listeners) (listener as { stop?(): void } | undefined)?.stop?.();
  });
});

describe("inside a handler", () => {
  test("one may write to and close any other connection", async () => {
    using one = await pair();
    using two = await pair();
    const relayed = new End();
    using relay = await pair({
      serverSocket: {
        data(_socket: Socket, chunk: Buffer) {
          one.server.write(`1${chunk}`);
          two.server.write(`2${chunk}`);
          two.server.end();
          relayed.chunks.push(chunk);
        },
      },
    });
    relay.client.write("go");
    expect((await one.atClient.received(3)).toString()).toBe("1go");
    await two.atClient.ended.promise;
    expect(two.atClient.bytes.toString()).toBe("2go");
    expect(relayed.chunks).toHaveLength(1);
  });

  test("one may open listeners and connections", async () => {
    const inner = new End();
    const done = Promise.withResolvers<void>();
    using both = await pair({
      serverSocket: {
        async data(socket: Socket) {
          using listener = listen({
            hostname: "127.0.0.1",
            port: 0,
            socket: { data: (peer, chunk) => void peer.end(chunk) },
          });
          const place = { hostname: "127.0.0.1", port: listener.port };
          const own = await connect({ ...place, socket: inner.handlers });
          own.write("inside");
          await inner.ended.promise;
          socket.end(inner.bytes);
          done.resolve();
        },
      },
    });
    both.client.write("x");
    await done.promise;
    await both.atClient.ended.promise;
    expect(both.atClient.bytes.toString()).toBe("inside");
  });

  test("submit and flush send at once, and run no other handler meanwhile", async () => {
    let depth = 0;
    let deepest = 0;
    let calls = 0;
    const all = Promise.withResolvers<void>();
    const data = (socket: Socket) => {
      depth++;
      deepest = Math.max(deepest, depth);
      socket.write("y");
      socket.flush();
      Ring.default.submit();
      depth--;
      if (++calls === 32) all.resolve();
    };
    using listener = listen({ hostname: "127.0.0.1", port: 0, socket: { data } });
    const ends = Array.from({ length: 32 }, () => new End());
    const clients = await Promise.all(ends.map((end) => {
      return connect({ hostname: "127.0.0.1", port: listener.port, socket: end.handlers });
    }));
    for (const client of clients) client.write("x");
    await all.promise;
    await Promise.all(ends.map((end) => end.received(1)));
    expect([calls, deepest]).toEqual([32, 1]);
    for (const client of clients) client.terminate();
  });

  test("closing the ring takes effect after the dispatch", async () => {
    const ring = new Ring();
    const closing = Promise.withResolvers<void>();
    const both = await pair({
      ring,
      serverSocket: {
        data(socket: Socket) {
          closing.resolve(ring.close());
          expect(socket.write("late")).toBe(4);
        },
      },
    });
    both.listener.stop();
    both.client.write("x");
    await closing.promise;
    expect(ring.closed).toBe(true);
    expect([both.atClient.order.at(-1), both.atServer.order.at(-1)]).toEqual(["close", "close"]);
  });
});

describe("promises", () => {
  /** Several connections whose bytes come in one turn; `data` says what it does in which order. */
  async function orderOf(data: (push: (event: string) => void) => unknown): Promise<string[]> {
    const order: string[] = [];
    const all = Promise.withResolvers<void>();
    const push = (event: string) => {
      order.push(event);
      if (order.length === 16) all.resolve();
    };
    using listener = listen({
      hostname: "127.0.0.1",
      port: 0,
      socket: { data: () => data(push) as void },
    });
    const place = { hostname: "127.0.0.1", port: listener.port, socket: {} };
    const clients = await Promise.all(Array.from({ length: 8 }, () => connect(place)));
    await turns(ASLEEP);
    for (const client of clients) client.write("x");
    Ring.default.submit();
    await all.promise;
    for (const client of clients) client.terminate();
    return order;
  }

  const ALTERNATING = Array.from({ length: 16 }, (_, i) => (i % 2 === 0 ? "handler" : "after"));

  test("an async handler goes on before the next event", async () => {
    const order = await orderOf(async (push) => {
      push("handler");
      await null;
      push("after");
    });
    expect(order).toEqual(ALTERNATING);
  });
});

describe("Bun's loop", () => {
  test("goes on while the ring is busy: timers are on time", async () => {
    const { ticks, medianMs, messages } = await answer<{
      ticks: number;
      medianMs: number;
      messages: number;
    }>(program("busy_timers"));
    // A timer of 10 ms for a second, on a machine that may be busy with other things: one that had
    // to wait for the ring to rest would not tick at all. How late it is, a benchmark says.
    expect(messages).toBeGreaterThan(1000);
    expect(ticks).toBeGreaterThan(10);
    expect(medianMs).toBeLessThan(100);
  });

  /** A loop over a ring with nothing to do, of which nobody hears. */
  function idle(recheckMs: number, { testFails = false, spinTurns = 20 } = {}) {
    const bell = eventfd(false);
    const ring = { looks: 0, armed: 0, looksAwake: 0 };
    const loop = new Loop(
      {
        pump: () => (ring.looks++, false),
        occupy: () => false,
        accompany: () => false,
        arm() {
          if (ring.armed++ === 0) ring.looksAwake = ring.looks;
          return false;
        },
        disarm() {},
        wake: () => testFails || add(bell),
        wakeFd: bell,
        busy: false,
        quiet: 0,
        openCount: 1,
        refCount: 1,
      },
      { recheckMs, spinTurns },
    );
    loop.recount();
    const close = () => {
      loop.close();
      closeSync(bell);
    };
    return { ring, bell, [Symbol.dispose]: close };
  }

  /** Nobody looks at it any more, after it heard its own test: not in 50 looks' time. */
  async function asleep({ ring }: ReturnType<typeof idle>): Promise<void> {
    await until(async () => {
      const before = ring.looks;
      const end = performance.now() + 50;
      while (performance.now() < end) await turns(ASLEEP);
      return ring.armed > 1 && ring.looks === before;
    });
  }

  test("looks at a ring that sleeps unheard now and then where it must, else never", async () => {
    using deaf = idle(5);
    await until(() => deaf.ring.armed > 5);
    using sound = idle(0);
    await asleep(sound);
  });

  test.each([0, 1, 3, 200])("sleeps after %d turns without work", async (spinTurns) => {
    using quiet = idle(0, { spinTurns });
    await until(() => quiet.ring.armed > 0);
    expect(quiet.ring.looksAwake).toBe(Math.max(1, spinTurns));
  });

  test("polls a ring that has not heard its test yet; then it sleeps", async () => {
    using late = idle(0, { testFails: true });
    await until(() => late.ring.armed > 5);
    add(late.bell);
    await asleep(late);
  });

  test("sleeps while nothing happens, as with Bun.listen", async () => {
    const kinds = ["ours", "dedicated", "unref", "bun"];
    const counts = await Promise.all(kinds.map((kind) => idleWakeUps(kind)));
    // The engine's own threads wake a few times a second, with sockets or without.
    const most = 2 * (counts.at(-1) ?? 0) + 30;
    expect(counts.map((count) => count < most)).toEqual([true, true, true, true]);
  });
});

/** Voluntary context switches of all threads of an idle server in about 1.5 s. */
async function idleWakeUps(kind: string): Promise<number> {
  await using child = start(program("idle"), { arguments: [kind] });
  const reader = child.stdout.getReader();
  await reader.read();
  await elapsed(500); // start-up work of the engine
  const before = switchesOf(child.pid);
  await elapsed(1500);
  return switchesOf(child.pid) - before;
}

/** Time itself is what is measured here. */
function elapsed(milliseconds: number): Promise<void> {
  return new Promise((resolve) => {
    const timer = setInterval(() => {
      clearInterval(timer);
      resolve();
    }, milliseconds);
  });
}

function switchesOf(pid: number): number {
  const tasks = readdirSync(`/proc/${pid}/task`);
  const counts = tasks.map((task) => {
    const status = readFileSync(`/proc/${pid}/task/${task}/status`, "utf8");
    return Number(/^voluntary_ctxt_switches:\s+(\d+)/m.exec(status)?.[1]);
  });
  return counts.reduce((sum, count) => sum + count, 0);
}

test("a promise settled in a sync handler goes on before the next event", async () => {
  const order: string[] = [];
  const all = Promise.withResolvers<void>();
  using listener = listen({
    hostname: "127.0.0.1",
    port: 0,
    socket: {
      data() {
        order.push("handler");
        const { promise, resolve } = Promise.withResolvers<void>();
        promise.then(() => {
          order.push("after");
          if (order.length === 16) all.resolve();
        });
        resolve();
      },
    },
  });
  const place = { hostname: "127.0.0.1", port: listener.port, socket: {} };
  const clients = await Promise.all(Array.from({ length: 8 }, () => connect(place)));
  await turns(60);
  for (const client of clients) client.write("x");
  Ring.default.submit();
  await all.promise;
  for (const client of clients) client.terminate();
  const expected = Array.from({ length: 16 }, (_, i) => (i % 2 === 0 ? "handler" : "after"));
  expect(order).toEqual(expected);
});

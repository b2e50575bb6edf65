// serve(): several Workers on one place. Every Worker answers, those that die are replaced while
// the others go on, a stop waits within its limit, and what cannot be is refused in one sentence.
//
// Signals and socket activation need processes of their own: serve_process.test.ts.

import { describe, expect, test } from "bun:test";
import { existsSync, writeFileSync } from "node:fs";
import * as net from "node:net";
import { join } from "node:path";
import { pathToFileURL } from "node:url";
import { listen, serve, type ServeOptions } from "../ts/index.ts";
import { backend } from "./support/backend.ts";
import { folder } from "./support/folder.ts";
import { ask, Client, echoService, refuses, serveEcho, workerOf } from "./support/serving.ts";
import { until } from "./support/until.ts";

const DISTRIBUTIONS = ["reuse-port", "round-robin"] as const;

/** What a server told, in order. */
function listener() {
  const errors: { error: Error; worker: number; restartIn: number | null }[] = [];
  const started: number[] = [];
  return {
    errors,
    started,
    onError: (error: Error, worker: number, restartIn: number | null) =>
      void errors.push({ error, worker, restartIn }),
    onStart: (worker: number) => void started.push(worker),
  };
}

describe.each(DISTRIBUTIONS)("serve, %s:", (distribution) => {
  test("every Worker answers on the one port, and is told what the module needs", async () => {
    const { started, onStart } = listener();
    const workerData = { a: [1, "b"] };
    await using server = await serveEcho({ distribution, workerData, onStart });
    expect([server.hostname, server.unix, server.workers]).toEqual(["127.0.0.1", undefined, 2]);
    expect(server.distribution).toBe(distribution);
    expect(started.toSorted()).toEqual([0, 1]);
    const seen = new Set<number>();
    await until(async () => seen.add(await workerOf(server)).size === 2, "both have answered");
    expect(await ask(server, "data")).toBe(JSON.stringify(workerData));
    expect(await ask(server, "x".repeat(1000))).toBe("x".repeat(1000));
  });

  test("statistics are the sums over the Workers, also when they have ended", async () => {
    const server = await serveEcho({ distribution });
    const clients = await Promise.all([0, 1, 2, 3].map(() => Client.connect(server)));
    for (const client of clients) expect(await client.ask("hello")).toBe("hello");
    const open = await server.stats();
    expect([open.workers, open.connections, open.restarts]).toEqual([2, 4, 0]);
    expect(open.perWorker.reduce((sum, count) => sum + count, 0)).toBe(4);
    expect(open.ring).toMatchObject({ connections_opened: 4, bytes_received: 20, bytes_sent: 20 });
    expect(open.ring.sqes_per_enter).toBe(open.ring.sqes / open.ring.enters);
    await server.stop(true);
    const over = await server.stats();
    expect([over.workers, over.connections]).toEqual([0, 0]);
    expect(over.ring).toMatchObject({ connections_closed: 4, bytes_received: 20 });
    for (const client of clients) expect(await client.next()).toBe("closed");
  });
});

describe.each(DISTRIBUTIONS)("a death, %s:", (distribution) => {
  test("a Worker that throws is replaced; meanwhile connections go to the others", async () => {
    const { errors, started, onError, onStart } = listener();
    const options = { distribution, onError, onStart, restartDelay: 500 };
    await using server = await serveEcho(options);
    using victim = await Client.connect(server);
    const [id = "", thread] = (await victim.ask("who")).split(" ");
    victim.write("throw");
    await until(() => errors.length > 0, "the death is told");
    expect(errors).toMatchObject([{ worker: Number(id), restartIn: 500 }]);
    expect(errors[0]?.error.message).toContain(`thrown in Worker ${id}`);
    expect(server.workers).toBe(1);
    for (let i = 0; i < 20; i++) expect(await workerOf(server)).toBe(1 - Number(id));
    await until(() => started.length === 3, "another has started");
    expect(started[2]).toBe(Number(id));
    await until(async () => {
      const [other, replaced] = (await ask(server, "who")).split(" ");
      return other === id && replaced !== thread;
    }, "it answers");
    expect((await server.stats()).restarts).toBe(1);
  });

  test("the pause doubles with each death in a row", async () => {
    const { errors, started, onError, onStart } = listener();
    await using server = await serveEcho({ distribution, workers: 1, onError, onStart });
    for (let death = 1; death <= 4; death++) {
      using client = await Client.connect(server);
      client.write("throw");
      await until(() => started.length > death, "another has started");
    }
    expect(errors.map(({ restartIn }) => restartIn)).toEqual([1, 2, 4, 8]);
  });

  test("a Worker that exits is replaced, too", async () => {
    const { errors, started, onError, onStart } = listener();
    await using server = await serveEcho({ distribution, workers: 1, onError, onStart });
    using client = await Client.connect(server);
    client.write("exit");
    await until(() => started.length === 2, "another has started");
    expect(errors[0]?.error).toMatchObject({ code: "EOWNERDEAD", phase: "completion" });
    expect(await ask(server, "hello")).toBe("hello");
  });
});

describe.each(DISTRIBUTIONS)("an end, %s:", (distribution) => {
  test("a stop lets open connections end by themselves, and takes no more", async () => {
    const channel = `stop ${distribution}`;
    const steps = new BroadcastChannel(channel);
    const told: string[] = [];
    steps.onmessage = ({ data }) => void told.push(data as string);
    const server = await serveEcho({ distribution, workers: 1, workerData: { channel } });
    using client = await Client.connect(server);
    expect(await client.ask("before")).toBe("before");
    let stopped = false;
    const stop = server.stop().then(() => (stopped = true));
    await until(() => refuses(server), "nobody listens");
    expect([await client.ask("after"), stopped]).toEqual(["after", false]);
    client.end();
    await stop;
    expect([server.workers, await client.next()]).toEqual([0, "closed"]);
    await until(() => told.length === 2, "the module was told");
    steps.close();
    expect(told).toEqual(["0 stopping", "0 stopped"]);
  });

  test("a connection that does not end is closed when the time is up", async () => {
    const server = await serveEcho({ distribution, stopTimeout: 20 });
    using client = await Client.connect(server);
    expect(await client.ask("hello")).toBe("hello");
    await server.stop();
    expect(await client.next()).toBe("closed");
  });

  test("a Worker that does not listen to a stop is terminated", async () => {
    const server = await serveEcho({ distribution, workers: 1, stopTimeout: 0 });
    using client = await Client.connect(server);
    client.write("spin");
    await server.stop(true);
    expect(["closed", "ECONNRESET"]).toContain(await client.next());
    expect(server.workers).toBe(0);
  });
});

describe.each(DISTRIBUTIONS)("a place, %s:", (distribution) => {
  test("the port is the server's while its Worker is dead, and free after the stop", async () => {
    const { errors, onError } = listener();
    const options = { distribution, workers: 1, onError, restartDelay: 60_000 };
    const server = await serveEcho(options);
    const { port = 0 } = server;
    using client = await Client.connect(server);
    client.write("throw");
    await until(() => errors.length > 0, "the death is told");
    const again = { hostname: "127.0.0.1", port, socket: { data() {} } };
    expect(() => listen(again)).toThrow("EADDRINUSE");
    await server.stop();
    using free = listen(again);
    expect(free.port).toBe(port);
  });

  test("the port is shared with who wants it, too", async () => {
    await using one = await serveEcho({ distribution, workers: 1, reusePort: true });
    const port = one.port ?? 0;
    await using two = await serveEcho({ distribution, workers: 1, reusePort: true, port });
    expect(two.port).toBe(port);
    expect(await ask(two, "hello")).toBe("hello");
  });

  test("a module that cannot begin makes it reject, and nothing stays behind", async () => {
    const path = join(folder, `refuses-${distribution}.ts`);
    const port = await freePort();
    const begin = (text: string) => {
      writeFileSync(path, text);
      // The query makes it another module for Bun's cache.
      const module = new URL(`${pathToFileURL(path)}?${text.length}`);
      return serveEcho({ distribution, port, module });
    };
    await expect(begin("throw new TypeError('at the start');")).rejects.toThrow("at the start");
    await expect(begin("export default { data() {} };")).rejects.toThrow("an object with `socket`");
    await expect(begin("export default () => 7;")).rejects.toThrow("not 7");
    await expect(begin("export default { socket: {} };")).rejects.toThrow("data, open or drain");
    const server = await begin("export default { socket: { data() {} } };");
    await server.stop();
  });
});

function freePort(): Promise<number> {
  const { promise, resolve } = Promise.withResolvers<number>();
  const server = net.createServer().listen(0, "127.0.0.1", () => {
    const { port } = server.address() as net.AddressInfo;
    server.close(() => resolve(port));
  });
  return promise;
}

describe("round-robin", () => {
  test("takes the Workers in turn", async () => {
    await using server = await serveEcho({ distribution: "round-robin", workers: 3 });
    const order: number[] = [];
    for (let i = 0; i < 9; i++) order.push(await workerOf(server));
    expect(order).toEqual([...order.slice(0, 3), ...order.slice(0, 3), ...order.slice(0, 3)]);
    expect(new Set(order).size).toBe(3);
  });

  test("what a Worker did not take before it died goes to another", async () => {
    const { errors, onError } = listener();
    const shared = new Int32Array(new SharedArrayBuffer(8));
    const options = { onError, restartDelay: 60_000, workerData: { shared } };
    await using server = await serveEcho({ distribution: "round-robin", ...options });
    using victim = await Client.connect(server);
    victim.write("nap");
    await until(() => Atomics.load(shared, 0) === 1, "it naps");
    const answers: number[] = [];
    const asked = Array.from({ length: 20 }, async () => answers.push(await workerOf(server)));
    await until(() => answers.length === 10, "the other has answered its half");
    Atomics.store(shared, 1, 1);
    Atomics.notify(shared, 1);
    await Promise.all(asked);
    expect([new Set(answers).size, errors.length]).toEqual([1, 1]);
  });

  test("serves a Unix path, which is gone afterwards", async () => {
    const unix = join(folder, "serve");
    {
      await using server = await serveEcho({ unix });
      expect([server.port, server.hostname, server.unix]).toEqual([undefined, undefined, unix]);
      const workers = await Promise.all([0, 1, 2, 3].map(() => workerOf(server)));
      expect(workers.toSorted()).toEqual([0, 0, 1, 1]);
      await expect(serveEcho({ unix })).rejects.toThrow("EADDRINUSE");
      expect(existsSync(unix)).toBe(true);
    }
    expect(existsSync(unix)).toBe(false);
  });
});

describe("serve refuses", () => {
  const good: ServeOptions = { module: echoService, port: 0 };
  const BAD: [string, unknown][] = [
    ["options", null],
    ["module", { ...good, module: 7 }],
    ["module", { port: 0 }],
    ["port", { module: echoService }],
    ["port", { ...good, port: 65536 }],
    ["hostname", { ...good, hostname: "" }],
    ["unix", { module: echoService, unix: "x".repeat(200) }],
    ["fd", { module: echoService, fd: -1 }],
    ["workers", { ...good, workers: 0 }],
    ["workers", { ...good, workers: 513 }],
    ["distribution", { ...good, distribution: "fair" }],
    ["distribution", { module: echoService, unix: "/x", distribution: "reuse-port" }],
    ["backlog", { ...good, backlog: 0 }],
    ["ipv6Only", { ...good, ipv6Only: 1 }],
    ["reusePort", { ...good, reusePort: 1 }],
    ["reusePort", { module: echoService, unix: "/x", reusePort: true }],
    ["stopTimeout", { ...good, stopTimeout: -1 }],
    ["restartDelay", { ...good, restartDelay: 0 }],
    ["signals", { ...good, signals: "SIGINT" }],
    ["signals", { ...good, signals: ["SIGNONE"] }],
    ["onError", { ...good, onError: 1 }],
    ["onStart", { ...good, onStart: 1 }],
    ["TLS", { ...good, tls: { key: "" } }],
  ];

  const rows = BAD.map(([name, options], at) => [at, name, options] as const);

  test.each(rows)("%d: %s", (_at, name, options) => {
    expect(() => serve(options as ServeOptions)).toThrow(name);
  });

  test("a port that is taken, what cannot listen, a module that is not there", async () => {
    using taken = listen({ hostname: "127.0.0.1", port: 0, socket: { data() {} } });
    for (const distribution of DISTRIBUTIONS) {
      const options = { distribution, port: taken.port };
      await expect(serveEcho(options)).rejects.toMatchObject({ code: "EADDRINUSE" });
    }
    await using first = await serveEcho({ workers: 1 });
    for (const distribution of DISTRIBUTIONS) {
      const options = { distribution, port: first.port ?? 0 };
      await expect(serveEcho(options)).rejects.toMatchObject({ code: "EADDRINUSE" });
    }
    await expect(serveEcho({ fd: 0x7fff_ffff })).rejects.toMatchObject({ code: "EBADF" });
    await expect(serveEcho({ module: "nowhere.ts" })).rejects.toThrow("nowhere.ts");
  });

  test("options of the Workers' rings that cannot be", async () => {
    const ringOptions = { backend, receiveBuffers: 3 };
    await expect(serveEcho({ ringOptions })).rejects.toMatchObject({ code: "EINVAL" });
  });
});

test("the options of the Workers' rings reach them", async () => {
  await using server = await serveEcho({ workers: 1, ringOptions: { receiveBuffers: 8 } });
  expect((await server.stats()).ring.receive_buffers_free).toBeLessThanOrEqual(8);
  expect(await ask(server, "hello")).toBe("hello");
});

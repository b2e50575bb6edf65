// A listener in trouble: no descriptors left, a full queue, clients that are gone before they are
// accepted. It counts, waits, and goes on. Each server is a process of its own.

import { describe, expect, test } from "bun:test";
import * as net from "node:net";
import { exchange, program } from "./support/child.ts";
import { until } from "./support/until.ts";

interface Answer {
  held: number;
  errors: string[];
  accepts_failed: number;
  accept_backoffs: number;
  connections_opened: number;
}

/** The server, with at most so many descriptors. */
async function server(descriptors: number, backlog = 512) {
  const limited = ["sh", "-c", `ulimit -n ${descriptors} && exec "$0" "$@"`, process.execPath];
  const child = Bun.spawn([...limited, program("accepting"), String(backlog)], {
    stdin: "pipe",
    stdout: "pipe",
    stderr: "pipe",
    timeout: 25_000,
    killSignal: "SIGKILL",
  });
  const reader = child.stdout.getReader();
  let text = "";
  const line = async () => {
    while (!text.includes("\n")) text += Buffer.from((await reader.read()).value ?? []).toString();
    const [first = "", ...rest] = text.split("\n");
    text = rest.join("\n");
    return first;
  };
  const port = Number(await line());
  return {
    port,
    async ask(command: string): Promise<Answer> {
      child.stdin.write(`${command}\n`);
      await child.stdin.flush();
      return JSON.parse(await line()) as Answer;
    },
    async [Symbol.asyncDispose]() {
      await child.stdin.end();
      expect([await child.exited, await child.stderr.text()]).toEqual([0, ""]);
    },
  };
}

/** Connections that are open as far as this end knows. */
async function clients(port: number, count: number): Promise<net.Socket[]> {
  return Promise.all(Array.from({ length: count }, () => new Promise<net.Socket>((resolve) => {
    const socket = net.connect({ host: "127.0.0.1", port });
    socket.on("error", () => undefined); // a reset is what some of these tests are about
    socket.resume();
    socket.once("connect", () => resolve(socket));
  })));
}

const leave = (sockets: readonly net.Socket[]) => sockets.forEach((socket) => socket.destroy());

describe("without descriptors", () => {
  test("the listener waits, counts, and serves everybody when there are some again", async () => {
    await using own = await server(40);
    const sockets = await clients(own.port, 80);
    let full = await own.ask("stats");
    await until(async () => (full = await own.ask("stats")).accept_backoffs > 0);
    expect(full.held).toBeGreaterThan(5);
    expect(full.held).toBeLessThan(40);
    expect(full.accepts_failed).toBeGreaterThanOrEqual(full.accept_backoffs);

    // It does not spin: a try each tenth of a second.
    const { accepts_failed: before } = await own.ask("stats");
    await own.ask("block 350");
    const { accepts_failed: after } = await own.ask("stats");
    expect(after - before).toBeLessThanOrEqual(6);

    leave(sockets.slice(0, 60));
    await until(async () => (await own.ask("stats")).connections_opened === 80);
    expect(await exchange(own.port, "all is well")).toBe("all is well");
    leave(sockets);
  });

  test("a descriptor of its own that is free is used at once, not at the next try", async () => {
    await using own = await server(40);
    const sockets = await clients(own.port, 60);
    await until(async () => (await own.ask("stats")).accept_backoffs > 0);
    const { connections_opened: before } = await own.ask("stats");
    // Twenty, one by one: with a tenth of a second each that would take two seconds.
    const start = performance.now();
    for (let i = 1; i <= 20; i++) {
      await own.ask("close 1");
      await until(async () => (await own.ask("stats")).connections_opened >= before + i);
    }
    expect(performance.now() - start).toBeLessThan(1500);
    leave(sockets);
  });
});

test("clients that find the queue full get in when it moves", async () => {
  await using own = await server(256, 2);
  const blocked = own.ask("block 300");
  const answers = await Promise.all(
    Array.from({ length: 12 }, (_, i) => exchange(own.port, `client ${i}`)),
  );
  expect(answers).toEqual(Array.from({ length: 12 }, (_, i) => `client ${i}`));
  await blocked;
  expect(await own.ask("stats")).toMatchObject({ connections_opened: 12, accepts_failed: 0 });
});

test("clients that reset before they are accepted harm nobody", async () => {
  await using own = await server(256);
  const blocked = own.ask("block 200");
  const sockets = await clients(own.port, 30);
  for (const [i, socket] of sockets.entries()) {
    if (i % 3 === 0) socket.write("unheard");
    socket.resetAndDestroy();
  }
  await blocked;
  expect(await exchange(own.port, "and on it goes")).toBe("and on it goes");
  await until(async () => (await own.ask("stats")).held <= 1);
  const { errors, accepts_failed, connections_opened } = await own.ask("stats");
  // Linux gives out such connections all the same; what is wrong with them shows at the first read.
  expect(connections_opened + accepts_failed).toBe(31);
  expect(new Set(errors)).toEqual(new Set(["ECONNRESET"]));
});

// for await over a socket: every byte in order, back-pressure, the end, errors, leaving the loop;
// and what becomes of bytes that no handler takes.

import { describe, expect, test } from "bun:test";
import * as net from "node:net";
import { connect, listen, UringError, type Socket } from "../ts/index.ts";
import { thrown } from "./support/operations.ts";
import { pair, writeAll, type Pair } from "./support/pair.ts";
import { seeded } from "./support/random.ts";
import { turns, until } from "./support/until.ts";

const MIB = 1 << 20;

/** A pair whose client has no `data` handler. */
function quiet(options: Parameters<typeof pair>[0] = {}): Promise<Pair> {
  return pair({ ...options, clientSocket: { data: undefined, ...options.clientSocket } });
}

async function collect(socket: AsyncIterable<Buffer>): Promise<Buffer> {
  const chunks: Buffer[] = [];
  for await (const chunk of socket) chunks.push(chunk);
  return Buffer.concat(chunks);
}

describe("for await", () => {
  test.each(["127.0.0.1", "unix"])("gives every byte in order, then ends: %s", async (where) => {
    await seeded(async (random) => {
      const place = where === "unix"
        ? { unix: `\0bun-uring-${crypto.randomUUID()}` }
        : { hostname: where };
      using both = await quiet(place);
      const bytes = random.bytes(8 * MIB);
      const collected = collect(both.client);
      await writeAll(both.server, both.atServer, bytes);
      both.server.end();
      const received = await collected;
      expect(received.length).toBe(bytes.length);
      expect(Buffer.compare(received, bytes)).toBe(0);
      await both.atClient.closed.promise;
      expect(both.atClient.order).toEqual(["open", "end", "close"]);
    });
  });

  test("each chunk is a Buffer with memory of its own", async () => {
    using both = await quiet();
    both.server.write("ab");
    for await (const chunk of both.client) {
      expect(chunk).toBeInstanceOf(Buffer);
      expect([chunk.toString(), chunk.buffer.byteLength]).toEqual(["ab", 2]);
      break;
    }
  });

  test("waits for bytes, and answers in between", async () => {
    using both = await quiet();
    const asked = (async () => {
      const seen: string[] = [];
      for await (const chunk of both.client) {
        seen.push(chunk.toString());
        both.client.write(`re: ${chunk}`);
      }
      return seen;
    })();
    both.server.write("one");
    await both.atServer.received(7);
    both.server.write("two");
    expect((await both.atServer.received(14)).toString()).toBe("re: onere: two");
    both.server.end();
    expect(await asked).toEqual(["one", "two"]);
    await both.atServer.closed.promise;
    expect(both.atServer.closeError).toBeUndefined();
  });

  test("what the loop writes about the last chunk still leaves", async () => {
    using both = await quiet();
    both.server.end("question");
    for await (const _ of both.client) {
      await turns(20);
      expect(both.client.write("answer")).toBe(6);
    }
    await both.atServer.closed.promise;
    expect(both.atServer.bytes.toString()).toBe("answer");
  });

  test("without allowHalfOpen ends our side behind the loop, with it leaves it open", async () => {
    for (const allowHalfOpen of [false, true]) {
      using both = await quiet({ allowHalfOpen });
      both.server.end("x");
      await collect(both.client);
      expect(both.client.readyState).toBe(allowHalfOpen ? 1 : -2);
      expect(both.client.write("y")).toBe(allowHalfOpen ? 1 : -1);
    }
  });

  test("calls the end handler once everything was taken", async () => {
    using both = await quiet();
    both.server.end("x");
    await turns(50);
    expect([both.atClient.log, both.client.readyState]).toEqual([["open"], 1]);
    const iterator = both.client[Symbol.asyncIterator]();
    expect((await iterator.next()).value?.toString()).toBe("x");
    expect(both.atClient.log).toEqual(["open"]);
    for (let i = 0; i < 3; i++) expect((await iterator.next()).done).toBe(true);
    expect(both.atClient.log).toEqual(["open", "end"]);
    await both.atClient.closed.promise;
  });

  test("the end of a connection that nobody reads is told at once if no byte came", async () => {
    using both = await quiet();
    both.server.end();
    await both.atClient.closed.promise;
    expect(both.atClient.order).toEqual(["open", "end", "close"]);
    expect((await collect(both.client)).length).toBe(0);
  });

  test("gives what had arrived, then throws what broke the connection", async () => {
    using both = await quiet();
    const iterator = both.client[Symbol.asyncIterator]();
    both.server.write("last words");
    await until(() => both.server.bytesWritten === 10);
    await turns(50);
    both.server.terminate();
    await both.atClient.closed.promise;
    expect((await iterator.next()).value?.toString()).toBe("last words");
    const error = await iterator.next().then(() => null, (reason) => reason as UringError);
    expect(error).toBeInstanceOf(UringError);
    expect(error?.code).toBe("ECONNRESET");
    expect(both.atClient.closeError).toBe(error as Error);
  });

  test.each(["break", "throw", "return"])("%s closes the socket, with FIN", async (way) => {
    using both = await quiet({ allowHalfOpen: true });
    both.server.write("x");
    both.client.write("queued");
    const leave = async () => {
      for await (const _ of both.client) {
        if (way === "break") break;
        if (way === "return") return "returned";
        throw new RangeError("mine");
      }
      return "left";
    };
    const outcome = await leave().catch((error: Error) => error.message);
    expect(outcome).toBe({ break: "left", return: "returned", throw: "mine" }[way] ?? "");
    await both.atClient.closed.promise;
    await both.atServer.ended.promise;
    expect(both.atServer.bytes.toString()).toBe("queued");
    expect(both.atServer.closeError).toBeUndefined();
  });

  test("a time-out without a handler is thrown in the loop", async () => {
    using both = await quiet();
    both.client.timeout(0.02);
    const error = await collect(both.client).then(() => null, (reason) => reason as UringError);
    expect([error?.name, error?.code]).toEqual(["TimeoutError", "ETIMEDOUT"]);
  });

  test("one that is terminated from here ends quietly", async () => {
    using both = await quiet();
    const collected = collect(both.client);
    await turns(5);
    both.client.terminate();
    expect((await collected).length).toBe(0);
  });

  test("next may be called ahead; each call gets a chunk of its own", async () => {
    using both = await quiet();
    const iterator = both.client[Symbol.asyncIterator]();
    const ahead = Array.from({ length: 4 }, () => iterator.next());
    both.server.write("a");
    expect((await ahead[0])?.value?.toString()).toBe("a");
    both.server.end("b");
    expect((await ahead[1])?.value?.toString()).toBe("b");
    expect([(await ahead[2])?.done, (await ahead[3])?.done]).toEqual([true, true]);
  });
});

describe("back-pressure", () => {
  test("a slow loop stops the peer, with little held here", async () => {
    using both = await quiet();
    const iterator = both.client[Symbol.asyncIterator]();
    both.server.write("x");
    await iterator.next();
    const bytes = Buffer.alloc(MIB, 3);
    let sent = 0;
    await until(async () => {
      const taken = both.server.write(bytes);
      sent += taken;
      await turns(20);
      return taken === 0;
    });
    const before = process.memoryUsage().arrayBuffers;
    await turns(50);
    expect(process.memoryUsage().arrayBuffers - before).toBeLessThan(MIB);
    expect(both.server.write("y")).toBe(0);
    let received = 0;
    while (received < sent) received += (await iterator.next()).value?.length ?? 0;
    expect(received).toBe(sent);
    both.server.end();
    expect((await iterator.next()).done).toBe(true);
  });

  test("pause and resume of the user hold beside it", async () => {
    using both = await quiet();
    both.client.pause();
    await turns(20);
    both.server.write("later");
    const next = both.client[Symbol.asyncIterator]().next();
    let came = false;
    void next.then(() => (came = true));
    await turns(100);
    expect(came).toBe(false);
    both.client.resume();
    expect((await next).value?.toString()).toBe("later");
  });
});

describe("a socket that is read by somebody else", () => {
  test("with a data handler cannot be iterated or streamed", async () => {
    using both = await pair();
    for (const read of [() => both.client[Symbol.asyncIterator](), () => both.client.readable]) {
      const error = thrown(read);
      expect([error.code, error.operation]).toEqual(["EBUSY", "read"]);
      expect(error.message).toContain("data handler");
    }
    both.server.write("x");
    await both.atClient.received(1);
  });

  test("cannot be read twice", async () => {
    using both = await quiet();
    void both.client[Symbol.asyncIterator]();
    for (const read of [() => both.client[Symbol.asyncIterator](), () => both.client.readable]) {
      expect(thrown(read).code).toBe("EBUSY");
      expect(thrown(read).message).toContain("for await");
    }
    using other = await quiet();
    expect(other.client.readable).toBe(other.client.readable);
    expect(thrown(() => other.client[Symbol.asyncIterator]()).message).toContain("readable");
  });
});

describe("bytes that no handler takes", () => {
  test("wait for whom comes, also behind the end", async () => {
    using both = await quiet();
    both.server.end("early");
    await turns(100);
    expect((await collect(both.client)).toString()).toBe("early");
    await both.atClient.closed.promise;
    expect(both.atClient.order).toEqual(["open", "end", "close"]);
  });

  test("outlive their connection", async () => {
    using both = await quiet();
    both.server.write("early");
    await turns(50);
    both.client.terminate();
    await both.atClient.closed.promise;
    expect((await collect(both.client)).toString()).toBe("early");
  });

  test("are given to a handler that reload brings", async () => {
    const seen: string[] = [];
    const accepted = Promise.withResolvers<Socket>();
    using listener = listen({ hostname: "127.0.0.1", port: 0, socket: { open: accepted.resolve } });
    const place = { hostname: "127.0.0.1", port: listener.port };
    using client = await connect({ ...place, socket: {} });
    await accepted.promise;
    client.write("early");
    await turns(50);
    listener.reload({
      socket: {
        binaryType: "uint8array",
        data: (_socket, chunk) => void seen.push(Buffer.from(chunk as Uint8Array).toString()),
      },
    });
    expect(seen).toEqual(["early"]);
    client.write("late");
    await until(() => seen.length === 2);
    expect(seen).toEqual(["early", "late"]);
  });

  test("stop the peer when they are many", async () => {
    const server = net.createServer((socket) => {
      socket.on("error", () => socket.destroy());
      const bytes = Buffer.alloc(MIB);
      const more = () => {
        while (socket.write(bytes));
      };
      socket.on("drain", more);
      more();
    });
    await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
    const { port } = server.address() as net.AddressInfo;
    const socket = await connect({ hostname: "127.0.0.1", port, socket: {} });
    await turns(200);
    const before = process.memoryUsage().arrayBuffers;
    await turns(200);
    expect(process.memoryUsage().arrayBuffers - before).toBeLessThan(4 * MIB);
    socket.terminate();
    await new Promise((resolve) => server.close(resolve));
  });
});

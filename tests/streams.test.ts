// socket.readable and socket.writable: web streams with back-pressure both ways, their ends and
// their errors, and what pipes make of them.

import { describe, expect, test } from "bun:test";
import { connect, listen, UringError, type Socket } from "../ts/index.ts";
import { pair, type Pair, type PairOptions } from "./support/pair.ts";
import { seeded } from "./support/random.ts";
import { turns, until } from "./support/until.ts";

const MIB = 1 << 20;

function quiet(options: PairOptions = {}): Promise<Pair> {
  return pair({ ...options, clientSocket: { data: undefined, ...options.clientSocket } });
}

const reason = (promise: Promise<unknown>) => promise.then(() => null, (error: unknown) => error);

/** A server without `data` handlers; each connection is given to `serve`. */
async function served(serve: (socket: Socket) => Promise<unknown>) {
  const errors: unknown[] = [];
  const listener = listen({
    hostname: "127.0.0.1",
    port: 0,
    socket: { open: (socket) => void serve(socket).catch((error) => errors.push(error)) },
  });
  const place = { hostname: "127.0.0.1", port: listener.port };
  return { place, errors, [Symbol.dispose]: () => listener.stop(true) };
}

describe("readable", () => {
  test("gives every byte and ends with the peer's FIN", async () => {
    await seeded(async (random) => {
      const bytes = random.bytes(4 * MIB);
      using both = await quiet();
      both.server.end(bytes);
      expect(Buffer.compare(await new Response(both.client.readable).bytes(), bytes)).toBe(0);
      expect(both.atClient.log).toContain("end");
    });
  });

  test("fills a reader's own buffer", async () => {
    using both = await quiet();
    both.server.end("abcdef");
    const reader = both.client.readable.getReader({ mode: "byob" });
    const seen: string[] = [];
    for (let memory = new Uint8Array(4); ; ) {
      const { value, done } = await reader.read(memory);
      if (value === undefined || done) break;
      seen.push(Buffer.from(value).toString());
      memory = new Uint8Array(value.buffer as ArrayBuffer, 0, 4);
    }
    expect(seen.join("")).toBe("abcdef");
    expect(seen.every((text) => text.length <= 4)).toBe(true);
  });

  test("takes nothing that is not asked for, so that the peer waits", async () => {
    using both = await quiet();
    const reader = both.client.readable.getReader();
    let sent = 0;
    await until(async () => {
      const taken = both.server.write(Buffer.alloc(MIB));
      sent += taken;
      await turns(20);
      return taken === 0;
    });
    let received = 0;
    while (received < sent) received += (await reader.read()).value?.length ?? 0;
    expect(received).toBe(sent);
  });

  test("errors with what broke the connection", async () => {
    using both = await quiet();
    const reader = both.client.readable.getReader();
    both.server.terminate();
    const error = (await reason(reader.read())) as UringError;
    expect(error).toBeInstanceOf(UringError);
    expect(error.code).toBe("ECONNRESET");
    expect(await reason(reader.closed)).toBe(error);
  });

  test("cancelled ends the reading side alone", async () => {
    using both = await quiet({ allowHalfOpen: true });
    both.server.write("unread");
    await both.client.readable.cancel("no more");
    await both.atClient.ended.promise;
    expect(both.client.write("still")).toBe(5);
    expect((await both.atServer.received(5)).toString()).toBe("still");
    both.client.end();
    await both.atClient.closed.promise;
    expect(both.atClient.closeError).toBeUndefined();
  });

  test("cancelled without allowHalfOpen ends the connection", async () => {
    using both = await quiet();
    await both.client.readable.cancel();
    await both.atClient.closed.promise;
    expect(both.atClient.closeError).toBeUndefined();
  });

  test("is an async iterable, and leaving the loop cancels it", async () => {
    using both = await quiet();
    both.server.write("x");
    for await (const chunk of both.client.readable) {
      expect(chunk).toEqual(Uint8Array.of(120));
      break;
    }
    await both.atClient.closed.promise;
  });
});

describe("writable", () => {
  test("sends what is written, in order, text and bytes; close sends FIN", async () => {
    using both = await quiet();
    const writer = both.client.writable.getWriter();
    void writer.write("text ");
    void writer.write(new Uint8Array([66, 67]));
    void writer.write(new Uint8Array([68]).buffer);
    void writer.write(new DataView(new Uint8Array([0, 69, 0]).buffer, 1, 1));
    await writer.close();
    await both.atServer.ended.promise;
    expect(both.atServer.bytes.toString()).toBe("text BCDE");
    await both.atClient.closed.promise;
    expect(both.atClient.closeError).toBeUndefined();
  });

  test("a write is done when all of it was taken", async () => {
    await seeded(async (random) => {
      const bytes = random.bytes(24 * MIB);
      using both = await quiet();
      both.server.pause();
      await turns(10);
      const writer = both.client.writable.getWriter();
      let done = false;
      const written = writer.write(bytes).then(() => (done = true));
      await turns(100);
      expect([done, writer.desiredSize]).toEqual([false, 0]);
      both.server.resume();
      await written;
      await writer.close();
      await both.atServer.ended.promise;
      expect(Buffer.compare(both.atServer.bytes, bytes)).toBe(0);
    });
  });

  test("abort resets the connection", async () => {
    using both = await quiet();
    await both.client.writable.abort("never mind");
    await both.atServer.closed.promise;
    expect((both.atServer.closeError as UringError).code).toBe("ECONNRESET");
  });

  test("errors with what broke the connection, a write that waits too", async () => {
    using both = await quiet();
    both.server.pause();
    await turns(10);
    const writer = both.client.writable.getWriter();
    const written = reason(writer.write(Buffer.alloc(32 * MIB)));
    await turns(20);
    both.server.terminate();
    const error = (await written) as UringError;
    expect(["ECONNRESET", "EPIPE"]).toContain(error.code);
    expect(await reason(writer.closed)).toBeInstanceOf(UringError);
    expect(await reason(writer.write("late"))).toBeInstanceOf(UringError);
  });

  test("errors with EPIPE when the socket was ended beside it", async () => {
    using both = await quiet();
    const writer = both.client.writable.getWriter();
    both.client.end();
    expect(((await reason(writer.write("late"))) as UringError).code).toBe("EPIPE");
  });

  test("a wrong chunk errors it with EINVAL", async () => {
    using both = await quiet();
    const writer = both.client.writable.getWriter();
    const error = (await reason(writer.write(7 as never))) as UringError;
    expect([error.code, error.phase]).toEqual(["EINVAL", "submission"]);
    expect(error.message).toContain("data must be");
  });

  test("keeps this side open beyond the peer's FIN until it is closed", async () => {
    using both = await quiet();
    const { writable, readable } = both.client;
    both.server.shutdown();
    expect(await new Response(readable).text()).toBe("");
    await turns(20);
    expect(both.client.readyState).toBe(1);
    const writer = writable.getWriter();
    await writer.write("after");
    await writer.close();
    await both.atServer.closed.promise;
    expect(both.atServer.bytes.toString()).toBe("after");
  });

  test("is one stream, however often it is asked for", async () => {
    using both = await quiet();
    expect(both.client.writable).toBe(both.client.writable);
  });
});

describe("pipes", () => {
  test("an echo server is one line, and loses nothing", async () => {
    await seeded(async (random) => {
      using server = await served((socket) => socket.readable.pipeTo(socket.writable));
      const plans = Array.from({ length: 8 }, (_, i) => random.bytes(i * i * 50_000 + 1));
      const echoes = await Promise.all(
        plans.map(async (bytes) => {
          const socket = await connect({ ...server.place, socket: {} });
          const echoed = new Response(socket.readable).bytes();
          socket.end(bytes);
          return echoed;
        }),
      );
      for (const [i, echo] of echoes.entries()) {
        expect(Buffer.compare(echo, plans[i] as Buffer)).toBe(0);
      }
      expect(server.errors).toEqual([]);
    });
  });

  test("a proxy goes both ways, half-close included", async () => {
    using back = await served(async (socket) => {
      const writer = socket.writable.getWriter(); // before the end: it keeps this side open
      const question = await new Response(socket.readable).text();
      await writer.write(`you said ${question}`);
      await writer.close();
    });
    using front = await served(async (client) => {
      const upstream = await connect({ ...back.place, socket: {} });
      await Promise.all([
        client.readable.pipeTo(upstream.writable),
        upstream.readable.pipeTo(client.writable),
      ]);
    });
    const socket = await connect({ ...front.place, socket: {}, allowHalfOpen: true });
    socket.end("hello");
    expect(await new Response(socket.readable).text()).toBe("you said hello");
    expect([back.errors, front.errors]).toEqual([[], []]);
  });

  test("through a transform: compression over a connection", async () => {
    using server = await served((socket) =>
      socket.readable.pipeThrough(new CompressionStream("gzip")).pipeTo(socket.writable));
    const socket = await connect({ ...server.place, socket: {} });
    const text = "all work and no play ".repeat(10_000);
    const unpacked = socket.readable.pipeThrough(new DecompressionStream("gzip"));
    socket.end(text);
    expect(await new Response(unpacked).text()).toBe(text);
    expect(socket.bytesWritten).toBe(text.length);
  });

  test("a reset of one end errors the pipe", async () => {
    using server = await served((socket) => socket.readable.pipeTo(socket.writable));
    const socket = await connect({ ...server.place, socket: {} });
    socket.write("x");
    for await (const _ of socket) break;
    const other = await connect({ ...server.place, socket: {} });
    other.write("x");
    for await (const _ of other.readable) {
      other.terminate();
      break;
    }
    await until(() => server.errors.length === 1);
    expect((server.errors[0] as UringError).code).toBe("ECONNRESET");
  });
});

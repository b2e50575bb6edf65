// `pipeTo` and `proxy`: bytes of one socket to another, without JavaScript in between.
//
// The peers are Node's sockets, which know nothing of this library; contents are compared.

import { afterAll, describe, expect, test } from "bun:test";
import net from "node:net";
import { connect, listen, proxy, Ring, type Socket, type UringError } from "../ts/index.ts";
import { line as open } from "./support/line.ts";
import { rejected } from "./support/operations.ts";
import { Random } from "./support/random.ts";
import { turns, until } from "./support/until.ts";

const ring = new Ring();
afterAll(() => ring.close({ cancel: true }));

const line = (socket: Record<string, unknown> = {}, on = ring) => open(on, socket);

/** Waits until the ring has received so many bytes from here on. */
function counting(): (bytes: number) => Promise<void> {
  const before = ring.stats().bytes_received;
  return (bytes) => until(() => ring.stats().bytes_received >= before + bytes, `${bytes} bytes`);
}

describe("pipeTo", () => {
  test.each([1, 4096, 65_537, 8 << 20])("carries %d bytes, then the end", async (size) => {
    using from = await line();
    using to = await line();
    const bytes = new Random(size).bytes(size);
    const piped = from.socket.pipeTo(to.socket);
    from.peer.end(bytes);
    expect(await piped).toBe(size);
    expect((await to.received).equals(bytes)).toBe(true);
  });

  test("sends first what nobody has read, and what was written before", async () => {
    using from = await line();
    using to = await line();
    const arrived = counting();
    from.peer.write("second ");
    await arrived(7);
    to.socket.write("first ");
    const piped = from.socket.pipeTo(to.socket);
    from.peer.end("third");
    expect(await piped).toBe(12);
    expect((await to.received).toString()).toBe("first second third");
  });

  test("takes over from a data handler, in the middle of what it was given", async () => {
    const seen: string[] = [];
    using to = await line();
    const piped = Promise.withResolvers<number>();
    let pipes = 0;
    using from = await line({
      data(socket: Socket, chunk: Buffer) {
        seen.push(chunk.toString());
        pipes++;
        socket.pipeTo(to.socket).then(piped.resolve, piped.reject);
      },
    });
    from.peer.write("head");
    await until(() => pipes === 1, "the head");
    from.peer.end("body");
    expect(await piped.promise).toBe(4);
    expect(seen).toEqual(["head"]);
    expect((await to.received).toString()).toBe("body");
  });

  test("to itself echoes", async () => {
    using echo = await line();
    const bytes = new Random(3).bytes(1 << 20);
    const piped = echo.socket.pipeTo(echo.socket);
    echo.peer.end(bytes);
    expect(await piped).toBe(bytes.length);
    expect((await echo.received).equals(bytes)).toBe(true);
  });

  test("stops receiving while the target's peer reads nothing", async () => {
    using from = await line();
    using to = await line();
    to.peer.pause();
    const piped = from.socket.pipeTo(to.socket);
    const bytes = new Random(9).bytes(64 << 20);
    from.peer.end(bytes);
    // As much as the kernel's buffers take, and no more.
    let before = -1;
    await until(async () => {
      const now = ring.stats().bytes_received;
      const still = now === before;
      before = now;
      await turns(2000);
      return still;
    }, "a standstill");
    expect(from.peer.writableLength).toBeGreaterThan(16 << 20);
    to.peer.resume();
    expect(await piped).toBe(bytes.length);
    expect((await to.received).equals(bytes)).toBe(true);
  });

  test("after the peer's end pipes what is there", async () => {
    using from = await line();
    using to = await line();
    const arrived = counting();
    from.peer.end("all of it");
    await arrived(9);
    await turns(100);
    expect(await from.socket.pipeTo(to.socket)).toBe(9);
    expect((await to.received).toString()).toBe("all of it");
  });

  test("with preventClose leaves the target open for the next", async () => {
    using first = await line();
    using second = await line();
    using to = await line();
    first.peer.end("one ");
    await first.socket.pipeTo(to.socket, { preventClose: true });
    second.peer.end("two");
    await second.socket.pipeTo(to.socket);
    expect((await to.received).toString()).toBe("one two");
  });

  test("rejects with EPIPE when the target goes, and closes the source", async () => {
    using from = await line();
    using to = await line();
    const piped = from.socket.pipeTo(to.socket);
    to.peer.resetAndDestroy();
    from.peer.write("into the void");
    const error = await rejected(piped);
    expect(error.code).toBe("EPIPE");
    await from.received;
  });

  test("rejects with what broke the source, and resets the target", async () => {
    using from = await line();
    using to = await line();
    const piped = from.socket.pipeTo(to.socket);
    from.peer.write("some");
    await until(() => to.bytes() === 4, "the bytes to arrive");
    from.peer.resetAndDestroy();
    expect((await rejected(piped)).code).toBe("ECONNRESET");
    expect((await rejected(to.received)).code).toBe("ECONNRESET");
  });

  test("ends with its signal; prevented, both sockets go on", async () => {
    using from = await line();
    using to = await line();
    const controller = new AbortController();
    const all = { preventAbort: true, preventCancel: true, signal: controller.signal };
    const piped = from.socket.pipeTo(to.socket, all);
    from.peer.write("piped");
    await until(() => to.bytes() === 5, "the bytes to arrive");
    controller.abort();
    expect((await rejected(piped)).name).toBe("AbortError");
    from.peer.end(" read");
    const chunks: Buffer[] = [];
    for await (const chunk of from.socket) chunks.push(chunk);
    to.socket.end(Buffer.concat(chunks));
    expect((await to.received).toString()).toBe("piped read");
  });

  test("refuses what cannot be", async () => {
    using from = await line();
    using to = await line();
    await using other = new Ring();
    using stranger = await line({}, other);
    const code = (call: () => unknown): string => {
      try {
        call();
      } catch (error) {
        return (error as UringError).code;
      }
      return "none";
    };
    expect(code(() => from.socket.pipeTo({} as never))).toBe("EINVAL");
    expect(code(() => from.socket.pipeTo(to.socket, null as never))).toBe("EINVAL");
    expect(code(() => from.socket.pipeTo(to.socket, { preventClose: 1 } as never))).toBe("EINVAL");
    expect(code(() => from.socket.pipeTo(stranger.socket))).toBe("EXDEV");
    void rejected(from.socket.pipeTo(to.socket));
    expect(code(() => from.socket.pipeTo(to.socket))).toBe("EBUSY");
  });
});

describe("proxy", () => {
  test("joins two sockets; each direction ends by itself", async () => {
    using client = await line();
    using upstream = await line();
    const joined = proxy(client.socket, upstream.socket);
    const question = new Random(1).bytes(300_000);
    const answer = new Random(2).bytes(500_000);
    client.peer.end(question);
    expect((await upstream.received).equals(question)).toBe(true);
    upstream.peer.end(answer);
    expect((await client.received).equals(answer)).toBe(true);
    expect(await joined).toEqual({ sent: question.length, received: answer.length });
    await until(() => client.socket.readyState === -1, "the client's socket to close");
    await until(() => upstream.socket.readyState === -1, "the upstream's socket to close");
  });

  test("ends both sockets when one breaks", async () => {
    using client = await line();
    using upstream = await line();
    const joined = proxy(client.socket, upstream.socket);
    client.peer.write("hello");
    await until(() => upstream.bytes() === 5, "the bytes to arrive");
    upstream.peer.resetAndDestroy();
    expect(["ECONNRESET", "EPIPE"]).toContain((await rejected(joined)).code);
    await rejected(client.received);
    expect(client.socket.readyState).not.toBe(1);
  });

  test("carries many connections at once, and leaves nothing", async () => {
    const echo = listen({ hostname: "127.0.0.1", port: 0, ring,
      socket: { open: (socket: Socket) => void socket.pipeTo(socket) } });
    const entry = listen({ hostname: "127.0.0.1", port: 0, ring, socket: {
      async open(socket: Socket) {
        const upstream = await connect({ hostname: "127.0.0.1", port: echo.port, ring,
          socket: {} });
        await proxy(socket, upstream);
      },
    } });
    const before = ring.stats().receive_buffers_free;
    await Promise.all(Array.from({ length: 64 }, async (_, i) => {
      const bytes = new Random(i).bytes(200_000 + i);
      const peer = net.connect({ host: "127.0.0.1", port: entry.port, allowHalfOpen: true });
      const chunks: Buffer[] = [];
      const ended = Promise.withResolvers<void>();
      peer.on("data", (chunk: Buffer) => chunks.push(chunk)).on("end", () => ended.resolve());
      peer.end(bytes);
      await ended.promise;
      expect(Buffer.concat(chunks).equals(bytes)).toBe(true);
    }));
    entry.stop();
    echo.stop();
    await until(() => ring.stats().receive_buffers_free >= before, "the buffers to come back");
  });
});

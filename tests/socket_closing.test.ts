// How a socket ends: the last bytes are never lost, whatever their size; close is bounded; nothing
// of a connection is left.

import { describe, expect, test } from "bun:test";
import * as net from "node:net";
import { connect, listen, Ring, type Socket, type UringError } from "../ts/index.ts";
import { pair } from "./support/pair.ts";
import { seeded } from "./support/random.ts";
import { turns, until } from "./support/until.ts";

const MIB = 1 << 20;

/** Fills every buffer on the way until nothing more is taken. */
function fill(socket: Socket): number {
  const bytes = Buffer.alloc(MIB, 1);
  let total = 0;
  for (let taken = 1; taken > 0; total += taken) taken = socket.write(bytes);
  return total;
}

describe("end(data)", () => {
  test.each(["127.0.0.1", "unix"])("takes all of it, and all of it arrives: %s", async (where) => {
    await seeded(async (random) => {
      const bytes = random.bytes(24 * MIB);
      const place = where === "unix"
        ? { unix: `\0bun-uring-${crypto.randomUUID()}` }
        : { hostname: where };
      using both = await pair({ ...place, allowHalfOpen: true });
      both.server.pause();
      await turns(10);
      expect(both.client.write("first")).toBe(5);
      expect(both.client.end(bytes)).toBe(bytes.length);
      expect([both.client.readyState, both.client.write("late")]).toEqual([-2, -1]);
      expect([both.client.end("late"), both.client.end()]).toEqual([-1, 0]);
      both.server.resume();
      await both.atServer.ended.promise;
      expect(both.atServer.bytes.subarray(0, 5).toString()).toBe("first");
      expect(Buffer.compare(both.atServer.bytes.subarray(5), bytes)).toBe(0);
      expect(both.client.bytesWritten).toBe(5 + bytes.length);
      both.server.end("answer");
      await both.atClient.closed.promise;
      expect(both.atClient.bytes.toString()).toBe("answer");
      expect(both.atClient.order).toEqual(["open", "data", "end", "close"]);
      expect(both.atClient.closeError).toBeUndefined();
    });
  });

  test("goes behind everything that was written, sent and chained before", async () => {
    await seeded(async (random) => {
      const parts = Array.from({ length: 5 }, () => random.bytes(random.size(1, 3 * MIB)));
      const [written, sent, one, two, last] = parts as [Buffer, Buffer, Buffer, Buffer, Buffer];
      using both = await pair();
      both.server.pause();
      await turns(10);
      const taken = both.client.write(written);
      const sending = both.client.send(Uint8Array.from(sent).buffer);
      const chaining = both.client.chain([one, two]);
      expect(both.client.end(last)).toBe(last.length);
      both.server.resume();
      await Promise.all([sending, chaining, both.atServer.ended.promise]);
      const expected = Buffer.concat([written.subarray(0, taken), sent, one, two, last]);
      expect(both.atServer.length).toBe(expected.length);
      expect(Buffer.compare(both.atServer.bytes, expected)).toBe(0);
      await both.atClient.closed.promise;
      expect(both.atClient.closeError).toBeUndefined();
    });
  });

  test("leaves the caller's bytes to the caller at once", async () => {
    using both = await pair();
    both.server.pause();
    await turns(10);
    const bytes = Buffer.alloc(16 * MIB, 7);
    both.client.end(bytes);
    bytes.fill(0);
    both.server.resume();
    await both.atServer.ended.promise;
    expect(both.atServer.bytes.equals(Buffer.alloc(16 * MIB, 7))).toBe(true);
  });

  test("does not call drain any more", async () => {
    using both = await pair();
    both.server.pause();
    await turns(10);
    fill(both.client);
    both.client.end(Buffer.alloc(4 * MIB));
    both.server.resume();
    await both.atClient.closed.promise;
    expect(both.atClient.order).toEqual(["open", "end", "close"]);
  });

  test("with a range sends that range", async () => {
    using both = await pair();
    expect(both.client.end(Buffer.from("abcdef"), 2, 3)).toBe(3);
    await both.atServer.closed.promise;
    expect(both.atServer.bytes.toString()).toBe("cde");
  });

  test("that is refused for its arguments ends nothing", async () => {
    using both = await pair();
    expect(() => both.client.end(7 as never)).toThrow("end: data must be");
    expect(both.client.readyState).toBe(1);
    both.client.write("x");
    await both.atServer.received(1);
  });

  test("and then close: the bytes leave, then it closes without waiting", async () => {
    using both = await pair({ allowHalfOpen: true });
    both.server.pause();
    await turns(10);
    const total = fill(both.client) + 4 * MIB;
    expect(both.client.end(Buffer.alloc(4 * MIB, 2))).toBe(4 * MIB);
    both.client.close();
    both.client.close();
    both.server.resume();
    await both.atClient.closed.promise;
    expect(both.atClient.closeError).toBeUndefined();
    await both.atServer.ended.promise;
    expect(both.atServer.length).toBe(total);
  });

  test("and then terminate: what is left is dropped", async () => {
    using both = await pair();
    both.server.pause();
    await turns(10);
    both.client.end(Buffer.alloc(32 * MIB));
    both.client.terminate();
    await both.atClient.closed.promise;
    both.server.resume();
    await both.atServer.closed.promise;
    expect((both.atServer.closeError as UringError).code).toBe("ECONNRESET");
    expect(both.atClient.closeError).toBeUndefined();
  });

  test("to a peer that resets closes with the error", async () => {
    using both = await pair();
    both.server.pause();
    await turns(10);
    both.client.end(Buffer.alloc(32 * MIB));
    both.server.terminate();
    await both.atClient.closed.promise;
    expect(["ECONNRESET", "EPIPE"]).toContain((both.atClient.closeError as UringError).code);
  });
});

describe("closeTimeout", () => {
  /** A client with a bound, whose peer never reads, so full that bytes are queued. */
  async function stuck(closeTimeout?: number) {
    const peer = net.createServer({ pauseOnConnect: true });
    const accepted = Promise.withResolvers<net.Socket>();
    peer.on("connection", accepted.resolve);
    await new Promise<void>((resolve) => peer.listen(0, "127.0.0.1", resolve));
    const closed = Promise.withResolvers<Error | undefined>();
    const client = await connect({
      hostname: "127.0.0.1",
      port: (peer.address() as net.AddressInfo).port,
      ...(closeTimeout === undefined ? {} : { closeTimeout }),
      socket: { close: (_socket, error) => closed.resolve(error) },
    });
    const socket = await accepted.promise;
    const reset = new Promise<string>((resolve) => {
      socket.on("error", (error: NodeJS.ErrnoException) => resolve(error.code ?? ""));
    });
    fill(client);
    return {
      client,
      socket,
      reset,
      closed: closed.promise,
      async [Symbol.asyncDispose]() {
        socket.destroy();
        client.terminate();
        await closed.promise;
        await new Promise((resolve) => peer.close(resolve));
      },
    };
  }

  test("resets what has not left in time: both ends hear that bytes are missing", async () => {
    await using both = await stuck(60);
    const start = performance.now();
    both.client.close();
    const error = (await both.closed) as UringError;
    expect(performance.now() - start).toBeGreaterThanOrEqual(60);
    expect([error.code, both.client.readyState]).toEqual(["ETIMEDOUT", -1]);
    both.socket.resume();
    expect(await both.reset).toBe("ECONNRESET");
    await until(() => Ring.default.stats().staging_blocks_used === 0);
  });

  test("holds for the bytes of end as well, once it is closed", async () => {
    await using both = await stuck(60);
    both.client.end(Buffer.alloc(8 * MIB));
    await turns(50);
    expect(both.client.readyState).toBe(-2);
    both.client.close();
    expect(((await both.closed) as UringError).code).toBe("ETIMEDOUT");
    both.socket.resume();
    expect(await both.reset).toBe("ECONNRESET");
  });

  test.each([0, undefined])("of %p leaves time", async (closeTimeout) => {
    await using both = await stuck(closeTimeout);
    both.client.close();
    const start = performance.now();
    await until(() => performance.now() - start > 200);
    expect(both.client.readyState).toBe(-2);
    both.socket.resume();
    expect(await both.closed).toBeUndefined();
  });

  test("is what stop(true) gives, too", async () => {
    const errors: (string | undefined)[] = [];
    const accepted = Promise.withResolvers<Socket>();
    const listener = listen({
      hostname: "127.0.0.1",
      port: 0,
      closeTimeout: 50,
      socket: {
        open: accepted.resolve,
        close: (_socket, error) => void errors.push((error as UringError | undefined)?.code),
      },
    });
    const peer = net.connect({ host: "127.0.0.1", port: listener.port });
    peer.on("error", () => peer.destroy());
    const socket = await accepted.promise;
    fill(socket);
    listener.stop(true);
    await until(() => errors.length > 0);
    expect(errors).toEqual(["ETIMEDOUT"]);
    peer.destroy();
  });
});

describe("a peer hears at once of the end of a connection, though an older one waits", () => {
  test.each(["end", "close", "terminate"] as const)("%s", async (how) => {
    using server = listen({
      hostname: "127.0.0.1",
      port: 0,
      socket: { open: (socket) => void accepted.push(socket), data() {} },
    });
    const accepted: Socket[] = [];
    const connected = async (count: number) => {
      const client = net.connect(server.port, "127.0.0.1").resume();
      await until(() => accepted.length === count);
      return client;
    };
    const older = await connected(1);
    const peer = await connected(2);
    const closed = Promise.withResolvers<boolean>();
    peer.on("error", () => {}).on("close", closed.resolve);
    accepted[1]?.[how]();
    expect(await closed.promise).toBe(how === "terminate");
    expect(accepted[0]?.readyState).toBe(1);
    older.destroy();
  });
});

describe("disposal", () => {
  test("await using resolves when the connection is gone, everything sent", async () => {
    using both = await pair({ allowHalfOpen: true });
    {
      await using client = both.client;
      client.write("bytes");
    }
    expect(both.atClient.order).toEqual(["open", "close"]);
    expect(both.client.readyState).toBe(-1);
    await both.atServer.ended.promise;
    expect(both.atServer.bytes.toString()).toBe("bytes");
    await both.client[Symbol.asyncDispose]();
  });

  test("of a socket whose ring closes resolves, too", async () => {
    const ring = new Ring();
    const both = await pair({ ring });
    const disposed = both.client[Symbol.asyncDispose]();
    await ring.close();
    await disposed;
    expect(both.client.readyState).toBe(-1);
  });
});

describe("the descriptor", () => {
  test("is told while the socket is open, and -1 afterwards", async () => {
    using both = await pair();
    expect(both.client.fd).toBeGreaterThan(2);
    expect(both.server.fd).not.toBe(both.client.fd);
    expect(both.listener.fd).toBeGreaterThan(2);
    both.client.terminate();
    both.listener.stop();
    await both.atClient.closed.promise;
    expect([both.client.fd, both.listener.fd]).toEqual([-1, -1]);
  });
});

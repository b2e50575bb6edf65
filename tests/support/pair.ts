// One connection over loopback with both ends in hand, and what each end was told, in order.
// Most tests of one behaviour start from here.

import { connect, listen, type Ring, type Socket, type TCPSocketListener } from "../../ts/index.ts";

/** What an end was told, and promises of the events that come once. */
export class End {
  readonly log: string[] = [];
  readonly chunks: Buffer[] = [];
  closeError: Error | undefined = undefined;
  readonly ended = Promise.withResolvers<void>();
  readonly closed = Promise.withResolvers<void>();
  drained = Promise.withResolvers<void>();
  #length = 0;
  #waiting: { length: number; resolve: () => void }[] = [];

  /** Handlers that write everything down. */
  readonly handlers = {
    open: () => void this.log.push("open"),
    data: (_socket: Socket, chunk: Buffer) => {
      this.log.push("data");
      this.chunks.push(Buffer.from(chunk));
      this.#length += chunk.length;
      this.#waiting = this.#waiting.filter(({ length, resolve }) => {
        if (this.#length < length) return true;
        resolve();
        return false;
      });
    },
    drain: () => {
      this.log.push("drain");
      this.drained.resolve();
      this.drained = Promise.withResolvers<void>();
    },
    end: () => {
      this.log.push("end");
      this.ended.resolve();
    },
    close: (_socket: Socket, error?: Error) => {
      this.log.push("close");
      this.closeError = error;
      this.closed.resolve();
    },
  };

  get bytes(): Buffer {
    return Buffer.concat(this.chunks);
  }

  get length(): number {
    return this.#length;
  }

  /** The events without repetitions of `data`: chunks may be cut anywhere. */
  get order(): string[] {
    return this.log.filter((event, i) => event !== "data" || this.log[i - 1] !== "data");
  }

  async received(length: number): Promise<Buffer> {
    if (this.#length < length) {
      await new Promise<void>((resolve) => this.#waiting.push({ length, resolve }));
    }
    return this.bytes;
  }
}

export interface PairOptions {
  hostname?: string;
  unix?: string;
  allowHalfOpen?: boolean;
  ring?: Ring;
  /** In place of the handlers that write down. */
  serverSocket?: Record<string, unknown>;
  clientSocket?: Record<string, unknown>;
}

export interface Pair extends Disposable {
  /** On a path its port is undefined, all the same. */
  ring: Ring;
  listener: TCPSocketListener;
  server: Socket;
  client: Socket;
  atServer: End;
  atClient: End;
}

/** A listener on a free port and one connection to it. Disposing resets both ends. */
export async function pair(options: PairOptions = {}): Promise<Pair> {
  const atServer = new End();
  const atClient = new End();
  const accepted = Promise.withResolvers<Socket>();
  const shared = {
    ...(options.ring === undefined ? {} : { ring: options.ring }),
    ...(options.allowHalfOpen === undefined ? {} : { allowHalfOpen: options.allowHalfOpen }),
  };
  const place = options.unix === undefined
    ? { hostname: options.hostname ?? "127.0.0.1", port: 0 }
    : { unix: options.unix };
  const listener = listen({
    ...place,
    ...shared,
    socket: {
      ...atServer.handlers,
      open(socket: Socket) {
        atServer.handlers.open();
        accepted.resolve(socket);
      },
      ...options.serverSocket,
    },
  }) as TCPSocketListener;
  const client = await connect({
    ...(options.unix === undefined ? { ...place, port: listener.port } : place),
    ...shared,
    socket: { ...atClient.handlers, ...options.clientSocket },
  });
  const server = await accepted.promise;
  return {
    ring: listener.ring,
    listener,
    server,
    client,
    atServer,
    atClient,
    [Symbol.dispose]() {
      listener.stop(true);
      client.terminate();
    },
  };
}

/** Writes everything, waiting for `drain` wherever less was taken. */
export async function writeAll(socket: Socket, end: End, bytes: Uint8Array): Promise<void> {
  let at = 0;
  while (at < bytes.length) {
    const drained = end.drained.promise;
    const taken = socket.write(bytes.subarray(at));
    if (taken < 0) throw new Error(`closed after ${at} of ${bytes.length} bytes`);
    at += taken;
    if (at < bytes.length) await drained;
  }
}

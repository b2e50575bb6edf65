// Every way to take bytes from a socket and every way to give them back, in one shape: the echo of
// any pair of them is a server that a test can hold against any peer.

import {
  type BinaryType,
  type BorrowedChunk,
  listen,
  type Ring,
  type Socket,
} from "../../ts/index.ts";
import type { Place } from "./echo.ts";

type Chunk = Uint8Array | ArrayBuffer;

/** One connection of the echo, and what became of it. */
export class Session {
  received = 0;
  echoed = 0;
  closes = 0;
  readonly ended = Promise.withResolvers<void>();
  readonly closed = Promise.withResolvers<void>();
  #drained = Promise.withResolvers<void>();
  /** What `data` does with a chunk. */
  take: (chunk: Chunk) => void = () => undefined;

  readonly socket: Socket;

  constructor(socket: Socket) {
    this.socket = socket;
  }

  onDrain(): void {
    this.#drained.resolve();
    this.#drained = Promise.withResolvers<void>();
  }

  /** The next `drain`, or the end of the connection. */
  room(): Promise<void> {
    return Promise.race([this.#drained.promise, this.closed.promise]);
  }
}

// Giving back ----------------------------------------------------------------------------------

type Give = (session: Session, bytes: Buffer) => PromiseLike<unknown>;

async function write(session: Session, bytes: Buffer): Promise<void> {
  for (let rest = bytes; rest.length > 0; ) {
    const room = session.room();
    const taken = session.socket.write(rest);
    if (taken < 0) throw new Error("the connection is gone");
    rest = rest.subarray(taken);
    if (rest.length > 0) await room;
  }
}

/** Of short ones some parts are empty. */
function thirds(bytes: Buffer): Buffer[] {
  const third = Math.ceil(bytes.length / 3);
  return [0, 1, 2].map((i) => bytes.subarray(i * third, (i + 1) * third));
}

export const GIVING: Readonly<Record<string, Give>> = {
  write,
  "corked writes": (session, bytes) => {
    const taken = session.socket.cork((socket) => {
      let sum = 0;
      for (const part of thirds(bytes)) {
        const some = Math.max(0, socket.write(part));
        sum += some;
        if (some < part.length) break;
      }
      return sum;
    });
    return write(session, bytes.subarray(taken));
  },
  send: ({ socket }, bytes) => socket.send(bytes),
  "send of moved memory": ({ socket }, bytes) => socket.send(new Uint8Array(bytes).buffer),
  writev: ({ socket }, bytes) => socket.writev(thirds(bytes)),
  chain: ({ socket }, bytes) => socket.chain(thirds(bytes)),
  "writable stream": async ({ socket }, bytes) => {
    const writer = socket.writable.getWriter();
    await writer.write(bytes).finally(() => writer.releaseLock());
  },
};

// Taking ---------------------------------------------------------------------------------------

/** Hands every chunk to `give`, one after the other, until the peer's FIN. */
type Take = (session: Session, give: (bytes: Buffer) => PromiseLike<unknown>) => Promise<void>;

interface Taking {
  take: Take;
  binaryType?: BinaryType;
  /** By a handler; the other ways must do without one. */
  handler?: true;
}

/** The socket is paused until a chunk was given back. `keep` says what may outlive the handler. */
function byHandler(keep: (chunk: Chunk) => { bytes: Buffer; release?: () => void }): Take {
  return async (session, give) => {
    const given = Promise.withResolvers<never>();
    let queue = Promise.resolve();
    session.take = (chunk) => {
      session.socket.pause();
      const { bytes, release } = keep(chunk);
      queue = queue.then(() => give(bytes)).then(() => {
        release?.();
        session.socket.resume();
      });
      queue.catch(given.reject);
    };
    await Promise.race([session.ended.promise, session.closed.promise, given.promise]);
    await queue;
  };
}

const copied = (chunk: Chunk) => ({ bytes: Buffer.from(chunk as Uint8Array) });
const asItIs = (chunk: Chunk) => ({
  bytes: chunk instanceof ArrayBuffer ? Buffer.from(chunk) : asBuffer(chunk),
});

function asBuffer(chunk: Uint8Array): Buffer {
  return Buffer.from(chunk.buffer, chunk.byteOffset, chunk.byteLength);
}

function kept(chunk: Chunk) {
  const borrowed = (chunk as BorrowedChunk).keep();
  return { bytes: borrowed, release: () => borrowed.release() };
}

async function iterate({ socket }: Session, give: Parameters<Take>[1]): Promise<void> {
  for await (const chunk of socket) await give(chunk);
}

export const TAKING: Readonly<Record<string, Taking>> = {
  "private chunks": { take: byHandler(asItIs), binaryType: "buffer", handler: true },
  "array buffers": { take: byHandler(asItIs), binaryType: "arraybuffer", handler: true },
  "borrowed chunks": { take: byHandler(copied), binaryType: "borrowed", handler: true },
  "kept chunks": { take: byHandler(kept), binaryType: "borrowed", handler: true },
  iteration: { take: iterate },
  "iteration, borrowed": { take: iterate, binaryType: "borrowed" },
  "readable stream": {
    take: async ({ socket }, give) => {
      for await (const chunk of socket.readable) await give(asBuffer(chunk));
    },
  },
};

// The echo -------------------------------------------------------------------------------------

export interface Echo extends Disposable {
  place: Place;
  /** In the order of their coming. */
  sessions: Session[];
}

/** Gives back by the one way what it takes by the other; ends its side after the peer's FIN. */
export function echo(
  taking: string,
  giving: string,
  where: { hostname: string } | { unix: string },
  ring: Ring,
): Echo {
  const { take, binaryType = "buffer", handler } = TAKING[taking] as Taking;
  const give = GIVING[giving] as Give;
  const sessions: Session[] = [];
  const of = (socket: Socket): Session => socket.data as unknown as Session;

  async function serve(session: Session): Promise<void> {
    await take(session, async (bytes) => {
      session.received += bytes.length;
      await give(session, bytes);
      session.echoed += bytes.length;
    });
    session.socket.end();
  }

  const listener = listen<undefined, BinaryType>({
    ...("unix" in where ? where : { ...where, port: 0 }),
    ring,
    allowHalfOpen: true,
    socket: {
      binaryType,
      open(socket) {
        const session = new Session(socket as Socket);
        socket.data = session as never;
        sessions.push(session);
        // Nothing more can be given back: a reset, which the client has seen to.
        serve(session).catch(() => socket.terminate());
      },
      ...(handler && { data: (socket: Socket, chunk: Chunk) => of(socket).take(chunk) }),
      drain: (socket) => of(socket as Socket).onDrain(),
      end: (socket) => of(socket as Socket).ended.resolve(),
      error: () => undefined,
      close(socket) {
        const session = of(socket as Socket);
        session.closes++;
        session.closed.resolve();
      },
    },
  });
  const place: Place = "unix" in where
    ? where
    : { hostname: where.hostname, port: listener.port ?? 0 };
  return { place, sessions, [Symbol.dispose]: () => void listener.stop(true) };
}

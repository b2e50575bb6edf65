// The echo that every callback driver runs, so that they differ in their sockets only.
//
// It writes each chunk back as it comes. When a socket takes less than was offered, the rest is
// kept, the socket is paused and `drain` goes on: nothing is lost and memory stays bounded by one
// read.

/** What the echo needs of a socket; Bun's and ours both have it. */
export interface EchoSocket {
  write(data: Uint8Array): number;
  pause(): void;
  resume(): void;
  end(): void;
}

export interface EchoHandlers<S extends EchoSocket> {
  data(socket: S, chunk: Uint8Array): void;
  drain(socket: S): void;
  end(socket: S): void;
  close(socket: S): void;
  error(socket: S, error: Error): void;
}

interface Unsent {
  chunks: Uint8Array[];
  ended: boolean;
}

export function echoHandlers<S extends EchoSocket>(): EchoHandlers<S> {
  // Only blocked sockets are in it: the usual message costs one comparison.
  const blocked = new Map<S, Unsent>();
  return {
    data(socket, chunk) {
      const unsent = blocked.size > 0 ? blocked.get(socket) : undefined;
      if (unsent !== undefined) {
        unsent.chunks.push(new Uint8Array(chunk));
        return;
      }
      const written = Math.max(0, socket.write(chunk));
      if (written === chunk.length) return;
      // A copy: a borrowed chunk is gone when this function returns.
      const rest = new Uint8Array(chunk.subarray(written));
      blocked.set(socket, { chunks: [rest], ended: false });
      socket.pause();
    },
    drain(socket) {
      const unsent = blocked.get(socket);
      if (unsent === undefined) return;
      let chunk: Uint8Array | undefined;
      while ((chunk = unsent.chunks[0]) !== undefined) {
        const written = Math.max(0, socket.write(chunk));
        if (written < chunk.length) {
          unsent.chunks[0] = chunk.subarray(written);
          return;
        }
        unsent.chunks.shift();
      }
      blocked.delete(socket);
      if (unsent.ended) socket.end();
      else socket.resume();
    },
    end(socket) {
      const unsent = blocked.get(socket);
      if (unsent !== undefined) unsent.ended = true;
      else socket.end();
    },
    close(socket) {
      blocked.delete(socket);
    },
    error(socket, error) {
      blocked.delete(socket);
      console.error(error.message);
    },
  };
}

/** The port in the first argument; 0 or nothing means any free one. */
export function portArgument(): number {
  const port = Number(process.argv[2] ?? 0);
  if (Number.isInteger(port) && port >= 0 && port <= 65535) return port;
  console.error(`PORT: expected 0 to 65535, got '${process.argv[2]}'`);
  process.exit(1);
}

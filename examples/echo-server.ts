// Echo server: what comes in goes out, read where the kernel put it.
//
// Shows: listen() with Bun.listen's handlers, borrowed chunks (large ones are never copied),
// back-pressure both ways, a graceful stop. Needs Linux 5.19 with io_uring.
//
//   run it   npm start -- --port 7000          or: bun examples/echo-server.ts --unix /tmp/echo
//   try it   nc 127.0.0.1 7000                 stop it with Ctrl-C

import { listen, type Socket } from "bun-uring";
import { parseArgs } from "node:util";

type Unsent = { chunks: Uint8Array[]; ended: boolean };
type EchoSocket = Socket<Unsent>;

const sockets = new Set<EchoSocket>();
const total = { connections: 0, messages: 0, bytes: 0 };
const mebibytes = (bytes: number): string => (bytes / 2 ** 20).toFixed(1);

/** Writes a chunk back; if the socket takes less, the rest waits and the peer is pushed back. */
function echo(socket: EchoSocket, chunk: Uint8Array): boolean {
  const taken = Math.max(0, socket.write(chunk));
  if (taken === chunk.length) return true;
  socket.data.chunks.unshift(Uint8Array.from(chunk.subarray(taken))); // a loan ends: copy
  socket.pause();
  return false;
}

function serve(where: { port?: number; hostname?: string; unix?: string }) {
  return listen<Unsent, "borrowed">({
    ...where,
    allowHalfOpen: true, // after the peer's FIN there may be bytes to send still
    socket: {
      binaryType: "borrowed",
      open(socket) {
        socket.data = { chunks: [], ended: false };
        sockets.add(socket);
        total.connections++;
      },
      data(socket, chunk) {
        total.messages++;
        total.bytes += chunk.length;
        if (socket.data.chunks.length > 0) socket.data.chunks.push(Uint8Array.from(chunk));
        else echo(socket, chunk);
      },
      drain(socket) {
        for (let chunk; (chunk = socket.data.chunks.shift()); ) if (!echo(socket, chunk)) return;
        if (socket.data.ended) socket.end();
        else socket.resume();
      },
      end(socket) {
        socket.data.ended = true;
        if (socket.data.chunks.length === 0) socket.end();
      },
      close: (socket) => void sockets.delete(socket),
    },
  });
}

try {
  const text = { type: "string" } as const;
  const { values } = parseArgs({ options: { port: text, hostname: text, unix: text } });
  const { unix, hostname = "127.0.0.1", port = "7000" } = values;
  const server = serve(unix === undefined ? { hostname, port: Number(port || NaN) } : { unix });
  console.log(`echo on ${server.unix ?? `${server.hostname}:${server.port}`}`);
  console.log(`backend ${server.ring.backend}: ${server.ring.reason}`);

  let last = { ...total };
  const status = setInterval(() => {
    const line =
      `${sockets.size} connections, ${total.messages - last.messages} messages/s, ` +
      `${mebibytes(total.bytes - last.bytes)} MiB/s`;
    if (process.stdout.isTTY) process.stdout.write(`\r\x1b[K${line}`);
    last = { ...total };
  }, 1000);

  const stop = (): void => {
    clearInterval(status);
    server.stop();
    for (const socket of sockets) socket.end(); // what was taken still leaves
    setTimeout(() => sockets.forEach((socket) => socket.terminate()), 2000).unref();
  };
  process.on("SIGINT", stop).on("SIGTERM", stop);
  process.on("exit", () => {
    const { connections, messages, bytes } = total;
    console.log(`\n${connections} connections, ${messages} messages, ${mebibytes(bytes)} MiB`);
  });
} catch (error) {
  console.error((error as Error).message);
  process.exit(1);
}

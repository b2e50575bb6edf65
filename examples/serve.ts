// A key-value store in two Workers: "set KEY VALUE", "get KEY" and "count", a line each.
//
// Shows: serve() with its module in the same file, a ring and a listener per Worker, an orderly end
// on SIGTERM. Each Worker has a store of its own; what all are to share goes into a database, or to
// one owner by post. Needs Linux 5.19; on older kernels the epoll twin serves.
//
//   run it   bun examples/serve.ts --port 7001 --workers 2
//   try it   printf 'set a 1\nget a\ncount\n' | nc -q 1 127.0.0.1 7001     stop it with Ctrl-C

import { isMainThread } from "node:worker_threads";
import { parseArgs } from "node:util";
import { listenFds, serve, type Service, type ServiceContext, type Socket } from "bun-uring";

interface Session {
  /** The start of a line whose end has not come yet. */
  rest: string;
}

/** Each Worker calls this, and serves what it returns. */
export default function store({ id }: ServiceContext): Service<Session> {
  const values = new Map<string, string>();
  const sessions = new Set<Socket<Session>>();
  const answer = (line: string): string => {
    const [command, key = "", ...value] = line.split(" ");
    if (command === "get") return values.get(key) ?? "none";
    if (command === "count") return `${values.size} in Worker ${id}`;
    if (command !== "set") return "commands are: set KEY VALUE, get KEY, count";
    values.set(key, value.join(" "));
    return "ok";
  };
  return {
    socket: {
      open(socket) {
        socket.data = { rest: "" };
        sessions.add(socket);
      },
      data(socket, chunk) {
        const lines = (socket.data.rest + chunk.toString()).split("\n");
        socket.data.rest = lines.pop() ?? "";
        const text = lines.map((line) => `${answer(line)}\n`).join("");
        if (socket.write(text) < Buffer.byteLength(text)) socket.end(); // it does not read
      },
      close: (socket) => void sessions.delete(socket),
    },
    // Nobody asks a store that stops: idle sessions end here, and with them the Worker.
    stopping: () => sessions.forEach((socket) => socket.end()),
  };
}

if (isMainThread) {
  try {
    const text = { type: "string" } as const;
    const { values } = parseArgs({ options: { port: text, workers: text } });
    const [activated] = listenFds(); // from systemd, if it has started us
    const server = await serve({
      module: import.meta.url,
      ...(activated ?? { hostname: "127.0.0.1", port: Number(values.port ?? 7001) }),
      workers: Number(values.workers ?? 2),
      stopTimeout: 2000,
      signals: true,
    });
    console.log(`${server.workers} Workers on ${server.hostname}:${server.port}`);
  } catch (error) {
    console.error((error as Error).message);
    process.exit(1);
  }
}

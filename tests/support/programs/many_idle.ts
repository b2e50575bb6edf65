// Two roles. "server" echoes on a ring with eight receive buffers until its input ends, and prints
// its port. "clients PORT COUNT" opens that many idle connections to it, echoes 1 MiB over another,
// and prints whether it came back.

import { connect, listen, Ring, type Socket } from "../../../ts/index.ts";
import { echoClient } from "../echo.ts";
import { Random } from "../random.ts";

async function serve(): Promise<void> {
  const ring = new Ring({ receiveBuffers: 8 });
  const rests = new WeakMap<Socket, Buffer[]>();
  const listener = listen({
    hostname: "127.0.0.1",
    port: 0,
    ring,
    allowHalfOpen: true,
    socket: {
      data(socket: Socket, chunk: Buffer) {
        const waiting = rests.get(socket) ?? [];
        rests.set(socket, waiting);
        waiting.push(chunk);
        if (waiting.length === 1) send(socket);
      },
      drain: send,
      end: (socket: Socket) => void socket.end(),
    },
  });
  function send(socket: Socket): void {
    const waiting = rests.get(socket) ?? [];
    for (let chunk = waiting[0]; chunk !== undefined; chunk = waiting[0]) {
      const taken = socket.write(chunk);
      if (taken < 0) return;
      if (taken < chunk.length) {
        waiting[0] = chunk.subarray(taken);
        return;
      }
      waiting.shift();
    }
  }
  console.log(listener.port);
  await Bun.stdin.text();
  const connections = listener.connectionCount;
  listener.stop(true);
  await ring.close();
  console.log(connections);
}

async function dial(port: number, count: number): Promise<void> {
  const place = { hostname: "127.0.0.1", port };
  const idle: Socket[] = [];
  while (idle.length < count) {
    const batch = Array.from({ length: 500 }, () => connect({ ...place, socket: {} }));
    idle.push(...(await Promise.all(batch)));
  }
  const bytes = new Random(1).bytes(1 << 20);
  const pieces = Array.from({ length: 64 }, () => 1 << 14);
  const echoed = await echoClient("ours", place, { bytes, pieces, halfClose: false });
  const open = idle.filter((socket) => socket.readyState === 1).length;
  for (const socket of idle) socket.terminate();
  console.log(JSON.stringify({ open, same: Buffer.compare(echoed, bytes) === 0 }));
}

const [role, port, count] = process.argv.slice(2);
if (role === "server") await serve();
else await dial(Number(port), Number(count));

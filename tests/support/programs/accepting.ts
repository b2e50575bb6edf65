// A server that holds its connections, told what to do by lines of its input: "stats", "close N",
// "block MS" (the thread does nothing for so long). Prints its port, then an answer to each line.

import { listen, Ring, type Socket } from "../../../ts/index.ts";

const backlog = Number(process.argv[2] ?? 512);
const ring = new Ring();
const nothing = new Int32Array(new SharedArrayBuffer(4));
const held: Socket[] = [];
const errors: string[] = [];
// Open before anything else: reading it takes descriptors of its own.
const input = Bun.stdin.stream().getReader();
let reading = input.read();
await new Promise((resolve) => setImmediate(resolve));
await ring.nop();

const listener = listen({
  hostname: "127.0.0.1",
  port: 0,
  backlog,
  ring,
  socket: {
    open: (socket: Socket) => void held.push(socket),
    data: (socket: Socket, chunk: Buffer) => void socket.write(chunk),
    close(socket: Socket, error?: Error) {
      if (error !== undefined) errors.push((error as Error & { code: string }).code);
      const at = held.indexOf(socket);
      if (at >= 0) held.splice(at, 1);
    },
  },
});
console.log(listener.port);

for (;;) {
  const { value, done } = await reading;
  if (done) break;
  reading = input.read();
  for (const line of Buffer.from(value).toString().trim().split("\n")) {
    const [command, argument] = line.split(" ");
    if (command === "close") for (const socket of held.splice(0, Number(argument))) socket.end();
    if (command === "block") Atomics.wait(nothing, 0, 0, Number(argument));
    const { accepts_failed, accept_backoffs, connections_opened } = ring.stats();
    const answer = { held: held.length, errors, accepts_failed, accept_backoffs };
    console.log(JSON.stringify({ ...answer, connections_opened }));
  }
}
listener.stop(true);
await ring.close();

// A Worker that echoes on a ring of its own: posts its port, tells how many connections it has, and
// stops everything on the message "stop".

import { listen, type Listener, type Socket } from "../../../ts/index.ts";

declare const self: Worker;

const listener: Listener = listen({
  hostname: "127.0.0.1",
  port: 0,
  socket: {
    open: () => self.postMessage({ connections: listener.connectionCount }),
    data: (socket: Socket, chunk: Buffer) => void socket.write(chunk),
  },
});

self.onmessage = ({ data }: MessageEvent) => {
  if (data !== "stop") return;
  listener.stop(true);
  self.postMessage({ stopped: true });
};

self.postMessage({ port: listener.port });

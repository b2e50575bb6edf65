// A module for `serve`: echoes, and does on request what a Worker should not: "throw", "exit",
// "spin"; "nap" says so in the first number of a shared array, and throws when the second is set.
//
// "who" is answered with the Worker's number and thread, "data" with what `workerData` was. Its
// steps at the end go to a BroadcastChannel that `workerData` may name.

import { threadId } from "node:worker_threads";
import type { Service, ServiceContext, Socket } from "../../../ts/index.ts";

export default function service({ id, data: given }: ServiceContext): Service {
  const channel = (given as { channel?: string } | undefined)?.channel;
  const tell = (step: string): void => {
    if (channel === undefined) return;
    const broadcast = new BroadcastChannel(channel);
    broadcast.postMessage(`${id} ${step}`);
    broadcast.close();
  };
  return {
    stopping: () => tell("stopping"),
    stopped: () => tell("stopped"),
    socket: {
      data(socket: Socket, chunk: Buffer) {
        const text = chunk.toString();
        if (text === "throw") throw new RangeError(`thrown in Worker ${id}`);
        if (text === "exit") process.exit(3);
        if (text === "spin") for (;;);
        if (text === "nap") {
          const { shared } = given as { shared: Int32Array };
          Atomics.store(shared, 0, 1);
          Atomics.wait(shared, 1, 0);
          throw new Error("awake");
        }
        if (text === "who") socket.write(`${id} ${threadId}`);
        else if (text === "data") socket.write(JSON.stringify(given));
        else socket.write(chunk);
      },
    },
  };
}

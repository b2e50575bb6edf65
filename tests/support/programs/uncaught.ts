// Connections whose handlers throw or reject, one handler and one way each, on a server without an
// `error` handler (or whose `error` handler fails itself). Prints what the process heard of and
// whether an echo still works. With the argument "unheard" nobody listens to the process' errors.

import { connect, listen, type Socket, type SocketHandler } from "../../../ts/index.ts";
import { pair } from "../pair.ts";
import { until } from "../until.ts";

const uncaught: string[] = [];
const hear = (error: unknown) => void uncaught.push((error as Error).message);
if (process.argv[2] !== "unheard") {
  process.on("uncaughtException", hear);
  process.on("unhandledRejection", hear);
}

let closed = 0;

async function fail(name: string, way: "throws" | "rejects"): Promise<void> {
  const broken = () => {
    const error = new Error(`from ${name}: ${way}`);
    if (way === "rejects") return Promise.reject(error);
    throw error;
  };
  const done = Promise.withResolvers<void>();
  const handlers: Record<string, unknown> = { data() {}, [name]: broken };
  if (name === "error") {
    handlers["data"] = () => {
      throw new Error("told to error");
    };
  }
  using listener = listen({
    hostname: "127.0.0.1",
    port: 0,
    socket: handlers as SocketHandler,
  });
  const socket = await connect({
    hostname: "127.0.0.1",
    port: listener.port,
    allowHalfOpen: true,
    socket: { close: () => done.resolve() },
  });
  socket.end("bytes");
  await done.promise;
  closed++;
}

async function main(): Promise<void> {
  if (process.argv[2] === "unheard") {
    // It holds the process, which the error has to end.
    listen({ hostname: "127.0.0.1", port: 0, socket: { data() {} } });
    await fail("open", "throws");
    return;
  }
  for (const name of ["open", "data", "end", "close", "error"]) {
    await fail(name, "throws");
    await fail(name, "rejects");
  }
  await until(() => uncaught.length >= 10);

  const data = (socket: Socket, chunk: Buffer) => void socket.write(chunk);
  using both = await pair({ serverSocket: { data } });
  both.client.write("echo");
  const echoed = (await both.atClient.received(4)).toString();
  console.log(JSON.stringify({ uncaught, echoed, closed }));
}

// Not awaited: while a module awaits at its top level, Bun goes on after an uncaught error.
void main();

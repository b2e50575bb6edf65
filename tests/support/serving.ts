// Servers for tests: what is asked of one is answered by tests/support/programs/echo_service.ts.
// Clients are node:net's, so that nothing under test judges itself.

import * as net from "node:net";
import { serve, type ServeOptions, type Server } from "../../ts/index.ts";
import { program } from "./child.ts";

export const echoService = program("echo_service");

type Given = Partial<ServeOptions>;

/** A server of two Workers on a free port, unless the options say otherwise. */
export function serveEcho(options: Given = {}): Promise<Server> {
  const where = options.unix === undefined && options.fd === undefined
    ? { hostname: "127.0.0.1", port: 0 }
    : {};
  return serve({ module: echoService, workers: 2, restartDelay: 1, ...where, ...options });
}

export function placeOf({ port, unix }: Pick<Server, "port" | "unix">): net.NetConnectOpts {
  return unix === undefined ? { host: "127.0.0.1", port: port as number } : { path: unix };
}

/** A connection that asks: each answer comes in one piece. */
export class Client {
  readonly #socket: net.Socket;
  #answers: string[] = [];
  #wake: (() => void) | null = null;
  #over: string | null = null;

  private constructor(socket: net.Socket) {
    this.#socket = socket;
    socket.on("data", (chunk: Buffer) => this.#heard(() => void this.#answers.push(`${chunk}`)));
    socket.on("error", (error: NodeJS.ErrnoException) => this.#end(error.code ?? "error"));
    socket.on("close", () => this.#end("closed"));
  }

  static connect(server: Pick<Server, "port" | "unix">): Promise<Client> {
    const socket = net.connect(placeOf(server));
    return new Promise((resolve, reject) => {
      socket.once("error", reject);
      socket.once("connect", () => {
        socket.off("error", reject);
        resolve(new Client(socket));
      });
    });
  }

  #heard(what: () => void): void {
    what();
    this.#wake?.();
  }

  #end(how: string): void {
    this.#heard(() => (this.#over ??= how));
  }

  write(text: string): void {
    this.#socket.write(text);
  }

  /** The answer; "closed", or an error's code, if there is none. */
  async ask(text: string): Promise<string> {
    this.write(text);
    return this.next();
  }

  async next(): Promise<string> {
    while (this.#answers.length === 0 && this.#over === null) {
      await new Promise<void>((resolve) => (this.#wake = resolve));
    }
    return this.#answers.shift() ?? this.#over ?? "";
  }

  end(): void {
    this.#socket.end();
  }

  [Symbol.dispose](): void {
    this.#socket.destroy();
  }
}

/** One question over a connection of its own. */
export async function ask(server: Pick<Server, "port" | "unix">, text: string): Promise<string> {
  using client = await Client.connect(server);
  return await client.ask(text);
}

/** The number of the Worker that answered. */
export async function workerOf(server: Pick<Server, "port" | "unix">): Promise<number> {
  return Number((await ask(server, "who")).split(" ")[0]);
}

/** True when nobody listens any more. */
export async function refuses(server: Pick<Server, "port" | "unix">): Promise<boolean> {
  try {
    using _client = await Client.connect(server);
    return false;
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    if (code === "ECONNREFUSED") return true;
    if (code === "ECONNRESET") return false; // it waited to be accepted
    throw error;
  }
}

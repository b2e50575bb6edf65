// One script, run against Bun's own sockets and against ours: what each end was told, in order,
// with the kinds of its arguments, and what the calls returned.

import { connect, listen } from "../../ts/index.ts";
import { turns, until } from "./until.ts";

// Both are called as JavaScript calls them: their types differ in more than their behaviour.
type Loose = Record<string, never> & ((...values: unknown[]) => unknown);

/** A socket or listener of either kind. */
export type Thing = { [name: string]: Loose } & Disposable;

export interface Api {
  listen(options: object): Thing;
  connect(options: object): Promise<Thing>;
}

export const APIS: Record<"bun" | "ours", Api> = {
  bun: {
    listen: (options) => Bun.listen(options as never) as unknown as Thing,
    connect: (options) => Bun.connect(options as never) as unknown as Promise<Thing>,
  },
  ours: {
    listen: (options) => listen(options as never) as unknown as Thing,
    connect: (options) => connect(options as never) as unknown as Promise<Thing>,
  },
};

const HANDLERS = ["open", "data", "drain", "end", "close", "error", "timeout", "connectError"];

/** What a value looks like to a program: its kind, and what of it is the same everywhere. */
export function show(value: unknown): string {
  if (value instanceof Error) {
    const { code } = value as { code?: string };
    return `Error ${code ?? value.message}`;
  }
  if (ArrayBuffer.isView(value)) {
    const bytes = Buffer.from(value.buffer, value.byteOffset, value.byteLength);
    return `${value.constructor.name} ${bytes}`;
  }
  if (value instanceof ArrayBuffer) return `ArrayBuffer ${Buffer.from(value)}`;
  return typeof value === "string" ? JSON.stringify(value) : String(value);
}

/** One end of a connection: a log, and handlers that write to it. */
export class Side {
  readonly log: string[] = [];
  socket: Thing | undefined;

  handlers(more: object = {}): object {
    const own = HANDLERS.map((name) => [
      name,
      (socket: Thing, ...values: unknown[]) => {
        this.socket ??= socket;
        // Bun tells of room that nobody was short of; that is looked at on its own.
        if (name !== "drain") this.log.push([name, ...values.map(show)].join(" "));
      },
    ]);
    return { ...Object.fromEntries(own), ...more };
  }

  /** Notes what a call returned, or the code that it threw. */
  note(what: string, call: () => unknown): void {
    try {
      this.log.push(`${what} = ${show(call())}`);
    } catch (error) {
      this.log.push(`${what} threw ${show(error)}`);
    }
  }

  async saw(what: string): Promise<void> {
    await until(() => this.log.some((line) => line.startsWith(what)), `saw ${what}: ${this.log}`);
  }
}

export interface Scene extends AsyncDisposable {
  api: Api;
  listener: Thing;
  server: Side;
  client: Side;
  /** Both sockets. */
  atServer: Thing;
  atClient: Thing;
}

export interface SceneOptions {
  allowHalfOpen?: boolean;
  listen?: object;
  connect?: object;
  /** In place of the handlers that write down. */
  server?: object;
  client?: object;
}

export async function scene(api: Api, options: SceneOptions = {}): Promise<Scene> {
  const { allowHalfOpen = false } = options;
  const server = new Side();
  const client = new Side();
  const shared = { hostname: "127.0.0.1", allowHalfOpen };
  const listener = api.listen({
    ...shared,
    port: 0,
    ...options.listen,
    socket: server.handlers(options.server),
  });
  const atClient = await api.connect({
    ...shared,
    port: listener["port"],
    ...options.connect,
    socket: client.handlers(options.client),
  });
  await until(() => server.socket !== undefined);
  return {
    api,
    listener,
    server,
    client,
    atServer: server.socket as Thing,
    atClient,
    async [Symbol.asyncDispose]() {
      atClient["terminate"]?.();
      listener["stop"]?.(true);
      await turns(5);
    },
  };
}

/** What both ends wrote down. */
export interface Transcript {
  server: string[];
  client: string[];
}

/** A script over one connection. */
export interface Scenario {
  name: string;
  options?: SceneOptions;
  run(scene: Scene): Promise<void> | void;
}

/** A script of one end. */
export interface Script {
  name: string;
  run(api: Api, side: Side): Promise<void> | void;
}

export async function play(api: Api, { options, run }: Scenario): Promise<Transcript> {
  await using played = await scene(api, options);
  await run(played);
  const { server, client } = played;
  return { server: [...server.log], client: [...client.log] };
}

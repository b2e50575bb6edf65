// Starts servers and load generators, each pinned to its core, and makes sure that none outlives
// us.
//
// `pin` asks the kernel to kill a child when we die, so even a killed benchmark leaves nothing
// behind.
import { readFileSync } from "node:fs";
import { program } from "./programs.ts";

type Child = Bun.Subprocess<"ignore", "pipe", "inherit">;
const running = new Set<Child>();

/** How long a server may take until it listens. */
const startMs = 10_000;

export interface Server {
  pid: number;
  port: number;
  stop(signal?: "SIGKILL" | "SIGTERM"): Promise<void>;
}

/** Starts `command`, which asks for any free port, and waits until it says where it listens. */
export async function startServer(
  command: readonly string[],
  core = cores().server,
): Promise<Server> {
  const child = start(command, core);
  const port = await listeningPort(child, command);
  return {
    pid: child.pid,
    port,
    async stop(signal = "SIGKILL") {
      child.kill(signal);
      await child.exited;
    },
  };
}

/** Runs `command` on the load's core to its end and returns what it printed. */
export async function runLoad(command: readonly string[]): Promise<string> {
  const child = start(command, cores().load);
  const text = await new Response(child.stdout).text();
  await child.exited;
  return text;
}

/** Kills every child; for Ctrl-C and for errors on the way. */
export function killAll(): void {
  for (const child of running) child.kill("SIGKILL");
}

/** The first two cores that we may use; one core serves both when there is no other. */
export function cores(): { server: number; load: number } {
  const status = readFileSync("/proc/self/status", "utf8");
  const list = /^Cpus_allowed_list:\s*(\S+)/m.exec(status)?.[1] ?? "0";
  const allowed = list.split(",").flatMap((range) => {
    const [low, high = low] = range.split("-").map(Number) as [number, number?];
    return Array.from({ length: high - low + 1 }, (_, i) => low + i);
  });
  const server = allowed[0] ?? 0;
  return { server, load: allowed[1] ?? server };
}

function start(command: readonly string[], core: number): Child {
  const child = Bun.spawn([program("pin"), String(core), ...command], {
    stdin: "ignore",
    stdout: "pipe",
    stderr: "inherit",
  });
  running.add(child);
  void child.exited.then(() => running.delete(child));
  return child;
}

async function listeningPort(child: Child, command: readonly string[]): Promise<number> {
  const timer = setTimeout(() => child.kill("SIGKILL"), startMs);
  const decoder = new TextDecoder();
  let text = "";
  for await (const bytes of child.stdout) {
    text += decoder.decode(bytes, { stream: true });
    const port = /^listening (\d+)$/m.exec(text)?.[1];
    if (port === undefined) continue;
    clearTimeout(timer);
    return Number(port);
  }
  clearTimeout(timer);
  throw new Error(`${command.join(" ")}: ended without listening`);
}

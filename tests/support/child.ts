// Programs that run in a process of their own, for what a test cannot do to its own process: crash,
// exit, use up descriptors, measure memory. They are files in tests/support/programs/.

import * as net from "node:net";
import { fileURLToPath } from "node:url";
import { patience } from "./patience.ts";

export interface Finished {
  code: number | null;
  signal: string | null;
  stdout: string;
  stderr: string;
}

export interface ChildOptions {
  arguments?: readonly string[];
  env?: Record<string, string>;
  /** The program is killed after this long; on a slow machine it may take longer. */
  timeoutMs?: number;
}

/** A program of tests/support/programs by its name. */
export function program(name: string): string {
  return fileURLToPath(new URL(`programs/${name}.ts`, import.meta.url));
}

export function start(path: string, options: ChildOptions = {}) {
  return Bun.spawn([process.execPath, path, ...(options.arguments ?? [])], {
    cwd: fileURLToPath(new URL("../..", import.meta.url)),
    env: { ...process.env, ...options.env },
    stdin: "pipe",
    stdout: "pipe",
    stderr: "pipe",
    timeout: (options.timeoutMs ?? 25_000) * patience,
    killSignal: "SIGKILL",
  });
}

/** Runs a program to its end. */
export async function run(path: string, options: ChildOptions = {}): Promise<Finished> {
  const child = start(path, options);
  await child.stdin.end();
  const [stdout, stderr, code] = await Promise.all([
    child.stdout.text(),
    child.stderr.text(),
    child.exited,
  ]);
  const signal = child.signalCode === null ? null : String(child.signalCode);
  return { code: signal === null ? code : null, signal, stdout, stderr };
}

/** The same; it must exit with 0 and print one JSON value as its last line, which is returned. */
export async function answer<Value>(path: string, options: ChildOptions = {}): Promise<Value> {
  const { code, signal, stdout, stderr } = await run(path, options);
  if (code !== 0) {
    throw new Error(`${path} ended with ${code ?? signal}:\n${stdout}\n${stderr}`);
  }
  return JSON.parse(stdout.trimEnd().split("\n").at(-1) ?? "") as Value;
}

/** Sends a text over a new connection; what came back until the server closed or echoed it all. */
export function exchange(port: number, text: string): Promise<string> {
  return new Promise((resolve, reject) => {
    const socket = net.connect({ host: "127.0.0.1", port });
    socket.on("connect", () => socket.write(text));
    socket.on("data", (chunk: Buffer) => {
      resolve(chunk.toString());
      socket.destroy();
    });
    socket.on("end", () => resolve(""));
    socket.on("error", reject);
  });
}

/** The number at the start of what a program prints next. */
export async function numberFrom(reader: {
  read(): Promise<{ value?: Uint8Array | undefined }>;
}): Promise<number> {
  const { value } = await reader.read();
  return Number.parseInt(Buffer.from(value ?? []).toString(), 10);
}

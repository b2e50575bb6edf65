// Builds the Zig programs of the benchmark into zig-out/bench/, each only when a source is newer.
//
// Called by the trials before the first round; it never runs a program.
import { existsSync, mkdirSync, readdirSync, statSync } from "node:fs";
import { join } from "node:path";

export const root = join(import.meta.dir, "..");
const output = join(root, "zig-out", "bench");

const sources = {
  raw_uring: "bench/drivers/raw_uring.zig",
  raw_nop: "bench/drivers/raw_nop.zig",
  raw_epoll: "bench/drivers/raw_epoll.zig",
  load: "bench/load/load.zig",
  pin: "bench/load/pin.zig",
} as const;

export type Program = keyof typeof sources;

/** The path of an up-to-date program. Throws with the compiler's words when it does not build. */
export function program(name: Program): string {
  const path = join(output, name);
  if (upToDate(path)) return path;
  mkdirSync(output, { recursive: true });
  const command = [zig(), "build-exe", "-O", "ReleaseFast", "-fsingle-threaded", "-fstrip"];
  command.push(`-femit-bin=${path}`, "--dep", "thin_ring", `-Mroot=${sources[name]}`);
  command.push("-Mthin_ring=bench/thin_ring.zig");
  const result = Bun.spawnSync(command, { cwd: root, stderr: "pipe" });
  if (result.exitCode !== 0) throw new Error(`${sources[name]}:\n${result.stderr}`);
  return path;
}

/** A TypeScript driver as JavaScript, for a Node that does not strip types itself. */
export async function stripped(source: string): Promise<string> {
  mkdirSync(output, { recursive: true });
  const name = (source.split("/").pop() as string).replace(/\.ts$/, ".mjs");
  const path = join(output, name);
  const text = await Bun.file(join(root, source)).text();
  const transpiler = new Bun.Transpiler({ loader: "ts", target: "node" });
  await Bun.write(path, transpiler.transformSync(text));
  return path;
}

function upToDate(path: string): boolean {
  if (!existsSync(path)) return false;
  const built = statSync(path).mtimeMs;
  // Any source may be imported by any program: a build takes seconds, a stale limit misleads for
  // days.
  const files = ["bench", "bench/drivers", "bench/load"].flatMap((folder) =>
    readdirSync(join(root, folder))
      .filter((file) => file.endsWith(".zig"))
      .map((file) => join(root, folder, file)),
  );
  files.push(import.meta.path);
  return files.every((file) => statSync(file).mtimeMs <= built);
}

function zig(): string {
  const architecture = process.arch === "arm64" ? "arm64" : "x64";
  const native = join(root, `node_modules/@zigc/linux-${architecture}/bin/zig`);
  if (existsSync(native)) return native;
  const shim = join(root, "node_modules/.bin/zig");
  if (existsSync(shim)) return shim;
  throw new Error("the Zig compiler is not installed: run `npm install`");
}

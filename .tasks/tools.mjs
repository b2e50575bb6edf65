// Where the tree's tools are, and how the other tasks run them. Plain JavaScript for Node 20 and
// Bun alike, without dependencies: it runs before anything is installed.

import { spawn } from "node:child_process";
import { existsSync } from "node:fs";
import { constants } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";

export const root = fileURLToPath(new URL("..", import.meta.url));
export const inTree = (...parts) => join(root, ...parts);

/** The real binary: `.bin/bunx` and friends are links that one of two installers makes. */
export const bun = inTree("node_modules/bun/bin/bun.exe");
export const tsc = inTree("node_modules/typescript/bin/tsc");
export const library = inTree("zig-out/lib/libbun_uring.so");

/** The compiler as a command: its binary, or else the package's start script, which is slower. */
export function zig() {
  const packages = inTree("node_modules/@zigc");
  const binary = join(packages, `${process.platform}-${process.arch}`, "bin/zig");
  return existsSync(binary) ? [binary] : [process.execPath, join(packages, "cli/bin/zig")];
}

/** In the tree like the rest of Zig's cache: the default needs a home directory. */
const ZIG_CACHE = { ZIG_GLOBAL_CACHE_DIR: inTree(".zig-cache/global") };

/** What stops a task; the message is all that is shown. */
export class TaskError extends Error {}

/** A whole number, as text, from the command line. */
export function wholeNumber(what, text, least, most) {
  const number = Number(text);
  if (/^\d+$/.test(text) && number >= least && number <= most) return text;
  throw new TaskError(`${what}: expected a whole number from ${least} to ${most}, got '${text}'`);
}

export async function main(task) {
  try {
    await task();
  } catch (error) {
    if (!(error instanceof TaskError)) throw error;
    console.error(error.message);
    process.exitCode = 1;
  }
}

/**
 * Runs a command to its end, shows its output and returns it. The output goes through a pipe even
 * where it is only shown: Zig writes at position 0 of a standard output that is a file, over what
 * other commands have written there.
 */
export function run(command, { env = {}, timeoutSeconds = 900 } = {}) {
  return new Promise((resolve) => {
    const child = spawn(command[0], command.slice(1), {
      cwd: root,
      env: { ...ZIG_CACHE, ...process.env, ...env },
      stdio: ["ignore", "pipe", "pipe"],
    });
    const timer = setTimeout(() => {
      console.error(`still running after ${timeoutSeconds} s, killed: ${command.join(" ")}`);
      child.kill("SIGKILL");
    }, timeoutSeconds * 1000);
    let output = "";
    for (const name of ["stdout", "stderr"]) {
      child[name].setEncoding("utf8").on("data", (text) => {
        output += text;
        process[name].write(text);
      });
    }
    const settle = (code) => {
      clearTimeout(timer);
      resolve({ code, output });
    };
    child.on("error", (error) => {
      console.error(`cannot run ${command[0]}: ${error.message}`);
      settle(127);
    });
    child.on("close", (code, signal) => settle(code ?? exitCodeOf(signal)));
  });
}

/** A repeated signal within this time is the same key press, delivered along two ways. */
const SAME_SIGNAL_MS = 300;

/**
 * Runs a command in the foreground: it has the terminal, gets our signals and gives us its exit
 * code. A terminal sends Ctrl-C to the whole group, so there SIGINT is not sent on a second time:
 * a server takes the second one as "do not drain".
 */
export function foreground(command) {
  return new Promise((resolve) => {
    const child = spawn(command[0], command.slice(1), { cwd: root, stdio: "inherit" });
    const seen = new Map();
    for (const signal of ["SIGINT", "SIGTERM", "SIGHUP"]) {
      process.on(signal, () => {
        const now = performance.now();
        const repeated = now - (seen.get(signal) ?? -Infinity) < SAME_SIGNAL_MS;
        seen.set(signal, now);
        if (repeated || (signal === "SIGINT" && process.stdin.isTTY)) return;
        child.kill(signal);
      });
    }
    const end = (code) => {
      process.exitCode = code;
      // The signal handlers would keep the process alive.
      resolve(process.exit(code));
    };
    child.on("error", (error) => {
      console.error(`cannot run ${command[0]}: ${error.message}`);
      end(127);
    });
    child.on("exit", (code, signal) => end(code ?? exitCodeOf(signal)));
  });
}

const exitCodeOf = (signal) => 128 + (constants.signals[signal] ?? 0);

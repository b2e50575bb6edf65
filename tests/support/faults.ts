// Forced results: the library that takes rules for them, which the tests build for themselves, and
// the calls by which a program that runs on it adds some. zig/testing/faults.zig says what a rule
// means; the library that programs load knows nothing of it.

import { dlopen, FFIType, ptr } from "bun:ffi";
import { fileURLToPath } from "node:url";
import { ERRNO } from "../../ts/abi.ts";

const inTree = (path: string) => fileURLToPath(new URL(`../../${path}`, import.meta.url));

export const FAULTS_LIBRARY = inTree("zig-out/test/libbun_uring_faults.so");

/** Builds it, if a source has changed: some seconds then, else a tenth of one. */
export async function buildFaults(): Promise<void> {
  const { zig } = (await import(inTree(".tasks/tools.mjs"))) as { zig(): string[] };
  const child = Bun.spawn([...zig(), "build", "faults"], {
    cwd: inTree("."),
    env: { ZIG_GLOBAL_CACHE_DIR: inTree(".zig-cache/global"), ...process.env },
    stdout: "ignore",
    stderr: "pipe",
  });
  const [code, said] = await Promise.all([child.exited, child.stderr.text()]);
  if (code !== 0) throw new Error(`libbun_uring_faults.so was not built:\n${said}`);
}

const HOW = { instead: 0, afterwards: 1, ending: 2, shortened: 3 } as const;

export interface Rule {
  /** "receive", "send", "accept", …; "ring.read" and the like for operations of a ring. */
  kind: string;
  how?: keyof typeof HOW;
  /** The n-th from here on, counted from 1, and then every so many again. */
  nth?: number;
  every?: number;
  /** An errno by its name, or bytes. */
  result: keyof typeof ERRNO | number;
}

function symbolsOf() {
  const { i32, ptr: pointer, u32 } = FFIType;
  return dlopen(process.env["BUN_URING_LIBRARY"] ?? FAULTS_LIBRARY, {
    bu_fault_add: { args: [pointer, u32, u32, u32, i32], returns: i32 },
    bu_fault_clear: { args: [], returns: u32 },
    bu_fault_forbid: { args: [i32], returns: i32 },
  }).symbols;
}

let symbols: ReturnType<typeof symbolsOf> | undefined;

/** From here on, in all rings of this process, which must have been started on that library. */
export function force({ kind, how = "instead", nth = 1, every = 0, result }: Rule): void {
  symbols ??= symbolsOf();
  const name = Buffer.from(`${kind}\0`);
  const number = typeof result === "string" ? -ERRNO[result] : result;
  if (symbols.bu_fault_add(ptr(name), HOW[how], nth, every, number) !== 0) {
    throw new Error(`no ${kind} can end like that`);
  }
}

/** No rules any more: how often they struck. */
export function cleared(): number {
  symbols ??= symbolsOf();
  return symbols.bu_fault_clear();
}

/** Rings that are opened from here on may not use these opcodes of io_uring, as under a policy. */
export function forbid(opcodes: readonly number[]): void {
  symbols ??= symbolsOf();
  symbols.bu_fault_forbid(-1);
  for (const opcode of opcodes) symbols.bu_fault_forbid(opcode);
}

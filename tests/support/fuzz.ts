// One process of random calls, and what to show when it did not end well. The journal holds each
// call before it is made, so that it also names the one at which the process died.

import { readFileSync } from "node:fs";
import { join } from "node:path";
import { program, run } from "./child.ts";
import { folder } from "./folder.ts";

export interface FuzzReport {
  calls: number;
  threw: number;
  returned: number;
  rejected: number;
  uncaught: number;
  /** JavaScript's errors out of the library's own lines, each once. */
  slips: string[];
}

const SHOWN_CALLS = 25;

/** Throws with the seed and the last calls if the process crashed, hung or left something. */
export async function fuzz(seed: number, calls: number, timeoutMs = 45_000): Promise<FuzzReport> {
  const journal = join(folder, `fuzz-${seed}.txt`);
  const ended = await run(program("fuzz"), {
    arguments: [String(seed), String(calls), journal],
    timeoutMs,
  });
  if (ended.code === 0) return JSON.parse(ended.stdout.trimEnd().split("\n").at(-1) ?? "");
  const last = readFileSync(journal, "utf8").trimEnd().split("\n").slice(-SHOWN_CALLS);
  const how = ended.signal === null ? `code ${ended.code}` : `signal ${ended.signal}`;
  const what = [`repeat with TEST_SEED=${seed}: ended with ${how} after`, ...last, ended.stderr];
  throw new Error(what.join("\n"));
}

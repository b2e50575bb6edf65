// `npm run build`: the library and ts/abi.ts, when a source is newer than what is there. "Newer" is
// a hash over the sources: checkouts and copies change times at will.

import { createHash } from "node:crypto";
import { existsSync, readdirSync, readFileSync, writeFileSync } from "node:fs";
import { pathToFileURL } from "node:url";
import { install } from "./install.mjs";
import { inTree, library, main, run, TaskError, zig } from "./tools.mjs";

const STAMP = inTree("zig-out/.built-from");

export async function build() {
  await install();
  const sources = hashOfSources();
  const stamp = () => `${sources} ${hashOfAbi()}`;
  if (existsSync(library) && existsSync(STAMP) && readFileSync(STAMP, "utf8") === stamp()) return;

  console.error("Building zig-out/lib/libbun_uring.so and ts/abi.ts");
  const { code } = await run([...zig(), "build"]);
  if (code !== 0) throw new TaskError("The build failed; see above.");
  // The sources as they were before the build: an edit made meanwhile builds again.
  writeFileSync(STAMP, stamp());
}

function hashOfSources() {
  const hash = createHash("sha256");
  const names = readdirSync(inTree("zig"), { recursive: true });
  const files = names.filter((name) => name.endsWith(".zig")).sort();
  for (const name of ["build.zig", ...files.map((file) => `zig/${file}`)]) {
    hash.update(`${name}\0`).update(readFileSync(inTree(name)));
  }
  return hash.digest("hex");
}

function hashOfAbi() {
  const path = inTree("ts/abi.ts");
  return existsSync(path) ? createHash("sha256").update(readFileSync(path)).digest("hex") : "none";
}

if (import.meta.url === pathToFileURL(process.argv[1]).href) await main(build);

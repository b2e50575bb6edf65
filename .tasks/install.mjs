// Installs what package-lock.json names, with npm or with Bun, and only when it is not there yet.
// A stamp in node_modules remembers the lock file that was installed, so a second call reads two
// files and is done.

import { createHash } from "node:crypto";
import { existsSync, readFileSync, statSync, writeFileSync } from "node:fs";
import { bun, inTree, run, TaskError, zig } from "./tools.mjs";

const STAMP = inTree("node_modules/.bun-uring-installed");

/** Below this size `bun.exe` is the package's placeholder, which only says what went wrong. */
const BUN_SIZE_MIN = 1 << 20;

export async function install() {
  if (process.platform !== "linux") throw new TaskError("bun-uring runs on Linux only.");
  const lock = readFileSync(inTree("package-lock.json"), "utf8");
  const wanted = createHash("sha256").update(lock).digest("hex");
  if (existsSync(STAMP) && readFileSync(STAMP, "utf8") === wanted && bunIsReal()) return;

  if (!matches(JSON.parse(lock))) await runInstaller();
  // npm may be told, or decide, not to run the package's own install script.
  if (!bunIsReal()) await run([process.execPath, inTree("node_modules/bun/install.js")]);
  if (!bunIsReal()) throw new TaskError("The npm package `bun` has no binary for this machine.");
  if (!existsSync(zig().at(-1))) throw new TaskError("There is no Zig for this machine.");
  writeFileSync(STAMP, wanted);
}

async function runInstaller() {
  const installers = [
    ["npm", "ci", "--no-audit", "--no-fund"],
    ["bun", "install", "--no-save", "--frozen-lockfile"],
  ];
  // On Bun alone this process is Bun, whatever it is called, and PATH need not have it.
  if (process.versions.bun) installers.unshift([process.execPath, ...installers[1].slice(1)]);
  const installer = installers.find(([command]) => isCommand(command));
  if (!installer) throw new TaskError("Neither npm nor bun is on the PATH; one is needed once.");
  console.error(`Installing the development tools: ${installer.join(" ")}`);
  const { code } = await run(installer);
  if (code !== 0) throw new TaskError("The installation failed; see above.");
}

function isCommand(command) {
  if (command.includes("/")) return true;
  const directories = (process.env.PATH ?? "").split(":");
  return directories.some((directory) => existsSync(`${directory}/${command}`));
}

/** Whether an installation that we did not make, such as `npm ci` by hand, is the locked one. */
function matches({ packages }) {
  return Object.entries(packages).every(([path, { version, optional }]) => {
    if (path === "") return true;
    const manifest = inTree(path, "package.json");
    if (!existsSync(manifest)) return optional === true;
    return JSON.parse(readFileSync(manifest, "utf8")).version === version;
  });
}

function bunIsReal() {
  return existsSync(bun) && statSync(bun).size > BUN_SIZE_MIN;
}

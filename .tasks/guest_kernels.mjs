// Kernels for emulated machines (`npm run test:kernels`): out of Debian's packages, which are kept
// in .kernels/ with all else that a run needs.

import { execFileSync, spawnSync } from "node:child_process";
import { existsSync, readdirSync } from "node:fs";
import { inTree, TaskError } from "./tools.mjs";

export const RELEASES = ["6.1", "6.12"];
/** Not of the tree: packages, kernels, the image and results. */
export const CACHE = inTree(".kernels");
const TEXT = { encoding: "utf8", maxBuffer: 1 << 28 };

/** The bootable file of a release, out of its package; both stay in the cache. */
export function kernelOf(release) {
  const kernel = `${CACHE}/vmlinuz-${release}`;
  if (existsSync(kernel)) return kernel;
  const wanted = new RegExp(`^linux-image-${release.replace(".", "\\.")}[.+-].*amd64.*\\.deb$`);
  const cached = () => readdirSync(CACHE).find((name) => wanted.test(name));
  if (!cached()) download(release);
  const deb = cached();
  if (!deb) throw new TaskError(`No package of Linux ${release} came into .kernels/.`);
  const list = execFileSync("dpkg-deb", ["--contents", `${CACHE}/${deb}`], TEXT);
  const path = /\.\/boot\/vmlinuz-\S+/.exec(list)?.[0];
  if (!path) throw new TaskError(`${deb} holds no kernel.`);
  const shell = 'dpkg-deb --fsys-tarfile "$0" | tar -xO "$1" > "$2"';
  execFileSync("sh", ["-c", shell, `${CACHE}/${deb}`, path, kernel]);
  return kernel;
}

/** With Debian's own client, from the archives that this machine has in its lists. */
function download(release) {
  const pattern = `^linux-image-${release.replace(".", "\\.")}[.0-9+deb~-]*-amd64$`;
  const search = spawnSync("apt-cache", ["search", "--names-only", pattern], TEXT);
  const found = (search.stdout ?? "").split("\n"); // without such a client nothing is found
  // The meta-package has no kernel in it; of several builds the last one is the newest.
  const names = found.map((line) => line.split(" ")[0]).filter((name) => /\d-amd64$/.test(name));
  const real = names.filter((name) => name !== `linux-image-${release}-amd64`).sort();
  const name = real.at(-1);
  if (!name) {
    throw new TaskError(
      `No package linux-image-${release}…-amd64 is known here: run apt-get update, with ` +
        "backports for 6.12, or put the .deb into .kernels/.",
    );
  }
  console.error(`Downloading ${name} into .kernels/`);
  execFileSync("apt-get", ["download", name], { cwd: CACHE, stdio: ["ignore", 2, 2] });
}

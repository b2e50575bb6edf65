// `npm run test:kernels [-- [release…] [--files listen,connect]]`: boots Debian's kernels 6.1 and
// 6.12 in an emulated machine and runs there the native tests of the kernel interfaces and the
// TypeScript suite, file by file; prints one table of kernel × feature × result, which is
// .kernels/table.md afterwards. Half an hour for each. With --files these run alone, and the table
// has the others as they were.
//
// Needs qemu-system-x86_64 and, for what is not in .kernels/ yet, a Debian or Ubuntu whose archive
// has the packages (6.12 is in backports of Debian 12); or put linux-image-6.1*.deb there yourself.

import { execFileSync, spawn, spawnSync } from "node:child_process";
import { existsSync, mkdirSync, readFileSync, realpathSync, writeFileSync } from "node:fs";
import { build } from "./build.mjs";
import { CACHE, kernelOf, RELEASES } from "./guest_kernels.mjs";
import { guestParts, testsOfSuite } from "./guest_parts.mjs";
import { isBad, tableOf } from "./guest_table.mjs";
import { Initramfs } from "./initramfs.mjs";
import { bun, inTree, main, run, TaskError, zig } from "./tools.mjs";

const TEXT = { encoding: "utf8", maxBuffer: 1 << 28 };
const MINUTES_MAX = 90;
/** Kernel parameters that leave out what an emulated processor is slow at and no test is about. */
const FAST = "mitigations=off init_on_alloc=0";
/** What tests start besides Bun. */
const COMMANDS = ["sh", "mkfifo", "ls"];

await main(async () => {
  const { releases, files } = asked(process.argv.slice(2));
  const parts = guestParts(files);
  requireQemu();
  await build();
  const { code } = await run([...zig(), "build", "install-tests"]);
  if (code !== 0) throw new TaskError("The native tests were not built; see above.");
  mkdirSync(CACHE, { recursive: true });
  await buildInit();
  const tests = testsOfSuite();
  const image = writeImage(parts);
  const machines = [];
  for (const release of releases) {
    const machine = files.length > 0 ? remembered(release) : nothing(release);
    machines.push(await boot(machine, kernelOf(release), image));
  }
  const table = tableOf(machines, tests);
  console.log(table);
  writeFileSync(`${CACHE}/table.md`, `${table}\n`);
  process.exitCode = machines.some(isBad) ? 1 : 0;
});

function asked(words) {
  const at = words.indexOf("--files");
  const files = at < 0 ? [] : (words[at + 1] ?? "").split(",").filter((name) => name !== "");
  if (at >= 0 && files.length === 0) throw new TaskError("--files wants names: listen,connect");
  const releases = at < 0 ? words : words.toSpliced(at, 2);
  const unknown = releases.find((release) => !RELEASES.includes(release));
  if (unknown) throw new TaskError(`${unknown} is none of ${RELEASES.join(", ")}, --files.`);
  return { releases: releases.length > 0 ? releases : RELEASES, files };
}

function requireQemu() {
  if (spawnSync("qemu-system-x86_64", ["--version"]).status === 0) return;
  throw new TaskError("qemu-system-x86_64 is missing: apt-get install qemu-system-x86");
}

// The machine ----------------------------------------------------------------------------------

function which(name) {
  return execFileSync("sh", ["-c", 'command -v "$0"', name], TEXT).trim();
}

function librariesOf(programs) {
  const lists = programs.map((program) => execFileSync("ldd", [program], TEXT));
  return new Set(lists.flatMap((list) => list.match(/\/\S+\.so\S*/g) ?? []));
}

async function buildInit() {
  const target = ["-target", "x86_64-linux-musl", "-O", "ReleaseSmall"];
  const command = ["build-exe", ".tasks/guest_init.zig", ...target, `-femit-bin=${CACHE}/init`];
  const { code } = await run([...zig(), ...command]);
  if (code !== 0) throw new TaskError("The guest's first process was not built; see above.");
}

/** Everything that the guest has: Bun with its libraries, this tree, the native tests. */
function writeImage(parts) {
  const path = `${CACHE}/initramfs`;
  const image = new Initramfs(path);
  image.copy(`${CACHE}/init`, "/init");
  image.copy(bun, "/bin/bun");
  for (const name of COMMANDS) image.copy(realpathSync(which(name)), `/bin/${name}`);
  for (const library of librariesOf([bun, ...COMMANDS.map(which)])) {
    image.copy(realpathSync(library), library);
  }
  image.copy(inTree("zig-out/bin/tests"), "/bin/native");
  image.copy(inTree("zig-out/lib/libbun_uring.so"), "/tree/zig-out/lib/libbun_uring.so");
  const folders = ["ts", "zig", "tests", "examples", "bench", "docs"];
  const texts = ["package.json", "bunfig.toml", "tsconfig.json", "README.md", "CHANGELOG.md"];
  for (const name of [...folders, ...texts]) image.copy(inTree(name), `/tree/${name}`);
  image.copy(inTree(".tasks/guest.mjs"), "/guest.mjs");
  image.write("/etc/hosts", "127.0.0.1 localhost guest\n::1 localhost guest\n");
  image.write("/etc/nsswitch.conf", "hosts: files\n"); // there is nobody else to ask
  image.write("/etc/passwd", "root:x:0:0:root:/:/bin/sh\n");
  image.write("/parts.json", JSON.stringify({ parts }));
  image.close();
  return path;
}

/** Boots, shows what the guest prints, and writes down what it says of itself. */
function boot(machine, kernel, image) {
  machine.kernel = "";
  const options = {
    "-accel": "tcg,thread=multi", "-cpu": "max,la57=off", "-smp": "2", "-m": "4096",
    "-kernel": kernel, "-initrd": image,
    "-append": `console=ttyS0 quiet panic=-1 ${FAST} -- /bin/bun /guest.mjs`,
  };
  const flags = ["-nographic", "-no-reboot", "-nodefaults", "-serial", "stdio"];
  const child = spawn("qemu-system-x86_64", [...flags, ...Object.entries(options).flat()], {
    stdio: ["ignore", "pipe", "inherit"],
  });
  const stop = () => child.kill("SIGKILL");
  const timer = setTimeout(stop, MINUTES_MAX * 60_000);
  process.once("SIGTERM", stop); // the table is of what was said until then
  let rest = "";
  child.stdout.setEncoding("utf8").on("data", (text) => {
    const lines = (rest + text).split(/\r?\n/);
    rest = lines.pop();
    for (const line of lines) hear(line, machine);
  });
  return new Promise((resolve) => {
    child.on("close", () => {
      clearTimeout(timer);
      process.off("SIGTERM", stop);
      resolve(machine);
    });
  });
}

/** The first line has the firmware's escape sequences before it. */
function hear(line, machine) {
  console.log(line);
  const said = /guest: (\{.*\})$/.exec(line)?.[1];
  if (said === undefined) return;
  const { release, features, ...result } = JSON.parse(said);
  if (release !== undefined) machine.kernel = release;
  if (features !== undefined) machine.features = features;
  if (result.name !== undefined) machine.results[result.name] = result;
  writeFileSync(memoryOf(machine.release), JSON.stringify(machine, null, 1));
}

// Results --------------------------------------------------------------------------------------

/** What each part of a release's machine said last: a run of some files goes on from there. */
function memoryOf(release) {
  return `${CACHE}/results-${release}.json`;
}

function remembered(release) {
  if (!existsSync(memoryOf(release))) return nothing(release);
  return JSON.parse(readFileSync(memoryOf(release), "utf8"));
}

function nothing(release) {
  return { release, kernel: "", features: [], results: {} };
}

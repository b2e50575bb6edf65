// `npm run test:kernels [release…]`: boots Debian's kernels 6.1 and 6.12 in an emulated machine and
// runs there the native tests of the kernel interfaces and most of the TypeScript suite; prints one
// table of kernel × feature × result. Some minutes for each.
//
// Needs qemu-system-x86_64 and, for what is not in .kernels/ yet, a Debian or Ubuntu whose archive
// has the packages (6.12 is in backports of Debian 12); or put linux-image-6.1*.deb there yourself.

import { execFileSync, spawn, spawnSync } from "node:child_process";
import { existsSync, mkdirSync, readdirSync, realpathSync, writeFileSync } from "node:fs";
import { build } from "./build.mjs";
import { Initramfs } from "./initramfs.mjs";
import { bun, inTree, main, run, TaskError, zig } from "./tools.mjs";

const RELEASES = ["6.1", "6.12"];
const TEXT = { encoding: "utf8", maxBuffer: 1 << 28 };
const MINUTES_MAX = 60;
/** What tests start besides Bun. */
const COMMANDS = ["sh", "mkfifo"];
const CACHE = inTree(".kernels");

/**
 * Two thirds of the suite's tests. Left out is what is about time, memory or many processes, which
 * an emulated machine has too little of.
 */
const SUITE = [
  "bad_input", "bad_place", "operation", "operation_batch", "operation_socket", "registered",
  "lifecycle", "lifecycle_parts", "lifecycle_posts", "buffer_pool", "statistics", "closing",
  "listen", "connect", "connect_options", "content", "write", "send", "handlers", "receive",
  "datagram", "datagram_unix", "descriptor_passing", "socket_reading", "waiting", "schedule",
];
/** So that a part that dies leaves the others. */
const FILES_OF_PART = 6;

function native(filter) {
  return { name: `native ${filter}`, command: ["/bin/native", filter], seconds: 300, env: {} };
}

/** What the guest runs. */
function parts() {
  const tests = [];
  for (let i = 0; i < SUITE.length; i += FILES_OF_PART) {
    const files = SUITE.slice(i, i + FILES_OF_PART).map((name) => `./tests/${name}.test.ts`);
    const command = ["/bin/bun", "test", "--timeout=120000", ...files];
    tests.push({ name: `suite, part ${tests.length + 1}`, command, seconds: 900, env: {} });
  }
  const features = ["/bin/bun", "tests/support/programs/features.ts"];
  return [
    { name: "features", command: features, seconds: 60, env: {} },
    native("kernel.uring"), native("kernel.epoll.tests"),
    // The order of completions is that of the kernel that the twin was made after.
    { ...native("kernel.epoll.parity"), tolerated: true },
    ...tests,
  ];
}

await main(async () => {
  const asked = process.argv.slice(2);
  const unknown = asked.find((release) => !RELEASES.includes(release));
  if (unknown) throw new TaskError(`${unknown} is none of ${RELEASES.join(", ")}.`);
  requireQemu();
  await build();
  const { code } = await run([...zig(), "build", "install-tests"]);
  if (code !== 0) throw new TaskError("The native tests were not built; see above.");
  mkdirSync(CACHE, { recursive: true });
  await buildInit();
  const image = writeImage();
  const results = [];
  for (const release of asked.length > 0 ? asked : RELEASES) {
    results.push({ release, ...(await boot(kernelOf(release), image)) });
  }
  printTable(results);
});

function requireQemu() {
  if (spawnSync("qemu-system-x86_64", ["--version"]).status === 0) return;
  throw new TaskError("qemu-system-x86_64 is missing: apt-get install qemu-system-x86");
}

// Kernels --------------------------------------------------------------------------------------

/** The bootable file of a release, out of its package; both stay in the cache. */
function kernelOf(release) {
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
function writeImage() {
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
  const folders = ["ts", "tests", "examples", "bench"];
  for (const name of [...folders, "package.json", "bunfig.toml", "tsconfig.json"]) {
    image.copy(inTree(name), `/tree/${name}`);
  }
  image.copy(inTree(".tasks/guest.mjs"), "/guest.mjs");
  image.write("/etc/hosts", "127.0.0.1 localhost\n::1 localhost\n");
  image.write("/etc/passwd", "root:x:0:0:root:/:/bin/sh\n");
  image.write("/parts.json", JSON.stringify({ parts: parts() }));
  image.close();
  return path;
}

/** Boots, shows what the guest prints, and returns its lines: `{ kernel, features, results }`. */
function boot(kernel, image) {
  const options = {
    "-accel": "tcg,thread=multi", "-cpu": "max", "-smp": "2", "-m": "4096",
    "-kernel": kernel, "-initrd": image, "-append":
      "console=ttyS0 quiet panic=-1 -- /bin/bun /guest.mjs",
  };
  const flags = ["-nographic", "-no-reboot", "-nodefaults", "-serial", "stdio"];
  const child = spawn("qemu-system-x86_64", [...flags, ...Object.entries(options).flat()], {
    stdio: ["ignore", "pipe", "inherit"],
  });
  const timer = setTimeout(() => child.kill("SIGKILL"), MINUTES_MAX * 60_000);
  const outcome = { kernel: "", features: [], results: [] };
  let rest = "";
  child.stdout.setEncoding("utf8").on("data", (text) => {
    const lines = (rest + text).split(/\r?\n/);
    rest = lines.pop();
    for (const line of lines) hear(line, outcome);
  });
  return new Promise((resolve) => {
    child.on("close", () => {
      clearTimeout(timer);
      resolve(outcome);
    });
  });
}

function hear(line, outcome) {
  console.log(line);
  const said = /^guest: (\{.*\})$/.exec(line)?.[1];
  if (said === undefined) return;
  const { release, features, ...result } = JSON.parse(said);
  if (release) outcome.kernel = release;
  else if (features) outcome.features = features;
  else outcome.results.push(result);
}

// The table ------------------------------------------------------------------------------------

function printTable(machines) {
  const all = [...new Set(machines.flatMap(({ features }) => features))].sort();
  const row = (name, cells) => {
    return `| ${[name, ...cells].join(" | ")} |`;
  };
  const total = (results, key) => results.reduce((sum, result) => sum + (result[key] ?? 0), 0);
  const told = (wanted) => machines.map(({ results }) => {
    const some = results.filter(({ name }) => wanted(name));
    const died = some.filter(({ code, failed }) => code !== 0 && failed === 0).length;
    const lost = died > 0 ? `, ${died} parts died` : "";
    return `${total(some, "passed")} passed, ${total(some, "failed")} failed${lost}`;
  });
  const lines = [
    row("", machines.map(({ kernel, release }) => kernel || `${release}: did not boot`)),
    row("---", machines.map(() => "---")),
    ...all.map((name) => {
      return row(name, machines.map(({ features }) => (features.includes(name) ? "yes" : "no")));
    }),
    ...[...new Set(machines.flatMap(({ results }) => results.map(({ name }) => name)))]
      .filter((name) => name.startsWith("native"))
      .map((name) => row(name, told((one) => one === name))),
    row("suite", told((name) => name.startsWith("suite"))),
  ];
  console.log(lines.join("\n"));
  writeFileSync(`${CACHE}/table.md`, `${lines.join("\n")}\n`);
  const bad = machines.some(({ results }) => results.length === 0 || results.some(isBad));
  process.exitCode = bad ? 1 : 0;
}

const isBad = ({ code, tolerated }) => code !== 0 && !tolerated;

// Calls public methods at random, with random arguments, on things in random states. It may throw;
// it must neither crash nor hang nor leave anything behind. Prints what it did as JSON.
//
// Arguments: seed, calls, path of a journal, whose last lines tell what a crash was about.

import { closeSync, mkdtempSync, openSync, rmSync, writeSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import * as library from "../../../ts/index.ts";
import { Listener } from "../../../ts/listen.ts";
import { descriptors, linkOf, mappings } from "../descriptors.ts";
import { Mischief, Values } from "../fuzz_values.ts";
import { publicMembers } from "../public_names.ts";
import { Random } from "../random.ts";
import { until } from "../until.ts";

const { BufferPool, NativeBlock, Operation, Ring, UringError } = library;
const [, , seed = "1", calls = "1000", journal = "/dev/null"] = process.argv;
const THINGS_MAX = 60;
/** They block the thread for as long as something is pending. */
const BLOCKING = new Set([
  "drainSync", "runUntilEmptySync", "runSomeSync", "waitSync", "drain", "runUntilEmpty", "runSome",
  "run", "wait",
]);
/** Workers of Bun's take longer to start than all the rest. */
const SKIPPED = new Set(["offload", "inspect", "worker"]);
/** They make descriptors; a callback's would be nobody's. */
const MAKES_DESCRIPTOR = new Set(["socket", "openat", "accept"]);

const random = new Random(Number(seed));
const folder = mkdtempSync(join(tmpdir(), "bun-uring-fuzz-"));
process.chdir(folder); // names without a folder are its own
const things: object[] = [];
/** All of them: one that is forgotten lives on as long as something of it is open. */
const rings = new Set<library.Ring>();
const log = openSync(journal, "a");
const counts = { calls: 0, threw: 0, returned: 0, rejected: 0, uncaught: 0 };
/** Errors that are no answer to a wrong call: slips of the library's own. */
const slips = new Set<string>();

/** The library's errors, JavaScript's for what it checks itself, and what handlers throw here. */
function judge(error: unknown): void {
  if (error instanceof UringError || error instanceof Mischief) return;
  const { name = "", message = String(error), stack = "" } = (error ?? {}) as Error;
  if (name === "AbortError" || name === "TimeoutError") return;
  if (message.includes("readonly property")) return; // of the object that is to be filled
  const ours = /\n\s+at .*\/(ts\/[\w/]+\.ts:\d+)/.exec(stack)?.[1];
  const first = /\n\s+at [^\n]*/.exec(stack)?.[0] ?? "";
  // A getter or a conversion of a wrong argument may throw; that is the argument's own.
  if (ours !== undefined && first.includes("/ts/")) slips.add(`${name}: ${message} (${ours})`);
}

process.on("uncaughtException", (error) => {
  counts.uncaught++;
  judge(error);
});
process.on("unhandledRejection", (error) => {
  counts.uncaught++;
  judge(error);
});

const values = new Values(random, things, folder);

function keep(value: unknown, name: string): void {
  if ((typeof value !== "object" && typeof value !== "function") || value === null) return;
  if (typeof (value as PromiseLike<unknown>).then === "function") {
    (value as PromiseLike<unknown>).then(
      (outcome) => {
        if (MAKES_DESCRIPTOR.has(name)) return closeMade(outcome);
        keep(outcome, name);
      },
      (error: unknown) => {
        counts.rejected++;
        judge(error);
      },
    );
    if (!(value instanceof Operation)) return;
  }
  if (value instanceof Ring) rings.add(value);
  values.keep([value]);
}

function closeMade(outcome: unknown): void {
  const fd = typeof outcome === "number" ? outcome : (outcome as { fd: number }).fd;
  closeSync(fd);
}

function note(text: string): void {
  writeSync(log, `${text}\n`);
}

function attempt(name: string, call: () => unknown): void {
  counts.calls++;
  try {
    const value = call();
    counts.returned++;
    keep(value, name);
  } catch (error) {
    counts.threw++;
    judge(error);
  }
}

function argumentsOf(method: Function, name: string): unknown[] {
  if (BLOCKING.has(name)) return [random.between(0, 2)];
  const list = values.forParameters(method, name);
  if (!MAKES_DESCRIPTOR.has(name)) return list;
  return list.filter((value) => typeof value !== "function");
}

function callSomething(): void {
  const thing = values.pick(things);
  const members = publicMembers(thing).filter(([key]) => !SKIPPED.has(String(key)));
  if (members.length === 0) return;
  const [key, member] = values.pick(members);
  const name = String(key);
  const kind = thing.constructor?.name ?? "?";
  if (typeof member.value !== "function") {
    note(`${kind}.${name}`);
    attempt(name, () => Reflect.get(thing, key) as unknown);
    return;
  }
  if (name === "run" || name.startsWith("runUntilEmpty")) return; // no limit can be given
  if (name === "runSomeSync" || name === "runSome") return;
  const list = argumentsOf(member.value as Function, name);
  note(`${kind}.${name}(${list.map(shown).join(", ")})`);
  attempt(name, () => (member.value as Function).apply(thing, list) as unknown);
}

function shown(value: unknown): string {
  if (typeof value === "string") return JSON.stringify(value.slice(0, 40));
  if (typeof value !== "object" || value === null) return String(value).slice(0, 40);
  const kind = (value.constructor as Function | undefined)?.name ?? "?";
  const size = (value as { byteLength?: number }).byteLength;
  if (size !== undefined) return `${kind}[${size}]`;
  return `${kind}{${Object.keys(value).slice(0, 6).join()}}`;
}

const place = () => ({ hostname: "127.0.0.1", port: 0, socket: values.handlers() });

/** Each makes a thing, right as a rule. */
const makers: Record<string, () => unknown> = {
  ring: () => new Ring(random.chance(0.5) ? { entries: 8 } : values.options()),
  listen: () => library.listen({ ...place(), ...values.options() } as never),
  connect: () => {
    const port = values.thing(Listener)?.port;
    if (port === undefined) return undefined;
    return library.connect({ ...place(), port, ...values.options() } as never);
  },
  udpSocket: () => library.udpSocket({ hostname: "127.0.0.1", port: 0 } as never),
  pool: () => new BufferPool({ ring: values.thing(Ring), size: 4096, count: 4 } as never),
  block: () => new NativeBlock(random.size(1, 10_000)),
  poster: () => Ring.open(values.thing(Ring)?.token as never),
  prepared: () => values.prepared(),
  proxy: () => library.proxy(values.pick(things) as never, values.pick(things) as never),
};

function make(): void {
  const name = values.pick(Object.keys(makers));
  if (name === "ring" && things.filter((thing) => thing instanceof Ring).length > 3) return;
  note(`new ${name}`);
  attempt(name, makers[name] as () => unknown);
}

async function step(): Promise<void> {
  if (things.length === 0 || random.chance(0.08)) make();
  else callSomething();
  if (random.chance(0.1)) await new Promise((resolve) => setImmediate(resolve));
  if (random.chance(0.004)) Bun.gc(true);
  while (things.length > THINGS_MAX) things.splice(random.between(0, things.length - 1), 1);
}

/** What a ring owns in the kernel, by the kernel's own words. */
function owned(): string[] {
  const links = descriptors().map((fd) => linkOf(fd) ?? "");
  const maps = mappings().map(({ name }) => name);
  return [...links, ...maps].filter((name) => /io_uring|eventpoll|timerfd|socket:/.test(name));
}

/** Everything is closed; then the kernel must have nothing of it any more. */
async function end(): Promise<void> {
  note("the end");
  rings.add(Ring.default); // what names no ring is on it
  things.length = 0;
  // One that is closing already may reject with a list of what was pending.
  await Promise.allSettled([...rings].map((ring) => ring.close({ cancel: true })));
  rings.clear();
  values.end();
  await until(() => {
    Bun.gc(true);
    return owned().length <= before;
  }, "all that the rings had is given back");
}

const before = owned().length;
try {
  for (let i = 0; i < Number(calls); i++) await step();
  await end();
} catch (error) {
  console.error(error, owned(), `from ${before}`);
  process.exit(1);
} finally {
  rmSync(folder, { recursive: true });
}
console.log(JSON.stringify({ ...counts, slips: [...slips] }));
process.exit(0);

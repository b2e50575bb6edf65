// Rings where a resource is short, in a process without privileges. Prints what became of each.
//
// Arguments: `descriptors`, to open rings with 0, 1, 2 and more descriptors left; or `memory`, for
// one ring that registers buffers and sends without a copy, in a process that may lock none.

import { dlopen } from "bun:ffi";
import { closeSync, openSync } from "node:fs";
import { Ring, UringError } from "../../../ts/index.ts";
import { pair } from "../pair.ts";
import { until } from "../until.ts";

const FREE_MAX = 24;

/** Privileges would lift the limit on locked memory. */
function dropPrivileges(): void {
  const { symbols } = dlopen("libc.so.6", {
    geteuid: { args: [], returns: "u32" },
    setresuid: { args: ["u32", "u32", "u32"], returns: "i32" },
  });
  const nobody = 65534;
  if (symbols.geteuid() !== 0) return;
  if (symbols.setresuid(nobody, nobody, nobody) !== 0) throw new Error("setresuid is refused");
}

function useUp(): number[] {
  const taken: number[] = [];
  try {
    for (;;) taken.push(openSync("/dev/null", "r"));
  } catch (error) {
    if ((error as { code?: string }).code !== "EMFILE") throw error;
  }
  return taken;
}

async function descriptors() {
  // All of it is loaded and warm: what is short from here on is short for the ring.
  await use(new Ring());
  const taken = useUp();
  const outcomes: string[] = [];
  for (let free = 0; free <= FREE_MAX; free++) {
    if (free > 0) closeSync(taken.pop() as number);
    outcomes.push(await attempt());
    // Nothing was kept: what Bun watched the ring by goes in a later turn, or is collected. So may
    // something from before: it is no gain of this ring's.
    await until(() => {
      Bun.gc(true);
      const left = useUp();
      taken.push(...left.splice(free));
      for (const fd of left) closeSync(fd);
      return left.length === free;
    });
  }
  return outcomes;
}

async function attempt(): Promise<string> {
  try {
    return await use(new Ring());
  } catch (error) {
    if (error instanceof UringError) return `${error.code} ${error.message}`;
    return String(error);
  }
}

/** A pass through the kernel, and one that the ring must be woken for. */
async function use(ring: Ring): Promise<string> {
  try {
    await ring.nop();
    await ring.timeout(20);
    return "works";
  } finally {
    await ring.close();
  }
}

async function memory() {
  const ring = new Ring({ zeroCopyThreshold: 1 });
  using both = await pair({ ring });
  const bytes = new Uint8Array(new SharedArrayBuffer(1 << 20)).fill(7);
  await both.client.send(bytes);
  const received = await both.atServer.received(bytes.length);
  let registered = "registered";
  try {
    await ring.buffers.register([new SharedArrayBuffer(1 << 20)]);
  } catch (error) {
    registered = error instanceof UringError ? `${error.code} ${error.message}` : String(error);
  }
  const same = Buffer.compare(received, bytes) === 0;
  return { backend: ring.backend, reason: ring.reason, same, registered };
}

dropPrivileges();
const work = process.argv[2] === "memory" ? memory() : descriptors();
console.log(JSON.stringify(await work));
process.exit(0);

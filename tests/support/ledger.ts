// What a test file must give back: descriptors, memory that rings have mapped, and what the default
// ring has in flight. The preload looks before a file and after it; what came to stay is named.
//
// The default ring is there from the beginning, or the first file that uses it would be to blame.

import { afterAll } from "bun:test";
import { Ring } from "../../ts/index.ts";
import { descriptors, linkOf, ringBytes } from "./descriptors.ts";
import { patience } from "./patience.ts";
import { turns } from "./until.ts";

export interface Holdings {
  readonly links: ReadonlyMap<string, number>;
  readonly ringBytes: number;
  /** Connections of the default ring, and its operations. */
  readonly connections: number;
  readonly operations: number;
}

export function holdings(): Holdings {
  const { connections_opened: opened, connections_closed: closed } = Ring.default.stats();
  return {
    links: links(),
    ringBytes: ringBytes(),
    connections: opened - closed,
    operations: Ring.default.pendingCount,
  };
}

/** How many descriptors name what, without numbers of inodes. */
export function links(): ReadonlyMap<string, number> {
  const counts = new Map<string, number>();
  // Bun opens its output again where it is a file.
  const outputs = [linkOf(1), linkOf(2)];
  for (const descriptor of descriptors()) {
    const name = linkOf(descriptor);
    if (name === null || outputs.includes(name)) continue;
    const link = name.replace(/\d+/g, "");
    counts.set(link, (counts.get(link) ?? 0) + 1);
  }
  return counts;
}

/** A ring's memory, and the eventfd that Bun watches, go with objects that the engine collects. */
const UNCOLLECTED_RINGS = 4;
const RING_BYTES = 256 << 20;
/** A thread of the engine's own, once there was a child process. */
const OWN_POLLERS = 1;

/** Each kind of which there is more, in words. */
export function growth(before: Holdings, after: Holdings): string[] {
  const more = growthOfLinks(before.links, after.links);
  const bytes = after.ringBytes - before.ringBytes;
  if (bytes > UNCOLLECTED_RINGS * RING_BYTES) more.push(`${bytes} more bytes of rings`);
  for (const name of ["connections", "operations"] as const) {
    const grown = after[name] - before[name];
    if (grown > 0) more.push(`${grown} more ${name} of the default ring`);
  }
  return more;
}

export function growthOfLinks(
  before: ReadonlyMap<string, number>,
  after: ReadonlyMap<string, number>,
): string[] {
  return [...after].flatMap(([link, count]) => {
    const grown = count - (before.get(link) ?? 0);
    return grown > allowance(link) ? [`${grown} more of ${link}`] : [];
  });
}

function allowance(link: string): number {
  if (link.includes("[eventfd]")) return UNCOLLECTED_RINGS + OWN_POLLERS;
  return link.includes("[eventpoll]") ? OWN_POLLERS : 0;
}

/** What is closed in the last turn of a file is gone a few turns later; what is not is a leak. */
const SETTLED_MS = 5000 * patience;

/** To be called by a test file: its last hook compares. */
export function keepLedger(): void {
  const before = holdings();
  afterAll(async () => {
    const deadline = performance.now() + SETTLED_MS;
    let left = growth(before, holdings());
    while (left.length > 0 && performance.now() < deadline) {
      await turns(20);
      Bun.gc(true);
      left = growth(before, holdings());
    }
    if (left.length > 0) throw new Error(`left by this file: ${left.join(", ")}`);
  });
}

// Which kernel interface this run of the suite works on: BUN_URING_BACKEND says so, or the machine;
// and what it lacks, because it is old or BUN_URING_DISABLE makes it play an older one.
//
// A test asks only where it is about a fact of one of them, and says which.

import { release } from "node:os";
import { Ring, type BackendName, type FeatureName } from "../../ts/index.ts";
import { isRelease, laterThan } from "../../ts/releases.ts";

async function ringHere(): Promise<[BackendName, ReadonlySet<FeatureName>]> {
  await using ring = new Ring();
  return [ring.backend, ring.features];
}

export const [backend, features] = await ringHere();

const masked = (process.env["BUN_URING_DISABLE"] ?? "").split(",").map((name) => name.trim());
const lacking = masked.flatMap((name) => (isRelease(name) ? laterThan(name) : [name]));

/** Features and operations that a ring here lacks; the twin does everything by itself. */
export const missing: ReadonlySet<string> = new Set(
  backend === "uring" ? [...laterThan(release()), ...lacking] : [],
);

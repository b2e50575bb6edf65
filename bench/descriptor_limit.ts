// Raises how many descriptors this process may have: setrlimit(2).
//
// Up to the hard limit, beyond it where that is allowed. Children inherit it: for benchmarks with
// thousands of connections.
import { dlopen } from "bun:ffi";

const RLIMIT_NOFILE = 7;

/** How many it may have now: `needed`, or as many as are allowed. */
export function raiseDescriptorLimit(needed: number): number {
  const { symbols: libc } = dlopen("libc.so.6", {
    getrlimit: { args: ["i32", "ptr"], returns: "i32" },
    setrlimit: { args: ["i32", "ptr"], returns: "i32" },
  });
  const limit = new BigUint64Array(2); // soft, hard
  libc.getrlimit(RLIMIT_NOFILE, limit);
  const [soft = 0n, hard = 0n] = limit;
  if (soft >= BigInt(needed)) return needed;
  for (const asked of [BigInt(needed), hard]) {
    limit[0] = asked;
    limit[1] = hard > asked ? hard : asked;
    if (libc.setrlimit(RLIMIT_NOFILE, limit) === 0) return Number(asked);
  }
  return Number(soft);
}

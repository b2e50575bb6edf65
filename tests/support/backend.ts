// Which kernel interface this run of the suite works on: BUN_URING_BACKEND says so, or the machine.
//
// A test asks only where it is about a fact of one of them, and says which.

import { Ring, type BackendName } from "../../ts/index.ts";

async function backendHere(): Promise<BackendName> {
  await using ring = new Ring();
  return ring.backend;
}

export const backend = await backendHere();

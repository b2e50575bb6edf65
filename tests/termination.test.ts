// Workers that are terminated in a turn, in a wait, with a thousand operations pending, in
// mid-traffic and with full pipes: no crash, and no descriptor, mapping or block is left. Each kind
// has a process of its own, which counts. `npm run soak -- workers` terminates a thousand in
// mid-traffic.

import { expect, setDefaultTimeout, test } from "bun:test";
import { answer, program } from "./support/child.ts";
import { patience } from "./support/patience.ts";

const soak = Number(process.env["BUN_URING_TERMINATIONS"] ?? 0);
/** Several times what they take on a busy machine. */
const timeoutMs = 50_000 + soak * 2000;

setDefaultTimeout((timeoutMs + 10_000) * patience);

interface Outcome {
  more: { descriptors: number; bytes: number; blocks: number; pending: number };
  received: number;
  posted: number;
}

const NOTHING = { descriptors: 0, bytes: 0, blocks: 0, pending: 0 };

const PLACES: [string, string, number][] = [
  ["inside a turn", "turn", 8],
  ["inside a wait", "wait", 8],
  ["with a thousand operations pending", "pending", 8],
  ["in mid-traffic", "traffic", soak || 12],
  ["with full pipes", "pipes", 4],
];

test.each(PLACES)("Workers terminated %s leave nothing behind", async (_name, how, rounds) => {
  const options = { arguments: [how, String(rounds)], timeoutMs };
  const { more, received, posted } = await answer<Outcome>(program("terminated"), options);
  expect(more).toEqual(NOTHING);
  if (how !== "traffic") return;
  expect(received).toBeGreaterThan(rounds * 10_000);
  expect(posted).toBeGreaterThan(0);
});

// The price of posts: one after the other into a ring of the same thread, and round trips between
// two threads, with either doorbell, in Bun's loop and blocked, beside `postMessage`.
//
// Usage: `bun bench/micro/posts.ts [ROUNDS]`. Rounds are interleaved; shown are the best and the
// median, since a busy machine only ever adds. A blocked thread is woken for each post; one in
// Bun's loop mostly still looks when the answer comes.
import { Ring, type Token } from "../../ts/index.ts";
import type { Peer } from "./posts_peer.ts";

const rounds = Number(process.argv[2] ?? 9);
const trips = 2000;

const DISABLED = { doorbell: [], messages: ["doorbell"] } as const;
type Bell = keyof typeof DISABLED;

async function peer(message: Omit<Peer, "token">, token: Token | null): Promise<[Worker, number]> {
  const worker = new Worker(new URL("posts_peer.ts", import.meta.url).href);
  const whole: Peer = { ...message, token: token?.id ?? 0 };
  worker.postMessage(whole);
  const { data } = await new Promise<MessageEvent<number>>((resolve) => {
    worker.onmessage = resolve;
  });
  return [worker, data];
}

/** Nanoseconds of one trip there and back. */
async function roundTrip(bell: Bell, blocked: boolean): Promise<number> {
  await using ring = new Ring({ disable: [...DISABLED[bell]] });
  const [worker, id] = await peer({ bell, blocked }, ring.token);
  const poster = Ring.open(id);
  let back = 0;
  ring.onPost(1, () => void back++);
  let started = 0;
  for (let trip = 0; trip < trips; trip++) {
    if (trip === trips / 2) started = performance.now();
    poster.post(1, trip);
    while (back <= trip) {
      if (blocked) ring.waitSync();
      else await ring.wait();
    }
  }
  const elapsed = performance.now() - started;
  worker.terminate();
  return (elapsed * 1e6) / (trips / 2);
}

async function messageTrip(): Promise<number> {
  const [worker] = await peer({ bell: "doorbell", blocked: false }, null);
  let started = 0;
  for (let trip = 0; trip < trips; trip++) {
    if (trip === trips / 2) started = performance.now();
    worker.postMessage(trip);
    await new Promise((resolve) => {
      worker.onmessage = resolve;
    });
  }
  const elapsed = performance.now() - started;
  worker.terminate();
  return (elapsed * 1e6) / (trips / 2);
}

/** Nanoseconds to post and to be told, many at a time. */
async function flood(): Promise<number> {
  await using ring = new Ring();
  let told = 0;
  ring.onPost(1, () => void told++);
  const poster = Ring.open(ring.token);
  const started = performance.now();
  for (let batch = 0; batch < 500; batch++) {
    for (let i = 0; i < 200; i++) poster.post(1, i);
    ring.poll();
  }
  return ((performance.now() - started) * 1e6) / told;
}

const forms: Record<string, () => Promise<number>> = {
  "a post, told in batches": flood,
  "round trip, blocked, doorbell": () => roundTrip("doorbell", true),
  "round trip, blocked, messages": () => roundTrip("messages", true),
  "round trip, Bun's loop, doorbell": () => roundTrip("doorbell", false),
  "round trip, Bun's loop, messages": () => roundTrip("messages", false),
  "round trip, postMessage": messageTrip,
};

const seen = new Map<string, number[]>(Object.keys(forms).map((name) => [name, []]));
for (let round = 0; round < rounds; round++) {
  for (const [name, form] of Object.entries(forms)) seen.get(name)?.push(await form());
}
for (const [name, times] of seen) {
  times.sort((a, b) => a - b);
  const [best = 0, median = 0] = [times[0], times[times.length >> 1]];
  console.log(`${name.padEnd(34)} ${best.toFixed(0).padStart(7)} ns, median ${median.toFixed(0)}`);
}
process.exit(0);

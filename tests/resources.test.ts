// What a long life leaves behind: nothing. Connections and rings by the thousand return their
// descriptors, slots, buffers and memory, and idle connections cost no receive buffer.

import { describe, expect, test } from "bun:test";
import { Feature } from "../ts/abi.ts";
import { Ring, type FeatureName, type RingStats } from "../ts/index.ts";
import { answer, numberFrom, program, run, start } from "./support/child.ts";
import { descriptors } from "./support/descriptors.ts";
import { echoClient, echoServer } from "./support/echo.ts";
import { pair } from "./support/pair.ts";
import { Random } from "./support/random.ts";
import { until } from "./support/until.ts";

const MIB = 1 << 20;

interface Sample {
  resident: number;
  descriptors: number;
  connections: number;
  receivers: number;
}

/** The engine's own memory goes up and down by more than the limit: the middle one of some. */
function medianResident(samples: readonly Sample[]): number {
  return samples.map(({ resident }) => resident).sort((a, b) => a - b)[samples.length >> 1] ?? 0;
}

/** `npm run soak -- cycles` makes a million. */
const cycles = Number(process.env["BUN_URING_CYCLES"] ?? 10_000);
const cyclesMs = 25_000 + cycles * 2;

test(`${cycles} connections leave no descriptor, no slot and no memory`, async () => {
  const { opened, samples, stats } = await answer<{
    opened: number;
    samples: Sample[];
    stats: RingStats;
  }>(program("churn"), { arguments: [String(cycles)], timeoutMs: cyclesMs });
  const [early, late] = [samples.slice(0, 5), samples.slice(-5)];
  expect(new Set(samples.map((sample) => sample.descriptors)).size).toBe(1);
  expect(samples.every((sample) => sample.connections + sample.receivers === 0)).toBe(true);
  expect([stats.connections_opened, stats.connections_closed]).toEqual([opened, opened]);
  expect(stats.staging_blocks_used).toBe(0);
  expect(stats.receive_buffers_free).toBe(512);
  expect(medianResident(late)).toBeLessThanOrEqual(medianResident(early) + 2 * MIB);
}, cyclesMs + 5000);

test("ten thousand idle connections hold no buffer: eight serve the one that talks", async () => {
  await using server = start(program("many_idle"), { arguments: ["server"] });
  const reader = server.stdout.getReader();
  const port = await numberFrom(reader);
  const clients = { arguments: ["clients", String(port), "10000"] };
  const outcome = await answer<{ open: number; same: boolean }>(program("many_idle"), clients);
  expect(outcome).toEqual({ open: 10_000, same: true });
  await server.stdin.end();
  expect(await server.stderr.text()).toBe("");
  expect(await server.exited).toBe(0);
});

test("five hundred rings leave no descriptor and no mapping", async () => {
  interface Held {
    descriptors: number;
    mappings: number;
    bytes: number;
  }
  const { before, after } = await answer<{ before: Held; after: Held }>(program("many_rings"));
  expect(after.descriptors).toBe(before.descriptors);
  expect(after.bytes).toBe(before.bytes);
  // The engine maps for itself as well, but not one piece per ring.
  expect(after.mappings).toBeLessThan(before.mappings + 100);
});

test("closing a ring closes its connections, whatever they were doing", async () => {
  const before = descriptors().length;
  for (let round = 0; round < 10; round++) {
    const ring = new Ring();
    const both = await pair({ ring });
    const { client, server, listener, atClient, atServer } = both;
    server.pause();
    while (client.write(Buffer.alloc(MIB)) > 0);
    if (round % 2 === 0) client.end();
    if (round % 3 === 0) server.close();
    listener.stop();
    await ring.close();
    expect(atClient.log.filter((event) => event === "close")).toHaveLength(1);
    expect(atServer.log.filter((event) => event === "close")).toHaveLength(1);
    expect(ring.pendingCount).toBe(0);
  }
  await until(() => descriptors().length <= before, "the descriptors are back");
});

describe("a masked feature", () => {
  const MASKABLE = (Object.keys(Feature) as FeatureName[]).filter((name) => {
    return name !== "buffer_ring";
  });

  async function echoes(ring: Ring): Promise<boolean> {
    await using server = await echoServer("ours", { hostname: "127.0.0.1" }, { ring });
    const bytes = new Random(9).bytes(MIB);
    const plan = { bytes, pieces: [100_000, 1, MIB - 100_001], halfClose: true };
    const all = await Promise.all(Array.from({ length: 4 }, () => {
      return echoClient("ours", server.place, plan, ring);
    }));
    return all.every((echoed) => Buffer.compare(echoed, bytes) === 0);
  }

  test.each(MASKABLE)("%s: is not used, and 1 MiB comes back all the same", async (feature) => {
    await using ring = new Ring({ disable: [feature] });
    expect(ring.features.has(feature)).toBe(false);
    expect(await echoes(ring)).toBe(true);
  });

  test("all of them: 1 MiB comes back on the plainest ring", async () => {
    await using ring = new Ring({ disable: MASKABLE });
    expect([...ring.features]).toEqual(["buffer_ring"]);
    expect(await echoes(ring)).toBe(true);
  });

  test("buffer_ring: there is no ring, and a sentence says why; its twin has its own", async () => {
    const disable = ["buffer_ring"] as const;
    const refused = /provided-buffer rings .*masked/;
    expect(() => new Ring({ backend: "uring", disable })).toThrow(refused);
    await using ring = new Ring({ backend: "auto", disable });
    expect([ring.backend, ring.features.has("buffer_ring")]).toEqual(["epoll", false]);
    expect(ring.reason).toMatch(refused);
    expect(await echoes(ring)).toBe(true);
  });

  test("BUN_URING_DISABLE masks as well, and refuses names that it does not know", async () => {
    const masked = await run(program("features"), {
      env: { BUN_URING_DISABLE: " multishot_receive ,multishot_accept," },
    });
    expect([masked.code, masked.stderr]).toEqual([0, ""]);
    const features = JSON.parse(masked.stdout) as string[];
    expect(features).toContain("buffer_ring");
    expect(features).not.toContain("multishot_receive");
    expect(features).not.toContain("multishot_accept");
    const wrong = await run(program("features"), { env: { BUN_URING_DISABLE: "multi_shot" } });
    expect(wrong.code).toBe(1);
    expect(wrong.stderr).toContain("EINVAL");
    expect(wrong.stderr).toContain('"multi_shot"');
  });
});

// A ring as older releases of Linux have it: what the mask takes away, and what the ring does
// instead. The whole suite under each of them: `npm run test:matrix`.

import { closeSync } from "node:fs";
import { release } from "node:os";
import { describe, expect, test } from "bun:test";
import { Ring, type FeatureName, type RingOptions } from "../ts/index.ts";
import { laterThan, RELEASES, type Release } from "../ts/releases.ts";
import { backend } from "./support/backend.ts";
import { descriptors } from "./support/descriptors.ts";
import { ringBytes } from "./support/descriptors.ts";
import { file, thrown } from "./support/operations.ts";
import { pair } from "./support/pair.ts";

/** What a mask leaves of a ring on a kernel that has it all. */
const LEFT: Record<Release, readonly FeatureName[]> = {
  "5.19": ["coop_taskrun", "multishot_accept"],
  "6.0": ["coop_taskrun", "multishot_accept", "multishot_receive", "multishot_recvmsg"],
  "6.1": ["single_issuer", "defer_taskrun", "multishot_accept", "multishot_receive",
    "multishot_recvmsg", "zero_copy_send"],
  "6.6": ["single_issuer", "defer_taskrun", "no_sqarray", "multishot_accept", "multishot_receive",
    "multishot_recvmsg", "zero_copy_send"],
  "6.12": ["single_issuer", "defer_taskrun", "no_sqarray", "multishot_accept", "multishot_receive",
    "multishot_recvmsg", "zero_copy_send"],
};
const ALWAYS: readonly FeatureName[] = [
  "submit_all", "taskrun_flag", "registered_ring_fd", "buffer_ring", "doorbell", "udp_gro",
  "udp_gso", "splice_pipes",
];

// A mask takes nothing away that is not there, and the twin plays no kernel's age.
const [major = 0, minor = 0] = release().split(".").map(Number);
const isWhole = major > 6 || (major === 6 && minor >= 17);
const masked = (process.env["BUN_URING_DISABLE"] ?? "") !== "";
const onWhole = test.if(backend === "uring" && isWhole && !masked);

onWhole.each(RELEASES)("as Linux %s a ring has these features and no others", async (name) => {
  await using ring = new Ring({ disable: [name] });
  expect([...ring.features].sort()).toEqual([...ALWAYS, ...LEFT[name]].sort());
  for (const later of laterThan(name)) expect(ring.features.has(later as FeatureName)).toBe(false);
});

/** SQEs that ten messages take, one after the other. */
async function sqesOfTen(options: RingOptions): Promise<number> {
  await using ring = new Ring(options);
  using both = await pair({ ring });
  const before = ring.stats().sqes;
  for (let i = 1; i <= 10; i++) {
    both.client.write("x");
    await both.atServer.received(i);
  }
  return ring.stats().sqes - before;
}

describe("what a kernel does not have is done another way", () => {
  onWhole("5.19: each message takes a receive of its own", async () => {
    // The sends, and the receives that are armed once.
    expect(await sqesOfTen({})).toBeLessThanOrEqual(12);
    expect(await sqesOfTen({ disable: ["5.19"] })).toBeGreaterThanOrEqual(19);
  });

  onWhole("6.0: what asks for no copy is copied", async () => {
    const bytes = new Uint8Array(new SharedArrayBuffer(100_000)).fill(7);
    const copies = async (disable: Release[]) => {
      await using ring = new Ring({ disable, zeroCopyThreshold: 1000 });
      using both = await pair({ ring });
      await both.client.send(bytes);
      await both.atServer.received(bytes.length);
      return ring.stats().sends_zero_copy;
    };
    expect([await copies(["6.1"]), await copies(["6.0"])]).toEqual([1, 0]);
  });

  onWhole("6.1, 6.6: files are cut, sockets bound and told to listen by plain calls", async () => {
    for (const name of ["6.1", "6.6", "6.12"] as const) {
      await using ring = new Ring({ disable: [name] });
      using own = file("something");
      await ring.ftruncate(own.fd, 4);
      expect(own.text()).toBe("some");
      const fd = await ring.socket("ipv4", "stream");
      await ring.bind(fd, { hostname: "127.0.0.1", port: 0 });
      await ring.listen(fd);
      closeSync(fd);
      const plain = ["ftruncate", "bind", "listen"].map((kind) => {
        return ring.operationCount(kind as "bind").plain;
      });
      expect(plain).toEqual(name === "6.12" ? [0, 0, 0] : [1, 1, 1]);
    }
  });

  onWhole("6.12: a registered file is a descriptor of the ring's own", async () => {
    const more = async (options: RingOptions) => {
      await using ring = new Ring(options);
      using own = file("something");
      const before = descriptors().length;
      ring.files.register([own.fd]);
      return descriptors().length - before;
    };
    expect([await more({}), await more({ disable: ["6.12"] })]).toEqual([0, 1]);
  });

  onWhole("6.1: the submission queue has its array of indices, and order in it", async () => {
    const entries = 8192;
    const bytesOf = async (disable: Release[]) => {
      const before = ringBytes();
      await using ring = new Ring({ disable, entries });
      const own = ringBytes() - before;
      // Around its end, several times.
      const order: number[] = [];
      for (let i = 0; i < 3 * entries; i++) ring.nop(() => order.push(i));
      await ring.drain();
      expect(order).toEqual(Array.from({ length: 3 * entries }, (_, i) => i));
      return own;
    };
    expect((await bytesOf(["6.1"])) - (await bytesOf(["6.6"]))).toBe(4 * entries);
  });

  onWhole("6.12: posts come by the eventfd, or not at all", async () => {
    await using ring = new Ring({ disable: ["6.12"] });
    expect(ring.token).toBeDefined();
    await using deaf = new Ring({ disable: ["6.12", "doorbell"] });
    expect(thrown(() => deaf.token).code).toBe("EOPNOTSUPP");
  });
});

test("a release that is none of them is refused with a list", () => {
  const error = thrown(() => new Ring({ disable: ["6.2" as Release] }));
  expect(error.code).toBe("EINVAL");
  expect(error.message).toContain(RELEASES.join(", "));
});

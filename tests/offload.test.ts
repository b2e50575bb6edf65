// offload(): functions in Workers, each job with one outcome: a result, an error, a cancellation,
// or a refusal because too many are not over.

import { describe, expect, setDefaultTimeout, test } from "bun:test";
import { existsSync } from "node:fs";
import { join } from "node:path";
import { Operation, Ring, type OffloadJob } from "../ts/index.ts";
import { native } from "../ts/native.ts";
import { features } from "./support/backend.ts";
import { program, run } from "./support/child.ts";
import { folder } from "./support/folder.ts";
import { rejected, thrown } from "./support/operations.ts";
import { patience } from "./support/patience.ts";
import { Random } from "./support/random.ts";
import { until } from "./support/until.ts";

setDefaultTimeout(60_000 * patience);

const double = (value: number): number => 2 * value;
const forever = (): never => {
  for (;;);
};
const slowly = (milliseconds: number): number => {
  const end = Date.now() + milliseconds;
  while (Date.now() < end);
  return milliseconds;
};
const jobs = new URL(`file://${program("offload_jobs")}`);
const named = (name: string) => new URL(`#${name}`, jobs);

describe("a result", () => {
  test("is what the function returns, or what its promise yields", async () => {
    await using ring = new Ring({ offloadWorkers: 2 });
    expect(await ring.offload(double, 21)).toBe(42);
    expect(await ring.offload(async (a: string, b: string) => a + b, "a", "b")).toBe("ab");
    expect(await ring.offload(function () {
      return arguments.length;
    } as () => number)).toBe(0);
    expect(await ring.offload(() => undefined)).toBeUndefined();
  });

  test("is a clone, as the arguments are", async () => {
    await using ring = new Ring({ offloadWorkers: 1 });
    const given = {
      map: new Map([[1, { deep: [1n, null, undefined] }]]),
      date: new Date(5),
      bytes: new Uint8Array(1 << 20).fill(7),
      text: "ünïcödé",
    };
    const same = await ring.offload((value: typeof given) => value, given);
    expect(same).toEqual(given);
    expect(same).not.toBe(given);
    await until(() => native.bu_block_count() === 0);
  });

  test("comes from a module: its default export, or the one that is named", async () => {
    await using ring = new Ring({ offloadWorkers: 1 });
    expect(await ring.offload(jobs as OffloadJob<number[], number>, 1, 2, 3)).toBe(6);
    const shout = { run: named("shout") } as OffloadJob<[string], string>;
    expect(await ring.offload(shout, "hey")).toBe("HEY!");
    for (const name of ["nothing", "nowhere"]) {
      const error = await rejected(ring.offload(named(name)));
      expect(error).toBeInstanceOf(TypeError);
      expect(error.message).toContain(`exports no function "${name}"`);
    }
    const missing = new URL("not_there.ts", jobs);
    expect((await rejected(ring.offload(missing))).message).toContain("not_there");
  });

  test("arrives in a thread that is blocked, and counts as a completion", async () => {
    await using ring = new Ring({ offloadWorkers: 1 });
    for (const wait of [
      () => ring.waitSync(), () => ring.drainSync(), () => ring.runUntilEmptySync(),
      () => ring.runSomeSync(),
    ]) {
      const job = ring.offload(double, 4);
      expect([job.pending, ring.pendingCount, wait(), job.pending]).toEqual([true, 1, 1, false]);
      expect(await job).toBe(8);
    }
  });

  test("gets through a mailbox that others keep full", async () => {
    await using ring = new Ring({ posts: 2, offloadWorkers: 2 });
    let told = 0;
    ring.onPost(1, () => void told++);
    const all = Array.from({ length: 20 }, (_, i) => ring.offload(double, i));
    const poster = Ring.open(ring.token);
    let over = false;
    const flood = async () => {
      while (!over) {
        try {
          poster.post(1, 0);
        } catch {
          await new Promise((resolve) => setImmediate(resolve));
        }
      }
    };
    const flooding = flood();
    expect(await Promise.all(all)).toEqual(Array.from({ length: 20 }, (_, i) => 2 * i));
    over = true;
    await flooding;
    expect(told).toBeGreaterThan(0);
  });

  // The twin, and an older kernel, have no ring that a message could go to.
  const bells = features.has("msg_ring") ? (["doorbell", "msg_ring"] as const) : [];
  test.each(bells)("arrives without %s", async (feature) => {
    await using ring = new Ring({ offloadWorkers: 1, disable: [feature] });
    expect(await ring.offload(double, 1)).toBe(2);
  });

  test("arrives on the epoll twin", async () => {
    await using ring = new Ring({ offloadWorkers: 1, backend: "epoll" });
    expect(await ring.offload(double, 1)).toBe(2);
    const job = ring.offload(double, 2);
    expect([ring.waitSync(), await job]).toEqual([1, 4]);
  });
});

describe("an error", () => {
  test("keeps its class, name, message, cause and properties", async () => {
    await using ring = new Ring({ offloadWorkers: 1 });
    const error = await rejected(ring.offload(() => {
      const cause = { at: 3 };
      throw Object.assign(new RangeError("too far", { cause }), { code: "EFAR", call: () => 1 });
    }));
    expect(error).toBeInstanceOf(RangeError);
    expect(error).toMatchObject({ name: "RangeError", message: "too far", code: "EFAR" });
    expect(error.cause).toEqual({ at: 3 });
    expect(error).not.toHaveProperty("call"); // no clone of it
    const own = await rejected(ring.offload(async () => {
      class Own extends Error {
        override name = "Own";
      }
      throw new Own("mine");
    }));
    expect([own instanceof Error, own.name, own.message]).toEqual([true, "Own", "mine"]);
  });

  test("may be anything that is thrown, and a result that has no clone is one", async () => {
    await using ring = new Ring({ offloadWorkers: 1 });
    for (const value of [5, "text", null, undefined, { a: 1 }]) {
      const job = ring.offload((thrown: unknown) => {
        throw thrown;
      }, value);
      expect(await job.then(() => "resolved", (error: unknown) => [error])).toEqual([value]);
    }
    const uncloned = await rejected(ring.offload(() => () => 1));
    expect(uncloned.name).toBe("DataCloneError");
    const strange = await rejected(ring.offload(() => {
      throw () => 1;
    }));
    expect(strange.message).toContain("=>");
  });
});

describe("a refusal", () => {
  test("of what is no job leaves nothing behind", async () => {
    await using ring = new Ring();
    const method = { run() {} }.run;
    for (const job of [
      undefined, null, 1, "text", {}, { run: 1 }, { run: double, signal: {} }, Math.max,
      double.bind(null), method,
    ]) expect(thrown(() => ring.offload(job as never)).code).toBe("EINVAL");
    expect(thrown(() => ring.offload((call: () => void) => call(), () => {})).name).toBe(
      "DataCloneError",
    );
    expect(ring.pendingCount).toBe(0);
  });

  test("of the ring's options", () => {
    for (const options of [{ offloadWorkers: 0 }, { offloadWorkers: 65 }, { offloadJobs: 0.5 }]) {
      expect(thrown(() => new Ring(options)).code).toBe("EINVAL");
    }
  });

  test("comes when too many are not over, running or waiting", async () => {
    await using ring = new Ring({ offloadWorkers: 1, offloadJobs: 3 });
    const admitted = [ring.offload(slowly, 20), ring.offload(double, 1), ring.offload(double, 2)];
    const error = thrown(() => ring.offload(double, 3));
    expect([error.code, error.phase, error.operation]).toEqual(["EAGAIN", "submission", "offload"]);
    expect(error.message).toContain("offloadJobs");
    expect(await Promise.all(admitted)).toEqual([20, 2, 4]);
    expect(await ring.offload(double, 3)).toBe(6);
  });

  test("of a ring that is closed", async () => {
    const ring = new Ring();
    await ring.close();
    expect(thrown(() => ring.offload(double, 1)).code).toBe("ESHUTDOWN");
  });
});

describe("the pool", () => {
  test("has no more Workers than it may, and uses all of them", async () => {
    await using ring = new Ring({ offloadWorkers: 3 });
    const thread = async (milliseconds: number) => {
      const end = Date.now() + milliseconds;
      while (Date.now() < end);
      return (await import("node:worker_threads")).threadId;
    };
    const ids = await Promise.all(Array.from({ length: 24 }, () => ring.offload(thread, 10)));
    expect(new Set(ids).size).toBe(3);
  });

  test("runs jobs in the order of their admission", async () => {
    await using ring = new Ring({ offloadWorkers: 1 });
    const order: number[] = [];
    const all = Array.from({ length: 50 }, (_, i) => {
      return ring.offload(double, i).then(() => order.push(i));
    });
    await Promise.all(all);
    expect(order).toEqual(Array.from({ length: 50 }, (_, i) => i));
  });

  test.each([["idle", "1"], ["pending", "200"], ["forgotten", "0"], ["close", "ECANCELED"]])(
    "%s lets the process end by itself",
    async (name, printed) => {
      const { code, stdout, stderr } = await run(program("offload_alive"), { arguments: [name] });
      expect([code, stdout, stderr]).toEqual([0, `${printed}\n`, ""]);
    },
  );
});

describe("the handle", () => {
  test("is an operation", async () => {
    await using ring = new Ring({ offloadWorkers: 1 });
    const job = ring.offload(double, 1);
    job.userData = "mine";
    expect(job).toBeInstanceOf(Operation);
    expect([job.kind, job.fd, job.pending]).toEqual(["offload", -1, true]);
    expect(await job.finally(() => {})).toBe(2);
    expect([job.pending, job.cancel(), job.userData, await job]).toEqual([false, false, "mine", 2]);
  });

  test("cancels a job that waits, which never runs", async () => {
    await using ring = new Ring({ offloadWorkers: 1 });
    const path = join(folder, "never");
    const first = ring.offload(slowly, 20);
    const waiting = ring.offload(async (file: string) => {
      await Bun.write(file, "ran");
    }, path);
    expect([waiting.cancel(), waiting.cancel()]).toEqual([true, false]);
    const error = await rejected(waiting);
    expect([error.name, error.code]).toEqual(["AbortError", "ECANCELED"]);
    expect([await first, await ring.offload(double, 1)]).toEqual([20, 2]);
    expect(existsSync(path)).toBeFalse();
  });

  test("cancels a job that runs: its Worker ends, and another takes over", async () => {
    await using ring = new Ring({ offloadWorkers: 1 });
    await ring.offload(double, 1); // the Worker is there
    for (let i = 0; i < 3; i++) {
      const endless = ring.offload(forever);
      const next = ring.offload(double, i);
      endless.cancel();
      expect((await rejected(endless)).code).toBe("ECANCELED");
      expect(await next).toBe(2 * i);
    }
  });

  test("cancels by a signal, also one that is aborted before", async () => {
    await using ring = new Ring({ offloadWorkers: 1 });
    const controller = new AbortController();
    const { signal } = controller;
    const endless = ring.offload({ run: forever, signal });
    controller.abort(new Error("enough"));
    for (const job of [endless, ring.offload({ run: double, signal }, 1)]) {
      const error = await rejected(job);
      expect([error.code, (error.cause as Error).message]).toEqual(["ECANCELED", "enough"]);
    }
    expect(await ring.offload({ run: double, signal: new AbortController().signal }, 1)).toBe(2);
  });

  test("is listed and rejected when the ring closes", async () => {
    const ring = new Ring({ offloadWorkers: 1 });
    const running = ring.offload(forever);
    const waiting = ring.offload(double, 1);
    const closing = ring.close();
    for (const job of [running, waiting]) expect((await rejected(job)).code).toBe("ECANCELED");
    expect((await rejected(closing)).message).toMatch(/offload, \d.\d s; offload, \d.\d s/);
  });
});

describe("a Worker that dies", () => {
  test("rejects its job and is replaced, whatever it died of", async () => {
    await using ring = new Ring({ offloadWorkers: 1 });
    const deaths: (() => unknown)[] = [
      () => process.exit(3),
      () => new Promise(() => {
        setImmediate(() => {
          throw new Error("later");
        });
      }),
      () => new Promise(() => {
        void Promise.reject(new Error("rejected"));
      }),
    ];
    for (const die of deaths) {
      const [dead, next] = [ring.offload(die), ring.offload(double, 4)];
      const error = await rejected(dead);
      expect([error.code, error.phase]).toEqual(["EOWNERDEAD", "completion"]);
      expect(error.message).toContain("the Worker died");
      expect(await next).toBe(8);
    }
  });

  test("says what it died of, where Bun tells", async () => {
    await using ring = new Ring({ offloadWorkers: 1 });
    const error = await rejected(ring.offload(() => new Promise(() => {
      setImmediate(() => {
        throw new Error("a cause to tell");
      });
    })));
    expect(String(error.cause)).toContain("a cause to tell");
  });
});

test("jobs that end, fail, die and are cancelled at random have one outcome each", async () => {
  await using ring = new Ring({ offloadWorkers: 4, offloadJobs: 1000 });
  const random = new Random(Number(process.env["TEST_SEED"] ?? 11));
  const job = async (what: number, milliseconds: number): Promise<number> => {
    const end = performance.now() + milliseconds;
    while (performance.now() < end);
    if (what === 1) throw new TypeError("asked for");
    if (what === 2) process.exit(1);
    return what;
  };
  const seen = { result: 0, error: 0, cancelled: 0, dead: 0 };
  let outcomes = 0;
  const all = Array.from({ length: 300 }, async () => {
    const what = random.chance(0.03) ? 2 : random.chance(0.2) ? 1 : 0;
    const operation = ring.offload(job, what, random.fraction());
    let asked = false;
    if (random.chance(0.15)) {
      const after = random.between(0, 30);
      for (let i = 0; i < after; i++) await new Promise((resolve) => setImmediate(resolve));
      asked = operation.cancel();
    }
    let own = 0;
    operation.then(() => own++, () => own++);
    try {
      expect(await operation).toBe(0);
      seen.result++;
    } catch (error) {
      const { code } = error as { code?: string };
      const kind = code === "ECANCELED" ? "cancelled" : code === "EOWNERDEAD" ? "dead" : "error";
      seen[kind]++;
      if (kind === "cancelled") expect(asked).toBeTrue();
      if (kind === "error") expect([error instanceof TypeError, what]).toEqual([true, 1]);
    }
    outcomes += own;
  });
  await Promise.all(all);
  expect(outcomes).toBe(300);
  expect(seen.result + seen.error + seen.cancelled + seen.dead).toBe(300);
  expect(Math.min(...Object.values(seen))).toBeGreaterThan(0);
  expect(ring.pendingCount).toBe(0);
  // What was posted too late goes with a turn, what a dead Worker left with the next block.
  await until(async () => (await ring.offload(double, 1)) === 2 && native.bu_block_count() === 0);
});

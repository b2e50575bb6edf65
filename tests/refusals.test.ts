// What a kernel refuses one by one, and what is short: a ring works without it, or its twin does
// and says why, or there is none and a sentence says what to do. Each in a process of its own.
//
// The three calls as a whole are refused in backend.test.ts.

import { describe, expect, setDefaultTimeout, test } from "bun:test";
import type { BackendName, FeatureName } from "../ts/index.ts";
import { answer, program, run, type Finished } from "./support/child.ts";

setDefaultTimeout(60_000);

interface Answer {
  backend: BackendName;
  reason: string;
  echoed: boolean;
  watched: boolean;
  entries: number;
  features: FeatureName[];
}

const ERRNOS = { EPERM: 1, ENOMEM: 12, EACCES: 13, EINVAL: 22, ENOSYS: 38 };
/** The suite's own choice must not reach the children. */
const env = { BUN_URING_BACKEND: "", BUN_URING_DISABLE: "" };

function refused(errno: keyof typeof ERRNOS, rule: string, asked = "auto") {
  return { arguments: [String(ERRNOS[errno]), asked, rule], env };
}

const available = (await answer<Answer>(program("refused"), { arguments: ["0"], env })).backend;
const onRing = test.if(available === "uring");

/** io_uring_register(2) by number. */
const register = (opcode: number) => `io_uring_register@1=${opcode}`;

describe("of what a ring registers, refused alone", () => {
  // Kernels have broken the one or the other in an update; profiles may allow some.
  const NEEDED: [string, number][] = [["an eventfd", 4], ["a provided-buffer ring", 22]];
  const REASONS = { EPERM: /forbidden here \(EPERM\)/, EINVAL: /\(EINVAL\)/ } as const;
  const cases = NEEDED.flatMap(([name, opcode]) => {
    return (["EPERM", "EINVAL"] as const).map((errno) => [name, errno, opcode] as const);
  });

  onRing.each(cases)("%s with %s: the twin serves, and says why", async (_name, errno, opcode) => {
    const outcome = await answer<Answer>(program("refused"), refused(errno, register(opcode)));
    expect(outcome).toMatchObject({ backend: "epoll", echoed: true, watched: true });
    expect(outcome.reason).toMatch(REASONS[errno]);
  });

  const SPARE: [string, number, FeatureName | null][] = [
    ["registered files", 13, "registered_files"],
    ["the ring's own descriptor", 20, "registered_ring_fd"],
    ["the probe of opcodes", 8, null],
  ];
  onRing.each(SPARE)("%s: the ring works without", async (_name, opcode, feature) => {
    for (const errno of ["EPERM", "EINVAL", "ENOSYS"] as const) {
      const outcome = await answer<Answer>(program("refused"), refused(errno, register(opcode)));
      expect(outcome).toMatchObject({ backend: "uring", echoed: true, watched: true });
      if (feature !== null) expect(outcome.features).not.toContain(feature);
    }
  });
});

describe("a large ring", () => {
  onRing("that there is no memory for is opened smaller", async () => {
    const rule = refused("ENOMEM", "io_uring_setup@0>64");
    const outcome = await answer<Answer>(program("refused"), rule);
    expect(outcome).toMatchObject({ backend: "uring", echoed: true, entries: 64 });
  });

  onRing("that is refused at any size that serves is no ring, and a sentence", async () => {
    const outcome = await run(program("refused"), refused("ENOMEM", "io_uring_setup@0>8"));
    expect([outcome.code, outcome.stdout]).toEqual([1, ""]);
    expect(outcome.stderr).toMatch(/no ring: out of memory \(ENOMEM\); raise the limit/);
  });

  onRing("that is not permitted is its twin's", async () => {
    for (const errno of ["EACCES", "EINVAL"] as const) {
      const rule = refused(errno, "io_uring_setup@0>64");
      const outcome = await answer<Answer>(program("refused"), rule);
      expect(outcome).toMatchObject({ backend: "epoll", echoed: true });
      expect(outcome.reason).toContain(errno);
    }
  });
});

/** In a shell whose limits it inherits; without privileges, which would lift them. */
async function limited(limit: string, what: string, backend: string): Promise<Finished> {
  const command = ["sh", "-c", `ulimit ${limit} && exec "$0" "$@"`];
  const child = Bun.spawn([...command, process.execPath, program("shortage"), what], {
    env: { ...process.env, ...env, BUN_URING_BACKEND: backend },
    stdin: "ignore",
    stdout: "pipe",
    stderr: "pipe",
    timeout: 50_000,
    killSignal: "SIGKILL",
  });
  const [stdout, stderr] = await Promise.all([child.stdout.text(), child.stderr.text()]);
  return { code: await child.exited, signal: null, stdout, stderr };
}

describe.each(available === "uring" ? ["uring", "epoll"] : ["epoll"])("on %s", (backend) => {
  test("with few descriptors left a ring works, or says so and keeps none", async () => {
    const { code, stdout, stderr } = await limited("-n 200", "descriptors", backend);
    expect([code, stderr]).toEqual([0, ""]);
    const outcomes = JSON.parse(stdout) as string[];
    const enough = outcomes.indexOf("works");
    expect(enough).toBeGreaterThan(0);
    expect(enough).toBeLessThanOrEqual(5);
    const sentence = /^EMFILE EMFILE: no ring: no descriptor is free \(EMFILE\).*ulimit -n/;
    for (const outcome of outcomes.slice(0, enough)) expect(outcome).toMatch(sentence);
    expect(new Set(outcomes.slice(enough))).toEqual(new Set(["works"]));
  });

  const LIMITS = [["0", false], ["64", false], ["1024", true]] as const;

  test.each(LIMITS)("with %s KiB to lock a ring works, or says why not", async (limit, works) => {
    const { code, stdout, stderr } = await limited(`-l ${limit}`, "memory", backend);
    if (code !== 0 && !works) {
      // Newer kernels count a ring's own memory as well.
      expect(backend).toBe("uring");
      expect(stderr).toMatch(/no ring: out of memory \(ENOMEM\).*`ulimit -l`/);
      return;
    }
    const outcome = JSON.parse(stdout) as { same: boolean; backend: string; registered: string };
    expect(outcome).toMatchObject({ same: true, backend });
    expect(outcome.registered).toMatch(/^registered$|^ENOMEM /);
  });
});

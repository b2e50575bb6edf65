// Which kernel interface a ring stands on: the probe, the option, the environment, and what happens
// where io_uring, or what its twin needs, is refused or short.

import { describe, expect, test } from "bun:test";
import { connect, listen, Ring, type BackendName } from "../ts/index.ts";
import { backend } from "./support/backend.ts";
import { answer, program, run } from "./support/child.ts";
import { thrown } from "./support/operations.ts";
import { End } from "./support/pair.ts";

interface Answer {
  backend: BackendName;
  reason: string;
  echoed: boolean;
  watched: boolean;
}

const RING_CALLS = ["io_uring_setup", "io_uring_enter", "io_uring_register"];
const ERRNOS = { EPERM: 1, ENOMEM: 12, EACCES: 13, EINVAL: 22, EMFILE: 24, ENOSYS: 38 };
type Refusal = keyof typeof ERRNOS;
/** The suite's own choice must not reach the children. */
const env = { BUN_URING_BACKEND: "" };

function refused(errno: Refusal, calls: readonly string[], asked = "auto") {
  return { arguments: [String(ERRNOS[errno]), asked, ...calls], env };
}

describe("a backend that is asked for", () => {
  test("is the ring's, and it says so", async () => {
    await using twin = new Ring({ backend: "epoll" });
    expect([twin.backend, twin.reason]).toEqual(["epoll", "asked for by the caller"]);
    expect(twin.inspect()).toMatchObject({ backend: "epoll", reason: twin.reason });
    expect(twin.features.has("multishot_receive")).toBe(true);
    expect(twin.features.has("defer_taskrun")).toBe(false);
  });

  test("otherwise than by one of its names is refused with a list of them", () => {
    const error = thrown(() => new Ring({ backend: "kqueue" as "auto" }));
    expect([error.code, error.message]).toEqual([
      "EINVAL", expect.stringMatching(/backend.*auto, uring, epoll.*"kqueue"/),
    ]);
  });

  test("by BUN_URING_BACKEND holds for rings without the option", async () => {
    const said = async (name: string) => {
      const told = { arguments: ["0", "auto"], env: { BUN_URING_BACKEND: name } };
      return (await answer<Answer>(program("refused"), told)).backend;
    };
    // The option wins: the program asks for "auto".
    expect(await said("epoll")).toBe(await said(""));
    const features = await answer<string[]>(program("features"), {
      env: { BUN_URING_BACKEND: "epoll" },
    });
    expect(features).not.toContain("submit_all");
    const wrong = await run(program("features"), { env: { BUN_URING_BACKEND: "select" } });
    expect([wrong.code, wrong.stderr]).toEqual([
      1, expect.stringMatching(/BUN_URING_BACKEND.*auto, uring, epoll.*"select"/),
    ]);
  });

  test("may differ between rings of one process, which talk to each other", async () => {
    await using twin = new Ring({ backend: "epoll" });
    await using other = new Ring();
    const atServer = new End();
    const atClient = new End();
    using server = listen({
      ring: twin,
      hostname: "127.0.0.1",
      port: 0,
      socket: {
        ...atServer.handlers,
        data(socket, chunk: Buffer) {
          atServer.handlers.data(socket, chunk);
          socket.write(chunk);
        },
      },
    });
    const place = { hostname: "127.0.0.1", port: server.port, socket: atClient.handlers };
    const client = await connect({ ring: other, ...place });
    client.write("across");
    expect((await atClient.received(6)).toString()).toBe("across");
    expect(other.backend).toBe(backend);
    client.end();
    await atClient.closed.promise;
  });
});

describe("where io_uring is refused", () => {
  const sentences: [Refusal, RegExp][] = [
    ["EPERM", /forbidden here \(EPERM\).*seccomp/],
    ["ENOSYS", /no io_uring, or a seccomp profile hides it \(ENOSYS\)/],
    ["EACCES", /refused \(EACCES\)/],
    ["EINVAL", /refused \(EINVAL\)/],
  ];

  test.each(sentences)("with %s its twin serves, and the reason is kept", async (errno, reason) => {
    const twin = await answer<Answer>(program("refused"), refused(errno, RING_CALLS));
    expect(twin).toMatchObject({
      backend: "epoll",
      reason: expect.stringMatching(reason),
      echoed: true,
      watched: true,
    });
  });

  // Containers refuse all three calls; others let a ring be made that then does nothing.
  test.each(["io_uring_enter", "io_uring_register"])("by %s alone the same", async (call) => {
    const twin = await answer<Answer>(program("refused"), refused("EPERM", [call]));
    expect([twin.backend, twin.echoed]).toEqual(["epoll", true]);
    expect(twin.reason).toContain("EPERM");
  });

  test("and was asked for there is no ring, and a sentence", async () => {
    const outcome = await run(program("refused"), refused("EPERM", RING_CALLS, "uring"));
    expect(outcome.code).toBe(1);
    expect(outcome.stderr).toMatch(/no ring: io_uring is forbidden here \(EPERM\)/);
  });

  test("a shortage is no refusal: it is told", async () => {
    for (const errno of ["ENOMEM", "EMFILE"] as const) {
      const outcome = await run(program("refused"), refused(errno, ["io_uring_setup"]));
      expect([outcome.code, outcome.stdout]).toEqual([1, ""]);
      expect(outcome.stderr).toContain(errno);
    }
  });
});

describe("where what the twin needs is refused", () => {
  test("Linux AIO: nobody can be woken, and a clock looks instead", async () => {
    for (const call of ["io_setup", "io_submit"]) {
      const outcome = await answer<Answer>(program("refused"), refused("EPERM", [call], "epoll"));
      expect(outcome).toMatchObject({ backend: "epoll", echoed: true, watched: false });
    }
  });

  test("epoll itself, or its timer: there is no ring, and a sentence", async () => {
    for (const call of ["timerfd_create"]) {
      const outcome = await run(program("refused"), refused("EPERM", [call], "epoll"));
      expect([outcome.code, outcome.stdout]).toEqual([1, ""]);
      expect(outcome.stderr).toMatch(/no ring: epoll, or a timerfd for it, was refused \(EPERM\)/);
    }
  });
});

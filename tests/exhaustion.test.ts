// When descriptors run out: connections wait, the loop goes on without the one that its stream
// would take, and all is well again when some are free.

import { expect, test } from "bun:test";
import { exchange, numberFrom, program, run } from "./support/child.ts";
import { until } from "./support/until.ts";

test.each(["listen", "serve"])("%s: without descriptors new connections wait", async (what) => {
  const limited = ["sh", "-c", 'ulimit -n 64 && exec "$0" "$@"', process.execPath];
  await using server = Bun.spawn([...limited, program("few_descriptors"), what], {
    stdin: "pipe",
    stdout: "pipe",
    stderr: "pipe",
    timeout: 25_000,
  });
  const reader = server.stdout.getReader();
  const port = await numberFrom(reader);
  // Each holds its connection until it has its echo, so that the last ones have to wait.
  const held: { terminate(): void }[] = [];
  const holding = Promise.withResolvers<void>();
  const client = () => Bun.connect({
    hostname: "127.0.0.1",
    port,
    socket: {
      open: (socket) => void socket.write("x"),
      data(socket) {
        held.push(socket);
        if (held.length === 30) holding.resolve();
      },
    },
  });
  const clients = await Promise.all(Array.from({ length: 100 }, client));
  await holding.promise;
  let served = 0;
  while (served < 100) {
    await until(() => held.length > 0);
    for (const socket of held.splice(0)) {
      served++;
      socket.terminate();
    }
  }
  expect(clients).toHaveLength(100);
  expect(await exchange(port, "and on it goes")).toBe("and on it goes");
  await server.stdin.end();
  expect(await numberFrom(reader)).toBeGreaterThan(0);
  expect([await server.exited, await server.stderr.text()]).toEqual([0, ""]);
});

test.each(["first sleep", "later sleep"])(
  "without a free descriptor the %s of the ring ends as well",
  async (when) => {
    const options = { arguments: [when], timeoutMs: 5000 };
    const { code, stdout, stderr } = await run(program("exhausted"), options);
    expect([code, stdout, stderr]).toEqual([0, '["one","two"]\n', ""]);
  },
);

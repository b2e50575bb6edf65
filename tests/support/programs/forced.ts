// What a program is told when results are forced, on the library that takes rules for them. Prints
// one line for each scene: what promises and handlers said, and how often the rules struck.

import { connect, listen, Ring, type Socket, type UringError } from "../../../ts/index.ts";
import { descriptors } from "../descriptors.ts";
import { cleared, force, type Rule } from "../faults.ts";
import { file } from "../operations.ts";
import { End, pair } from "../pair.ts";
import { turns, until } from "../until.ts";

type Scene = (ring: Ring) => Promise<unknown>;

/** What an outcome is to a program: the value, or what the error says of itself. */
async function told(awaited: PromiseLike<unknown>): Promise<unknown> {
  try {
    return await awaited;
  } catch (error) {
    const { code, errno, name, operation, phase } = error as UringError;
    return { code, errno, name, operation, phase };
  }
}

const codeOf = (error: Error | undefined) => (error as { code?: string } | undefined)?.code ?? null;

/** The last of a receive that was armed before, behind so many completions. */
function receiveEnds(ring: Ring, nth: number, result: Rule["result"]): void {
  // Without multishots each receive is a submission: the one that is armed is not among them.
  const how = ring.features.has("multishot_receive") ? "ending" : "instead";
  force({ kind: "receive", how, nth, result });
}

const uncaught: (string | null)[] = [];
process.on("uncaughtException", (error) => void uncaught.push(codeOf(error)));

const SCENES: Record<string, Scene> = {
  async "a file that cannot be read"(ring) {
    using own = file("0123456789");
    const read = () => {
      return told(ring.read(own.fd, new Uint8Array(10), { at: 0 }).then(({ bytes }) => bytes));
    };
    force({ kind: "ring.read", result: "EIO" });
    force({ kind: "ring.read", nth: 2, result: "EINTR" });
    force({ kind: "ring.read", how: "shortened", nth: 3, result: 4 });
    return [await read(), await read(), await read(), await read()];
  },

  async "bytes that do not get to the disk"(ring) {
    using own = file();
    force({ kind: "ring.fsync", how: "afterwards", result: "EIO" });
    force({ kind: "ring.write", nth: 2, result: "ENOSPC" });
    force({ kind: "ring.write", how: "shortened", nth: 3, result: 3 });
    const write = (text: string) => {
      const bytes = Buffer.from(text);
      return told(ring.write(own.fd, bytes, { at: 0 }).then(({ bytes: count }) => count));
    };
    const said = [await write("abc"), await write("def"), await write("ghijkl")];
    return [...said, await told(ring.fsync(own.fd)), await told(ring.fsync(own.fd)), own.text()];
  },

  async "a receive that fails in the middle"(ring) {
    using both = await pair({ ring });
    using other = await pair({ ring });
    await turns(5); // all receives are armed
    receiveEnds(ring, 2, "EIO");
    const sent = [both.client.write("one")];
    await both.atServer.received(3);
    sent.push(both.client.write("two"));
    await both.atServer.closed.promise;
    other.client.write("still served");
    const { order, bytes, closeError } = both.atServer;
    const served = (await other.atServer.received(12)).toString();
    return { sent, order, bytes: bytes.toString(), code: codeOf(closeError), served };
  },

  async "a receive that is interrupted"(ring) {
    using both = await pair({ ring });
    await turns(5);
    receiveEnds(ring, 1, "EINTR");
    both.client.write("one ");
    await both.atServer.received(4);
    await turns(5);
    both.client.write("two");
    return (await both.atServer.received(7)).toString();
  },

  async "a send that fails in the middle"(ring) {
    using both = await pair({ ring });
    force({ kind: "send", nth: 3, result: "EIO" });
    const taken: number[] = [];
    for (const text of ["a", "b", "c", "d"]) {
      taken.push(both.server.write(text));
      await turns(3);
    }
    await both.atServer.closed.promise;
    const { closeError } = both.atServer;
    const arrived = (await both.atClient.received(2)).toString();
    return { taken, arrived, code: codeOf(closeError) };
  },

  async "a peer that is gone, after what it has sent"(ring) {
    using both = await pair({ ring });
    force({ kind: "send", result: "EPIPE" });
    both.server.write("nobody reads this");
    await turns(3);
    const late = both.server.write("x");
    both.client.end("a last word");
    await both.atServer.closed.promise;
    const { order, bytes, closeError } = both.atServer;
    return { late, order, bytes: bytes.toString(), code: codeOf(closeError) };
  },

  async "memory that is not sent to its end"(ring) {
    using both = await pair({ ring });
    const memory = () => new Uint8Array(new SharedArrayBuffer(64)).fill(120);
    force({ kind: "member", nth: 2, result: "ENOMEM" });
    const parts = [memory(), memory(), memory()];
    const said = await told(both.server.chain(parts, { onBreak: "report" }).then((result) => {
      return { bytes: result.bytes, total: result.total, code: codeOf(result.error ?? undefined) };
    }));
    return { said, arrived: (await both.atClient.received(64)).length };
  },

  async "an accept that fails"(ring) {
    const failures = ["EMFILE", "ECONNABORTED", "ENOBUFS", "EPROTO"] as const;
    failures.forEach((result, i) => force({ kind: "accept", nth: i + 1, result }));
    const echoed: string[] = [];
    using both = await pair({ ring, serverSocket: { data: (s: Socket, c: Buffer) => s.write(c) } });
    for (const _ of failures) {
      const end = new End();
      const place = { hostname: "127.0.0.1", port: both.listener.port as number, ring };
      using socket = await connect({ ...place, socket: end.handlers });
      socket.write("hi");
      echoed.push((await end.received(2)).toString());
    }
    return { echoed, failed: ring.stats().accepts_failed };
  },

  async "a listener without its socket"(ring) {
    using healthy = await pair({ ring });
    uncaught.length = 0;
    force({ kind: "accept", result: "EBADF" });
    using lost = listen({ hostname: "127.0.0.1", port: 0, ring, socket: { data() {} } });
    await until(() => uncaught.length > 0);
    healthy.client.write("x");
    await healthy.atServer.received(1);
    lost.stop(); // it is closed: nothing happens
    return { uncaught: [...uncaught] };
  },

  async "a connect that fails"(ring) {
    using both = await pair({ ring });
    force({ kind: "connect", result: "EHOSTUNREACH" });
    let heard: string | null = "nothing";
    const socket = { connectError: (_: unknown, error: Error) => void (heard = codeOf(error)) };
    const place = { hostname: "127.0.0.1", port: both.listener.port as number, ring };
    return { said: await told(connect({ ...place, socket })), heard };
  },

  async "ends that say they failed"(ring) {
    using both = await pair({ ring });
    force({ kind: "shutdown", how: "afterwards", result: "ENOTCONN" });
    force({ kind: "close", how: "afterwards", result: "EIO" });
    both.server.end("bye");
    await both.atClient.ended.promise;
    both.client.end();
    await both.atServer.closed.promise;
    const { order, closeError } = both.atServer;
    return { order, code: codeOf(closeError), bytes: both.atClient.bytes.toString() };
  },

  async "an operation that says it was cancelled"(ring) {
    force({ kind: "ring.nop", result: "ECANCELED" });
    return told(ring.nop());
  },

  async "a ring that loses its clock"(ring) {
    force({ kind: "deadline", result: "ENOMEM" });
    const waiting = await told(ring.timeout(20));
    const later = await told((async () => ring.nop())());
    return { waiting, later, fatal: codeOf(ring.fatalError ?? undefined) };
  },
};

async function play(scene: Scene): Promise<object> {
  const ring = new Ring();
  const before = descriptors().length;
  const value = await scene(ring);
  const told = Array.isArray(value) || typeof value !== "object" ? { said: value } : value;
  // A ring that has failed cannot say that it is done.
  const isFree = () => descriptors().length === before;
  if (ring.fatalError === null) await until(isFree, "no descriptor is left");
  await ring.close();
  return { ...told, struck: cleared() };
}

const said: Record<string, object> = {};
for (const [name, scene] of Object.entries(SCENES)) said[name] = await play(scene);
console.log(JSON.stringify(said));
process.exit(0);

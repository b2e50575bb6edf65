// Rings under a policy that refuses one opcode of io_uring, one after the other, on the library
// that opens them so. Prints for each what serves, why, and what of a little of everything differs
// from a ring that may do all.

import { join } from "node:path";
import { Ring, type RegisteredBuffer, type UringError } from "../../../ts/index.ts";
import { forbid } from "../faults.ts";
import { folder } from "../folder.ts";
import { FORBIDDEN } from "../forbidden.ts";
import { file, pipe } from "../operations.ts";
import { pair } from "../pair.ts";
import { Random } from "../random.ts";

const bytes = new Random(7).bytes(5000);

async function echo(ring: Ring): Promise<string> {
  using both = await pair({ ring });
  const { client, server, atServer, atClient } = both;
  await client.send(new Uint8Array(new SharedArrayBuffer(5000)).fill(7)); // without a copy
  await atServer.received(5000);
  client.write(bytes);
  await atServer.received(10_000);
  server.end("bye");
  await atClient.ended.promise;
  client.end();
  await atServer.closed.promise;
  const same = Buffer.compare(atServer.bytes.subarray(5000), bytes) === 0;
  return same && atClient.bytes.toString() === "bye" ? "echoed" : "other bytes";
}

/** Each of them leaves a number or a text. */
const CALLS: Record<string, (ring: Ring, name: string) => Promise<unknown>> = {
  async write(ring) {
    using own = file("0123456789");
    const counts = [(await ring.write(own.fd, "abc", { at: 2 })).bytes];
    counts.push((await ring.writev(own.fd, ["x", "yz"], { at: 0 })).bytes);
    return [counts, own.text()];
  },
  async read(ring) {
    using own = file("0123456789");
    const [one, parts] = [new Uint8Array(4), [new Uint8Array(2), new Uint8Array(3)]];
    const counts = [(await ring.read(own.fd, one, { at: 2 })).bytes];
    counts.push((await ring.readv(own.fd, parts, { at: 5 })).bytes);
    return [counts, Buffer.concat([one, ...parts]).toString()];
  },
  async sync(ring) {
    using own = file("0123456789");
    const done = [await ring.fsync(own.fd), await ring.datasync(own.fd)];
    return [...done, await ring.syncFileRange(own.fd, 0, 4, 0)];
  },
  async resize(ring) {
    using own = file("0123456789");
    await ring.fallocate(own.fd, 0, 64);
    await ring.ftruncate(own.fd, 6);
    return Number((await ring.statx(own.path)).size);
  },
  async names(ring, name) {
    const at = (what: string) => join(folder, `${name}-${what}`);
    await ring.close(await ring.openat(at("a"), "w"));
    await ring.rename(at("a"), at("b"));
    await ring.link(at("b"), at("c"));
    await ring.symlink(at("b"), at("d"));
    await ring.mkdir(at("e"));
    await ring.unlink(at("b"));
    return (await ring.statx(at("c"))).links;
  },
  async sockets(ring) {
    const fd = await ring.socket("ipv4");
    await ring.bind(fd, { hostname: "127.0.0.1", port: 0 });
    return [await ring.listen(fd), await ring.close(fd)];
  },
  async splice(ring) {
    using own = file("0123456789");
    using between = pipe();
    return await ring.splice(own.fd, between.fd, 7, { sourceAt: 0 });
  },
  async limits(ring) {
    using ends = pipe();
    const late = ring.read(ends.fd, new Uint8Array(1), { timeout: 5 });
    const code = await late.then(() => "read", (error: UringError) => error.code);
    return [code, await ring.timeout(1).then(() => "timer"), await ring.nop()];
  },
  async fixed_read(ring) {
    using own = file("0123456789");
    const [buffer] = ring.buffers.register([new SharedArrayBuffer(8)]) as [RegisteredBuffer];
    return (await ring.read(own.fd, buffer, { at: 0 })).bytes;
  },
  async fixed_write(ring) {
    using own = file();
    const [buffer] = ring.buffers.register([new SharedArrayBuffer(8)]) as [RegisteredBuffer];
    return (await ring.write(own.fd, buffer, { at: 0 })).bytes;
  },
};

async function attempt(name: string) {
  const ring = new Ring({ zeroCopyThreshold: 1000 });
  const said: Record<string, unknown> = { echo: await echo(ring) };
  for (const [call, run] of Object.entries(CALLS)) {
    const failed = (error: UringError) => `${error.code} ${error.message}`;
    said[call] = await run(ring, name).catch(failed);
    if (call.startsWith("fixed") && ring.buffers.state !== "unregistered") {
      ring.buffers.requestUnregister();
    }
  }
  const { backend, reason } = ring;
  await ring.close();
  return { backend, reason, said };
}

const all = await attempt("all");
const outcomes: Record<string, unknown> = { all };
for (const [name, opcode] of Object.entries(FORBIDDEN)) {
  forbid([opcode]);
  const { backend, reason, said } = await attempt(name);
  const differs = Object.entries(said).filter(([call, value]) => {
    return JSON.stringify(value) !== JSON.stringify(all.said[call]);
  });
  outcomes[name] = { backend, reason, differs: Object.fromEntries(differs) };
}
console.log(JSON.stringify(outcomes));
process.exit(0);

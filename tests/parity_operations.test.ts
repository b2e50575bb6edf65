// The same scripts on io_uring, on its twin and, where it has such calls, on node:fs, with equal
// transcripts: registered buffers and files in every state, fixed I/O, posts, schedules, watches,
// splices, descriptors that are passed, time limits, links. Sockets have theirs in parity.test.ts.

import { closeSync, fstatSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, setDefaultTimeout, test } from "bun:test";
import {
  prepare,
  Ring,
  type BatchResult,
  type RegisteredBuffer,
  type RegisteredFile,
} from "../ts/index.ts";
import { backend } from "./support/backend.ts";
import { folder } from "./support/folder.ts";
import { file, pipe } from "./support/operations.ts";
import {
  callsOfNode,
  callsOfRing,
  Log,
  played,
  type FileCalls,
  type RingScript,
} from "./support/parity_ring.ts";
import { socketPair } from "./support/raw_socket.ts";
import { until } from "./support/until.ts";

setDefaultTimeout(30_000);

const text = (bytes: Uint8Array) => Buffer.from(bytes).toString();
const shared = (length: number) => new SharedArrayBuffer(length);
const bytes = async (operation: PromiseLike<{ bytes: number }>) => (await operation).bytes;
const outcomes = ({ members, cause }: BatchResult) => [
  ...members.map((one) => (one.status === "done" ? "done" : `${one.status} ${one.error.code}`)),
  cause,
];

const SCRIPTS: RingScript[] = [
  {
    name: "registered buffers, in every state",
    async run(ring, log) {
      using ends = pipe();
      const { buffers } = ring;
      await log.note("unregister nothing", () => buffers.requestUnregister());
      await log.note("update nothing", () => void buffers.update(0, shared(8)));
      const memory = shared(16);
      const [buffer] = buffers.register([memory, shared(8)]) as [RegisteredBuffer];
      log.say(`${buffers.state} ${buffers.count} ${buffers.inFlight}`);
      await log.note("register again", () => void buffers.register([shared(8)]));
      await log.note("beyond it", () => ring.read(ends.fd, buffer, { offset: 12, length: 5 }));
      await log.note("update beyond", () => void buffers.update(2, shared(8)));
      const read = ring.read(ends.fd, buffer, { length: 8 });
      ring.submit();
      await log.note("ask for its end", () => buffers.requestUnregister());
      log.say(`${buffers.state} ${buffers.inFlight}`);
      await log.note("use while it drains", () => ring.read(ends.fd, buffer));
      await log.note("update while it drains", () => void buffers.update(0, shared(8)));
      await log.note("register while it drains", () => void buffers.register([shared(8)]));
      await log.note("an ordinary write", () => bytes(ring.write(ends.fd, "drained")));
      await log.note("what was in flight", () => bytes(read));
      log.say(`${text(new Uint8Array(memory))} ${buffers.state} ${buffers.count}`);
      await log.note("use it after", () => ring.read(ends.fd, buffer));
      await log.note("register anew", () => buffers.register([shared(8)]).length);
      await log.note("an end in time", () => buffers.unregister());
    },
  },
  {
    name: "registered buffers, updated and given up in use",
    async run(ring, log) {
      using ends = pipe();
      const [old, fresh] = [shared(8), shared(8)];
      const [buffer] = ring.buffers.register([old]) as [RegisteredBuffer];
      const read = ring.read(ends.fd, buffer, { length: 4 });
      ring.submit();
      const updated = ring.buffers.update(0, fresh);
      await log.note("the handle before", () => ring.read(ends.fd, buffer));
      await ring.write(ends.fd, "old.");
      await log.note("in flight", () => bytes(read));
      await ring.write(ends.fd, "new.");
      await log.note("the handle after", () => bytes(ring.read(ends.fd, updated)));
      log.say(`${text(new Uint8Array(old))} ${text(new Uint8Array(fresh))}`);
      const late = ring.read(ends.fd, updated, { length: 4 });
      ring.submit();
      await log.note("an end that takes too long", () => ring.buffers.unregister({ timeout: 20 }));
      await log.note("a blocking one", () => ring.buffers.unregisterSync({ timeout: 20 }));
      log.say(ring.buffers.state);
      await ring.write(ends.fd, "late");
      await log.note("what it waited for", () => bytes(late));
      await log.note("now it ends", () => ring.buffers.unregisterSync());
    },
  },
  {
    name: "registered files, in every state",
    async run(ring, log) {
      using ends = pipe();
      using own = file("of a file");
      const { files } = ring;
      await log.note("unregister nothing", () => files.requestUnregister());
      await log.note("nothing at all", () => void files.register([]));
      const [place, other] = files.register([ends.fd, own.fd]) as [RegisteredFile, RegisteredFile];
      log.say(`${files.state} ${files.count} ${files.inFlight}`);
      await log.note("write by place", () => bytes(ring.write(place, "by place")));
      const into = new Uint8Array(9);
      await log.note("read by place", () => bytes(ring.read(other, into, { at: 0 })));
      log.say(text(into));
      await log.note("fsync by place", () => ring.fsync(other));
      await ring.read(ends.fd, into);
      const read = ring.read(place, into, { length: 3 });
      ring.submit();
      const updated = files.update(0, own.fd);
      await log.note("the handle before", () => ring.read(place, into));
      const two = new Uint8Array(2);
      await log.note("the handle after", () => bytes(ring.read(updated, two, { at: 3 })));
      await ring.write(ends.fd, "end");
      await log.note("in flight", () => bytes(read));
      const last = ring.read(ends.fd, into);
      await log.note("an end", () => files.unregister());
      log.say(`${files.state} ${files.count}`);
      await log.note("use it after", () => ring.read(updated, into));
      await ring.write(ends.fd, "x");
      await last;
    },
  },
  {
    name: "fixed reads and writes",
    async run(ring, log) {
      using own = file("0123456789");
      const memory = shared(16);
      const [buffer] = ring.buffers.register([memory]) as [RegisteredBuffer];
      await log.note("read", () => bytes(ring.read(own.fd, buffer, { at: 2, length: 6 })));
      await log.note("beyond the end", () => bytes(ring.read(own.fd, buffer, { at: 20 })));
      const back = { at: 8, offset: 1, length: 3 };
      await log.note("write", () => bytes(ring.write(own.fd, buffer, back)));
      await log.note("a closed descriptor", () => ring.read(9999, buffer));
      await log.note("a directory", async () => {
        const fd = await ring.openat(folder, "r");
        await ring.read(fd, buffer).then(undefined, async (error: Error) => {
          await ring.close(fd);
          throw error;
        });
      });
      log.say(own.text());
    },
  },
  {
    name: "posts, and what comes of schedules among them",
    async run(ring, log) {
      const posts = ring.onPost([1, 9], (data, key) => log.say(`${key}: ${String(data)}`));
      const poster = Ring.open(ring.token);
      for (const [key, data] of [[1, 10], [9, -3], [4, 0]] as const) poster.post(key, data);
      const scheduled = ring.schedule().then(() => log.say("scheduled"));
      await log.note("turned", () => ring.runUntilEmpty());
      await scheduled;
      poster.post(3, 7);
      await until(() => log.lines.includes("3: 7"));
      poster.wakeup();
      await log.note("waited", () => ring.wait());
      await log.note("a key too large", () => poster.post(2 ** 32, 1));
      posts.remove();
      await log.note("a cancelled schedule", () => {
        const one = ring.schedule();
        one.cancel();
        return one;
      });
    },
  },
  {
    name: "watches",
    async run(ring, log) {
      const [near, far] = socketPair();
      const seen: string[] = [];
      const watch = ring.watch(near, "read", "mine", (event) => {
        const said = [event.context, event.readable && "readable", event.writable && "writable"];
        seen.push(said.filter(Boolean).join(" "));
      });
      await ring.write(far, "x");
      await until(() => seen.length === 1);
      await ring.read(near, new Uint8Array(1));
      watch.modify("write");
      await until(() => seen.length === 2);
      watch.remove();
      await ring.write(far, "y");
      await ring.timeout(5);
      log.say(`${seen.join(", ")}; active: ${watch.active}`);
      await log.note("a closed descriptor", () => {
        return new Promise((resolve) => ring.watch(9999, "read", null, resolve))
          .then((event) => (event as { error: boolean }).error);
      });
      for (const fd of [near, far]) closeSync(fd);
    },
  },
  {
    name: "splices",
    async run(ring, log) {
      using own = file("spliced bytes");
      using target = file();
      using between = pipe();
      const { fd } = between;
      await log.note("in", () => ring.splice(own.fd, fd, 7, { sourceAt: 0 }));
      await log.note("out", () => ring.splice(fd, target.fd, 7, { at: 0 }));
      await log.note("past the end", () => ring.splice(own.fd, fd, 7, { sourceAt: 99 }));
      await log.note("less than asked", () => ring.splice(own.fd, fd, 100, { sourceAt: 8 }));
      await log.note("no pipe", () => ring.splice(own.fd, target.fd, 7));
      await log.note("a position in a pipe", () => ring.splice(fd, target.fd, 1, { sourceAt: 0 }));
      using empty = pipe();
      await log.note("nothing there", () => {
        return ring.splice(empty.fd, fd, 1, { timeout: 10 });
      });
      log.say(target.text());
    },
  },
  {
    name: "descriptors that are passed",
    async run(ring, log) {
      const [near, far] = socketPair();
      using own = file("passed");
      const options = { descriptors: [own.fd, own.fd] };
      await log.note("sent", () => bytes(ring.sendmsg(near, ["with"], options)));
      const message = await ring.recvmsg(far, [new Uint8Array(8)], { descriptors: 4 });
      const same = message.descriptors.map((fd) => fstatSync(fd).ino === fstatSync(own.fd).ino);
      log.say(`${message.bytes} bytes, ${same.join()}`);
      for (const fd of message.descriptors) closeSync(fd);
      await ring.sendmsg(near, ["with"], options);
      const fewer = await ring.recvmsg(far, [new Uint8Array(8)], { descriptors: 1 });
      log.say(`${fewer.bytes} bytes, ${fewer.descriptors.length} of two`);
      for (const fd of [near, far, ...fewer.descriptors]) closeSync(fd);
      await log.note("a closed one", () => ring.sendmsg(near, ["x"], { descriptors: [9999] }));
    },
  },
  {
    name: "time limits, cancels and signals",
    async run(ring, log) {
      using ends = pipe();
      const read = (options: object) => ring.read(ends.fd, new Uint8Array(4), options);
      await log.note("a limit", () => read({ timeout: 10 }));
      await ring.write(ends.fd, "here");
      await log.note("in time", () => bytes(read({ timeout: 10_000 })));
      await log.note("aborted before", () => read({ signal: AbortSignal.abort() }));
      const controller = new AbortController();
      const waiting = read({ signal: controller.signal });
      ring.submit();
      controller.abort();
      await log.note("aborted while it waits", () => waiting);
      const cancelled = read({});
      ring.submit();
      log.say(`cancelled: ${cancelled.cancel()}, again: ${cancelled.cancel()}`);
      await log.note("it", () => cancelled);
      log.say(`after its end: ${cancelled.cancel()}`);
      await log.note("a timer", () => ring.timeout(5));
      const far = ring.timeout(60_000);
      far.cancel();
      await log.note("a timer that is cancelled", () => far);
    },
  },
  {
    name: "links, soft and hard, with time limits in them",
    async run(ring, log) {
      using own = file("abc");
      using ends = pipe();
      const sync = (fd: number) => prepare.fsync().file(fd);
      const read = (length: number) => {
        return prepare.read().file(own.fd).buffer(new Uint8Array(length)).at(0);
      };
      const all = [prepare.nop(), sync(own.fd), read(3)];
      await log.note("all of it", async () => outcomes(await ring.link(all)));
      const broken = [prepare.nop(), sync(9999), prepare.nop(), prepare.nop()];
      await log.note("a failure", async () => outcomes(await ring.link(broken)));
      const short = [read(9), prepare.nop()];
      await log.note("a short read", async () => outcomes(await ring.link(short)));
      const hard = [sync(9999), prepare.nop(), sync(9999), prepare.nop()];
      await log.note("hard", async () => outcomes(await ring.link(hard, { hard: true })));
      const limited = [
        prepare.read().file(ends.fd).buffer(new Uint8Array(1)).timeout(10), prepare.nop(),
      ];
      await log.note("a limit", async () => outcomes(await ring.link(limited)));
      const chain = ring.link([prepare.timeout(60_000), prepare.nop()]);
      ring.submit();
      chain.operations[0]?.cancel();
      await log.note("a cancel", async () => outcomes(await chain));
      const apart = [sync(9999), prepare.nop()];
      await log.note("unlinked", async () => outcomes(await ring.batch(apart)));
    },
  },
];

const onBoth = test.if(backend === "uring");

describe("the same on the ring and on its twin:", () => {
  onBoth.each(SCRIPTS)("$name", async (script) => {
    const onRing = await played("uring", script);
    expect(onRing.length).toBeGreaterThan(1);
    expect(await played("epoll", script)).toEqual(onRing);
  });
});

interface FileScript {
  name: string;
  run(calls: FileCalls, log: Log, at: (name: string) => string): Promise<void>;
}

const FILES: FileScript[] = [
  {
    name: "bytes",
    async run(calls, log, at) {
      const fd = await calls.open(at("bytes"), "w+");
      await log.note("write", () => calls.write(fd, "hello, file", 0));
      await log.note("beyond the end", () => calls.write(fd, "gap", 16));
      const parts = ["a", "bc"].map((one) => Buffer.from(one));
      await log.note("gather", () => calls.writev(fd, parts, 5));
      const into = Buffer.alloc(30, 46);
      await log.note("read", () => calls.read(fd, into, 0));
      log.say(JSON.stringify(into.toString()));
      await log.note("at the end", () => calls.read(fd, into, 19));
      await log.note("sync", () => calls.sync(fd));
      await log.note("cut", () => calls.truncate(fd, 5));
      await log.note("its size", () => calls.size(at("bytes")));
      await log.note("longer", () => calls.truncate(fd, 50));
      await log.note("its size", () => calls.size(at("bytes")));
      await log.note("close", () => calls.close(fd));
      const only = await calls.open(at("bytes"), "r");
      await log.note("write to what is read", () => calls.write(only, "x", 0));
      await log.note("cut what is read", () => calls.truncate(only, 0));
      await calls.close(only);
    },
  },
  {
    name: "names",
    async run(calls, log, at) {
      await log.note("nothing there", () => calls.open(at("a"), "r"));
      await log.note("a new one", async () => calls.close(await calls.open(at("a"), "wx")));
      await log.note("not twice", () => calls.open(at("a"), "wx"));
      await log.note("link", () => calls.link(at("a"), at("b")));
      await log.note("link to what is there", () => calls.link(at("a"), at("b")));
      await log.note("symlink", () => calls.symlink(at("nowhere"), at("c")));
      await log.note("its size", () => calls.size(at("c")));
      await log.note("rename", () => calls.rename(at("b"), at("d")));
      await log.note("rename what is gone", () => calls.rename(at("b"), at("d")));
      await log.note("mkdir", () => calls.mkdir(at("e")));
      await log.note("mkdir again", () => calls.mkdir(at("e")));
      await log.note("mkdir deeper", () => calls.mkdir(join(at("f"), "g")));
      await log.note("a file as directory", () => calls.open(join(at("a"), "x"), "r"));
      await log.note("a directory as file", () => calls.open(at("e"), "w"));
      await log.note("unlink a directory", () => calls.unlink(at("e")));
      await log.note("unlink", () => calls.unlink(at("a")));
      await log.note("unlink again", () => calls.unlink(at("a")));
      await log.note("a long name", () => calls.open(at("x".repeat(300)), "w"));
    },
  },
];

describe("the same as node:fs:", () => {
  test.each(FILES)("$name", async ({ name, run }) => {
    const play = async (calls: FileCalls, kind: string) => {
      const log = new Log();
      await run(calls, log, (path) => join(folder, `${kind}-${name}-${path}`));
      return log.lines;
    };
    await using node = callsOfNode();
    const expected = await play(node, "node");
    expect(expected.length).toBeGreaterThan(10);
    for (const kind of backend === "uring" ? ["uring", "epoll"] as const : ["epoll"] as const) {
      await using ring = new Ring({ backend: kind });
      expect(await play(callsOfRing(ring), kind)).toEqual(expected);
    }
  });
});

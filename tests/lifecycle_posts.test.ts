// The life-cycle matrices of posts: tokens, posters, subscriptions, blocks. Every public method in
// every state, as in lifecycle.test.ts.

import { describe, expect, test } from "bun:test";
import {
  NativeBlock,
  Ring,
  type Poster,
  type PostSubscription,
  type RingWorker,
  type Token,
} from "../ts/index.ts";
import { program } from "./support/child.ts";
import { expectRows, outcomeOf, type Matrix } from "./support/matrix.ts";

const TOKENS: Matrix<Token> = {
  name: "a token that is ref'ed, unref'ed, of a closed ring",
  internal: [],
  states: {
    held: (ring) => ({ held: ring.token }),
    loose: (ring) => ({ held: ring.token.unref() }),
    closed: async (ring) => {
      const { token } = ring;
      await ring.close();
      return { held: token };
    },
  },
  rows: {
    ref: [(token) => token.ref(), "object", "object", "object"],
    unref: [(token) => token.unref(), "object", "object", "object"],
  },
};

const POSTERS: Matrix<Poster> = {
  name: "a poster that is open, to a full mailbox, disposed of, to a closed ring",
  internal: [],
  states: {
    open: (ring) => ({ held: Ring.open(ring.token.unref()) }),
    full: (ring) => {
      const poster = Ring.open(ring.token.unref());
      poster.post(1, 1);
      poster.post(1, 2);
      return { held: poster };
    },
    disposed: (ring) => {
      const poster = Ring.open(ring.token.unref());
      poster[Symbol.dispose]();
      return { held: poster };
    },
    closed: async (ring) => {
      const poster = Ring.open(ring.token.unref());
      await ring.close();
      return { held: poster };
    },
  },
  rows: {
    post: [(poster) => poster.post(1, 1), "undefined", "EAGAIN", "ESHUTDOWN", "ESHUTDOWN"],
    wakeup: [(poster) => poster.wakeup(), "undefined", "undefined", "ESHUTDOWN", "ESHUTDOWN"],
    stop: [(poster) => poster.stop(), "undefined", "undefined", "ESHUTDOWN", "ESHUTDOWN"],
    "Symbol(Symbol.dispose)": [
      (poster) => poster[Symbol.dispose](), "undefined", "undefined", "undefined", "undefined",
    ],
  },
};

const SUBSCRIPTIONS: Matrix<PostSubscription> = {
  name: "a subscription that is active, removed, of a closed ring",
  internal: [],
  states: {
    active: (ring) => ({ held: ring.onPost(1, () => {}) }),
    removed: (ring) => {
      const subscription = ring.onPost([1, 2], () => {});
      subscription.remove();
      return { held: subscription };
    },
    closed: async (ring) => {
      const subscription = ring.onPost(1, () => {});
      await ring.close();
      return { held: subscription };
    },
  },
  rows: {
    remove: [(one) => one.remove(), "undefined", "undefined", "undefined"],
    "Symbol(Symbol.dispose)": [
      (one) => one[Symbol.dispose](), "undefined", "undefined", "undefined",
    ],
  },
};

const BLOCKS: Matrix<NativeBlock> = {
  name: "a block that is held, posted, received, disposed of",
  internal: ["hand"],
  further: ["post it"],
  states: {
    held: () => ({ held: new NativeBlock(8) }),
    posted: (ring) => {
      const block = new NativeBlock(8);
      ring.post(1, block);
      return { held: block };
    },
    received: async (ring) => {
      const received = new Promise<NativeBlock>((resolve) => {
        ring.onPost(1, (block: NativeBlock) => resolve(block));
      });
      ring.post(1, new NativeBlock(8));
      return { held: await received };
    },
    disposed: () => {
      const block = new NativeBlock(8);
      block[Symbol.dispose]();
      return { held: block };
    },
  },
  rows: {
    bytes: [(block) => block.bytes.length, "8", "0", "8", "0"],
    byteLength: [(block) => block.byteLength, "8", "0", "8", "0"],
    "Symbol(Symbol.dispose)": [
      (block) => block[Symbol.dispose](), "undefined", "undefined", "undefined", "undefined",
    ],
    "post it": [(block, ring) => ring.post(2, block), "undefined", "EINVAL", "undefined", "EINVAL"],
  },
};

const deaf = new URL(`file://${program("worker_jobs")}#deaf`);

const WORKERS: Matrix<RingWorker> = {
  name: "a Worker that runs, is asked to stop, has exited, of a closed ring",
  internal: [],
  states: {
    running: (ring) => ({ held: ring.worker(deaf) }),
    stopping: (ring) => {
      const worker = ring.worker(deaf);
      worker.stop();
      return { held: worker };
    },
    exited: async (ring) => {
      const worker = ring.worker(deaf);
      await worker.terminate();
      return { held: worker };
    },
    closed: async (ring) => {
      const worker = ring.worker(deaf);
      await ring.close({ cancel: true });
      await worker.join();
      return { held: worker };
    },
  },
  rows: {
    state: [(worker) => worker.state, "running", "stopping", "exited", "exited"],
    post: [(worker) => worker.post("x"), "undefined", "undefined", "ESHUTDOWN", "ESHUTDOWN"],
    stop: [(worker) => worker.stop(), "undefined", "undefined", "undefined", "undefined"],
    join: [(worker) => worker.join(0), "promise", "promise", "promise", "promise"],
    terminate: [(worker) => worker.terminate(), "promise", "promise", "promise", "promise"],
    "Symbol(Symbol.asyncDispose)": [
      (worker) => worker[Symbol.asyncDispose](), "promise", "promise", "promise", "promise",
    ],
    stats: [(worker) => worker.stats().queue.put, "0", "0", "0", "0"],
    ref: [(worker) => worker.ref(), "undefined", "undefined", "undefined", "undefined"],
    unref: [(worker) => worker.unref(), "undefined", "undefined", "undefined", "undefined"],
  },
};

const ALL = [TOKENS, POSTERS, SUBSCRIPTIONS, BLOCKS, WORKERS] as unknown as Matrix<object>[];
const open = () => new Ring({ posts: 2, onLog: () => {} });

describe.each(ALL)("$name:", ({ internal, further, states, rows }) => {
  test("every public method has a row", async () => {
    await using ring = open();
    const [first] = Object.values(states);
    const thing = await first?.(ring);
    expectRows(thing?.held as object, internal, rows, further);
  });

  test.each(Object.entries(rows))("%s", async (_name, [call, ...cells]) => {
    const outcomes: string[] = [];
    for (const enter of Object.values(states)) {
      await using ring = open();
      const { held } = await enter(ring);
      outcomes.push(outcomeOf(() => call(held, ring)));
    }
    expect(outcomes).toEqual(cells);
  });
});

// An echo in a process to which a seccomp filter refuses system calls, as containers do. Prints
// what the ring says of itself, and what came back.
//
// Arguments: the errno, the backend asked for, and the calls by name. A call may name an argument
// and its value, `io_uring_register@1=22`, or what it exceeds, `io_uring_setup@0>64`.

import { dlopen, FFIType, ptr } from "bun:ffi";
import { Ring } from "../../../ts/index.ts";
import { pair } from "../pair.ts";
import { Random } from "../random.ts";

const NUMBERS: Record<string, Partial<Record<string, number>>> = {
  io_uring_setup: { x64: 425, arm64: 425 },
  io_uring_enter: { x64: 426, arm64: 426 },
  io_uring_register: { x64: 427, arm64: 427 },
  io_setup: { x64: 206, arm64: 0 },
  io_submit: { x64: 209, arm64: 2 },
  timerfd_create: { x64: 283, arm64: 85 },
  preadv2: { x64: 327, arm64: 286 },
};
const LOAD_NUMBER = [0x20, 0, 0, 0] as const;
const ALLOW = [0x06, 0, 0, 0x7fff_0000] as const;
const NO_NEW_PRIVILEGES = 38;
const SECCOMP = 22;
const FILTER = 2;

type Instruction = readonly [code: number, ifTrue: number, ifFalse: number, value: number];

/** The instructions of one rule: a jump to its end is to the next rule. */
function rule(errno: number, text: string): Instruction[] {
  const [, name = "", place, relation, value] = /^(\w+)(?:@(\d)([=>])(\d+))?$/.exec(text) ?? [];
  const number = NUMBERS[name]?.[process.arch];
  if (number === undefined) throw new Error(`unknown system call: ${text}`);
  const give: Instruction = [0x06, 0, 0, 0x0005_0000 | errno];
  if (place === undefined) return [LOAD_NUMBER, [0x15, 0, 1, number], give];
  return [
    LOAD_NUMBER,
    [0x15, 0, 3, number],
    [0x20, 0, 0, 16 + 8 * Number(place)], // the argument's lower half
    [relation === "=" ? 0x15 : 0x25, 0, 1, Number(value)],
    give,
  ];
}

/** seccomp(2): from here on this thread gets `errno` for these calls. */
function refuse(errno: number, rules: readonly string[]): void {
  const program = [...rules.flatMap((text) => rule(errno, text)), ALLOW];
  const filter = new DataView(new ArrayBuffer(8 * program.length));
  program.forEach(([code = 0, ifTrue = 0, ifFalse = 0, value = 0], i) => {
    filter.setUint16(8 * i, code, true);
    filter.setUint8(8 * i + 2, ifTrue);
    filter.setUint8(8 * i + 3, ifFalse);
    filter.setUint32(8 * i + 4, value, true);
  });
  const header = new DataView(new ArrayBuffer(16));
  header.setUint16(0, program.length, true);
  header.setBigUint64(8, BigInt(ptr(filter)), true);
  const { u64, i32 } = FFIType;
  const libc = dlopen("libc.so.6", {
    prctl: { args: [i32, u64, u64, u64, u64], returns: i32 },
  }).symbols;
  if (libc.prctl(NO_NEW_PRIVILEGES, 1, 0, 0, 0) !== 0) throw new Error("no_new_privs is refused");
  if (libc.prctl(SECCOMP, FILTER, ptr(header), 0, 0) !== 0) throw new Error("no seccomp here");
}

const [errno = "1", backend = "auto", ...calls] = process.argv.slice(2);
if (calls.length > 0) refuse(Number(errno), calls);
console.log(JSON.stringify(await echo()));
process.exit(0);

async function echo() {
  await using ring = new Ring({ backend: backend as "auto" });
  const both = await pair({ ring });
  const bytes = new Random(3).bytes(300_000);
  const echoing = (async () => {
    for (let sent = 0; sent < bytes.length; ) {
      const written = both.client.write(bytes.subarray(sent));
      sent += written;
      if (written === 0) await both.atClient.drained.promise;
    }
    return Buffer.compare(await both.atServer.received(bytes.length), bytes) === 0;
  })();
  const echoed = await echoing;
  // Asleep by now: it must be woken, by whatever is there.
  for (let i = 0; i < 3; i++) {
    await ring.timeout(30);
    both.server.write("x");
    await both.atClient.received(i + 1);
  }
  const { reason, backend: got, features } = ring;
  const { entries } = ring.inspect().submission;
  const watched = ring.wakeFd >= 0;
  return { backend: got, reason, echoed, watched, entries, features: [...features] };
}

// An echo in a process to which a seccomp filter refuses system calls, as containers do. Prints
// what the ring says of itself, and what came back.
//
// Arguments: the errno, the backend asked for, and the calls by name.

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

/** seccomp(2): from here on this thread gets `errno` for these calls. */
function refuse(errno: number, names: readonly string[]): void {
  const numbers = names.map((name) => NUMBERS[name]?.[process.arch] ?? -1);
  if (numbers.includes(-1)) throw new Error(`unknown system call among ${names}`);
  const program = [
    LOAD_NUMBER,
    ...numbers.flatMap((number) => [[0x15, 0, 1, number], [0x06, 0, 0, 0x0005_0000 | errno]]),
    ALLOW,
  ] as const;
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
const { reason, backend: got, echoed, watched } = await echo();
console.log(JSON.stringify({ backend: got, reason, echoed, watched }));
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
  return { reason: ring.reason, backend: ring.backend, echoed, watched: ring.wakeFd >= 0 };
}

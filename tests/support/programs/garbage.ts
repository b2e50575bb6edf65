// Calls the native functions with garbage: handles, indices, generations, enums, numbers, and null
// where a pointer may be null. Prints the calls that answered with something else than a negative
// errno, and whether the ring still works afterwards. A crash is seen by whoever started it.

import { ADDRESS_SIZE, ARGUMENTS_WORDS, ERRNO, SYMBOLS } from "../../../ts/abi.ts";
import { Ring } from "../../../ts/index.ts";
import { native } from "../../../ts/native.ts";
import { pair } from "../pair.ts";
import { Random } from "../random.ts";

const WILD = [0, 1, 2, 3, 7, 255, 1023, 1024, 65535, 2 ** 24 - 1, 2 ** 24, 2 ** 31 - 1, 2 ** 31,
  2 ** 32 - 1, -1, -2, 0.5, Number.NaN, Number.POSITIVE_INFINITY, 1e300];

type Call = (...values: unknown[]) => number;
const call = (name: keyof typeof SYMBOLS, values: unknown[]) =>
  (native[name] as unknown as Call)(...values);

const random = new Random(Number(process.argv[2] ?? 1));
const wild = () => WILD[random.between(0, WILD.length - 1)] as number;
const buffer = () => new Uint8Array(new ArrayBuffer(4096));

await using ring = new Ring({ connections: 64, stagingBlocks: 64, receiveBuffers: 8 });
using both = await pair({ ring });
const unexpected: string[] = [];

/** A negative errno that exists. */
function isErrno(outcome: number): boolean {
  return outcome < 0 && Object.values(ERRNO).includes(-outcome as never);
}

function expectErrno(name: keyof typeof SYMBOLS, values: unknown[]): void {
  const outcome = call(name, values);
  // An address: 0 is its refusal.
  if (name === "bu_memory_map" && outcome === 0) return;
  if (!isErrno(outcome)) unexpected.push(`${name}(${values.join(", ")}) = ${outcome}`);
}

// Handles that no ring has, with everything else right or wild.
const PLAIN = Object.keys(SYMBOLS).filter((name) => {
  const [first] = SYMBOLS[name as keyof typeof SYMBOLS].args as readonly string[];
  return first === "u32" && name !== "bu_abi_echo";
}) as (keyof typeof SYMBOLS)[];
for (const name of PLAIN) {
  for (let i = 0; i < 500; i++) {
    const stranger = random.chance(0.5) ? ring.handle + random.between(1, 4096) : wild();
    const handle = stranger >>> 0 === ring.handle ? 0 : stranger;
    const rest = (SYMBOLS[name].args as readonly string[]).slice(1);
    expectErrno(name, [handle, ...rest.map((type) => (type === "ptr" ? buffer() : wild()))]);
  }
}

// The right handle, and connections, listeners and operations that do not exist: generation 0 is
// never given out, and no table has 2^20 slots here.
const SECOND = /^bu_(?:connection_(?!adopt|take)|listener_(?:address|stop)|cancel)/;
const NAMED = PLAIN.filter((name) => SECOND.test(name));
for (const name of NAMED) {
  for (let i = 0; i < 500; i++) {
    const [index, generation] = random.chance(0.5) ? [wild(), 0] : [2 ** 20 + i, wild()];
    const rest = (SYMBOLS[name].args as readonly string[]).slice(3);
    const values = rest.map((type) => (type === "ptr" ? buffer() : wild()));
    expectErrno(name, [ring.handle, index, generation, ...values]);
  }
}

// A connection that exists, and enums that do not.
const { index, generation } = findConnection();
for (const enumerator of [3, 4, 255, 2 ** 31, 2 ** 32 - 1]) {
  if (enumerator > 3) {
    expectErrno("bu_connection_shut", [ring.handle, index, generation, enumerator]);
  }
  expectErrno("bu_connection_option", [ring.handle, index, generation, enumerator, 1]);
  const out = new Uint8Array(ADDRESS_SIZE);
  expectErrno("bu_connection_address", [ring.handle, index, generation, enumerator, out]);
}
expectErrno("bu_connection_write", [ring.handle, index, generation, null, 10]);

// A connection of its own, and sends of random arguments: an errno, or an operation that ends.
{
  using other = await pair({ ring });
  const at = ring.connections.indexOf(other.client as never);
  const of = ring.connections[at]?.generation ?? 0;
  for (let i = 0; i < 2000; i++) {
    const words = ring.memory.arguments.integers;
    for (let word = 0; word < words.length; word++) words[word] = random.between(0, 2 ** 31);
    words[ARGUMENTS_WORDS.extra] = random.between(0, random.chance(0.5) ? 2000 : 4);
    words[ARGUMENTS_WORDS.options] = random.between(0, 31);
    const input = random.bytes(random.between(0, 200));
    const outcome = call("bu_connection_send", [ring.handle, at, of, input, input.length]);
    if (outcome < 0 && !isErrno(outcome)) unexpected.push(`bu_connection_send = ${outcome}`);
    if (outcome >= 0) call("bu_cancel", [ring.handle, outcome, ring.claimedGeneration()]);
    if (random.chance(0.1)) ring.submit();
  }
}
for (const id of [8, 9, 65535, 2 ** 31, 2 ** 32 - 1]) {
  expectErrno("bu_buffer_lend", [ring.handle, id]);
}
expectErrno("bu_ring_turn", [ring.handle, 2 ** 31, 2 ** 32 - 1]);
call("bu_buffer_released", [null, null]);
call("bu_slab_released", [null, null]);

// Addresses and options of random bytes: an errno, or something that can be closed again.
let opened = 0;
for (let i = 0; i < 3000; i++) {
  const record = random.bytes(ADDRESS_SIZE);
  if (random.chance(0.7)) record.writeUInt32LE(random.between(0, 3), 0);
  if (random.chance(0.5)) record.writeUInt32LE(random.between(0, 70_000), 4);
  if (random.chance(0.7)) record.writeUInt32LE(random.between(0, 130), 8);
  // A name of random bytes could be a path in this folder: abstract names leave nothing behind.
  record[12] = random.chance(0.5) ? 0 : 0x3a;
  const local = random.chance(0.5) ? null : random.bytes(ADDRESS_SIZE);
  const [name, values] = random.chance(0.5)
    ? (["bu_connect", [ring.handle, record, local, wild(), wild()]] as const)
    : (["bu_listener_address", [ring.handle, wild(), 0, record]] as const);
  const outcome = call(name, [...values]);
  if (outcome >= 0) opened++;
  else if (!isErrno(outcome)) unexpected.push(`${name} = ${outcome}`);
}
for (let i = 0; i < 300; i++) {
  const options = new Uint8Array(new ArrayBuffer(4096));
  options.set(random.bytes(48));
  if (random.chance(0.5)) options.fill(0, 36, 44); // backend and features as they should be
  expectErrno("bu_ring_open", [options, buffer()]);
}

function findConnection(): { index: number; generation: number } {
  const at = ring.connections.findIndex((receiver) => receiver !== undefined);
  return { index: at, generation: ring.connections[at]?.generation ?? 0 };
}

both.client.write("still here");
const text = (await both.atServer.received(10)).toString();
console.log(JSON.stringify({ unexpected: unexpected.slice(0, 10), opened, text }));
process.exit(0);

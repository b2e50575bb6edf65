// The boundary: what ts/abi.ts says against what the built library does. Symbols are read from the
// library's file, fields are carried through real memory in both directions.

import { dlopen, ptr } from "bun:ffi";
import { describe, expect, test } from "bun:test";
import { fileURLToPath } from "node:url";
import { ABI_HASH, ERRNO, ERRNO_NAMES, LAYOUTS, SYMBOLS } from "../ts/abi.ts";
import { definedSymbols } from "./support/elf.ts";

const inTree = (path: string) => fileURLToPath(new URL(`../${path}`, import.meta.url));
const LIBRARY = inTree("zig-out/lib/libbun_uring.so");
const { symbols } = dlopen(LIBRARY, SYMBOLS);

const FROM_RECORD = 0;
const TO_RECORD = 1;

interface Scalar {
  name: string;
  type: string;
  offset: number;
}

/** A record's numbers in the order of its fields; a byte array is one number per byte. */
function scalarsOf(types: Record<string, string>, offsets: Record<string, number>): Scalar[] {
  return Object.entries(types).flatMap(([name, type]) => {
    const offset = offsets[name] ?? Number.NaN;
    const length = /^u8\[(\d+)\]$/.exec(type)?.[1];
    if (length === undefined) return [{ name, type, offset }];
    return Array.from({ length: Number(length) }, (_, index) => {
      return { name: `${name}[${index}]`, type: "u8", offset: offset + index };
    });
  });
}

/** Different for every position, with all of the type's bytes in use. */
function sampleOf(type: string, position: number): number {
  if (type === "u8") return (position * 7 + 1) & 0xff;
  if (type === "u32") return 0xf0e0_d000 + position;
  if (type === "i32") return -0x7060_5000 - position;
  return Math.PI * 2 ** 40 + position;
}

function write(view: DataView, { type, offset }: Scalar, value: number): void {
  if (type === "u8") view.setUint8(offset, value);
  else if (type === "u32") view.setUint32(offset, value, true);
  else if (type === "i32") view.setInt32(offset, value, true);
  else view.setFloat64(offset, value, true);
}

function read(view: DataView, { type, offset }: Scalar): number {
  if (type === "u8") return view.getUint8(offset);
  if (type === "u32") return view.getUint32(offset, true);
  if (type === "i32") return view.getInt32(offset, true);
  return view.getFloat64(offset, true);
}

describe("the boundary", () => {
  test("the library exports the symbols of the table and nothing else", async () => {
    const exported = definedSymbols(await Bun.file(LIBRARY).arrayBuffer());
    expect(exported.sort()).toEqual(Object.keys(SYMBOLS).sort());
  });

  test("the library was built from the layouts in ts/abi.ts", () => {
    expect(symbols.bu_abi_hash()).toBe(ABI_HASH);
  });

  test("ts/abi.ts is what the last build generated", async () => {
    const committed = await Bun.file(inTree("ts/abi.ts")).text();
    expect(committed).toBe(await Bun.file(inTree("zig-out/abi.ts")).text());
  });

  test("errno names lead back to their numbers", () => {
    expect(ERRNO_NAMES[11]).toBe("EAGAIN");
    expect(Object.keys(ERRNO_NAMES)).toHaveLength(Object.keys(ERRNO).length);
  });
});

describe.each(LAYOUTS.map((layout, kind) => ({ ...layout, kind })))("$name", (layout) => {
  const scalars = scalarsOf(layout.types, layout.offsets);
  const samples = scalars.map(({ type }, position) => sampleOf(type, position));

  test("native code reads every field that JavaScript wrote", () => {
    const record = new DataView(new ArrayBuffer(layout.size));
    scalars.forEach((scalar, position) => write(record, scalar, samples[position] ?? 0));
    const values = new Float64Array(scalars.length);
    const count = symbols.bu_abi_echo(layout.kind, FROM_RECORD, ptr(record), ptr(values));
    expect(count).toBe(scalars.length);
    expect([...values]).toEqual(samples);
  });

  test("JavaScript reads every field that native code wrote", () => {
    const record = new DataView(new ArrayBuffer(layout.size));
    const values = Float64Array.from(samples);
    const count = symbols.bu_abi_echo(layout.kind, TO_RECORD, ptr(record), ptr(values));
    expect(count).toBe(scalars.length);
    expect(scalars.map((scalar) => read(record, scalar))).toEqual(samples);
  });

  test("a field's word is its offset in units of its own width", () => {
    const words: Record<string, number> = layout.words;
    for (const { name, type, offset } of scalars) {
      if (type !== "u8") expect(words[name]).toBe(offset / (type === "f64" ? 8 : 4));
    }
  });

  test("the echo notices an offset that is wrong", () => {
    const record = new DataView(new ArrayBuffer(layout.size));
    const [first, second] = scalars;
    if (!first || !second) throw new Error("a record with fewer than two fields");
    const swapped = [{ ...first, offset: second.offset }, { ...second, offset: first.offset }];
    swapped.forEach((scalar, position) => write(record, scalar, samples[position] ?? 0));
    const values = new Float64Array(scalars.length);
    symbols.bu_abi_echo(layout.kind, FROM_RECORD, ptr(record), ptr(values));
    expect([...values.subarray(0, 2)]).not.toEqual(samples.slice(0, 2));
  });
});

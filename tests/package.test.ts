// The package as its users meet it: imported by its name, and, where the library is missing or does
// not fit, one line that says what to run.

import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { ABI_HASH } from "../ts/abi.ts";
import * as named from "../ts/index.ts";
import { program, run } from "./support/child.ts";

let folder: string;
beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), "bun-uring-"));
});
afterAll(() => rmSync(folder, { recursive: true }));

const library = fileURLToPath(new URL("../zig-out/lib/libbun_uring.so", import.meta.url));

/** What importing the package with this library says. */
async function importWith(path: string) {
  const { code, stderr } = await run(program("by_name"), { env: { BUN_URING_LIBRARY: path } });
  const lines = stderr.split("\n").filter((line) => line.startsWith("UringError: "));
  return { code, lines };
}

describe("the package", () => {
  test("is imported by its name, with the same names as its source", async () => {
    const { code, stdout, stderr } = await run(program("by_name"));
    expect([code, stderr]).toEqual([0, ""]);
    const expected = Object.keys(named).sort();
    expect(JSON.parse(stdout)).toEqual({ names: expected, echoed: "by name" });
    expect(expected).toEqual([
      "BufferPool",
      "NativeBlock",
      "Operation",
      "PooledBuffer",
      "RegisteredBuffer",
      "RegisteredFile",
      "Ring",
      "UringError",
      "connect",
      "listen",
      "listenFds",
      "prepare",
      "proxy",
      "serve",
      "udpSocket",
    ]);
  });

  test("serves a library named by BUN_URING_LIBRARY", async () => {
    const copy = join(folder, "copy.so");
    writeFileSync(copy, readFileSync(library));
    expect(await importWith(copy)).toEqual({ code: 0, lines: [] });
  });

  test("in an unbuilt tree says in one line what to run", async () => {
    const { code, lines } = await importWith(join(folder, "missing.so"));
    expect(code).toBe(1);
    expect(lines).toHaveLength(1);
    expect(lines[0]).toContain("ENOENT");
    expect(lines[0]).toContain("npm run build");
  });

  test("with a library of another layout says in one line what to run", async () => {
    const bytes = readFileSync(library);
    const hash = Buffer.alloc(4);
    hash.writeUInt32LE(ABI_HASH);
    let changed = 0;
    for (let at = bytes.indexOf(hash); at >= 0; at = bytes.indexOf(hash, at + 1), changed++) {
      bytes.writeUInt32LE(0x0badf00d, at);
    }
    expect(changed).toBeGreaterThan(0);
    const other = join(folder, "other.so");
    writeFileSync(other, bytes);
    const { code, lines } = await importWith(other);
    expect(code).toBe(1);
    expect(lines).toHaveLength(1);
    expect(lines[0]).toContain("badf00d");
    expect(lines[0]).toContain(ABI_HASH.toString(16));
    expect(lines[0]).toContain("npm run build");
  });

  test("with a file that is no library names it", async () => {
    const text = join(folder, "text.so");
    writeFileSync(text, "not a library");
    const { code, stderr } = await run(program("by_name"), { env: { BUN_URING_LIBRARY: text } });
    expect(code).toBe(1);
    expect(stderr).toContain(text);
  });
});

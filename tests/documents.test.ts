// The documents keep what they say: programs run, examples work, and the tests they name exist.
//
// docs/lessons.md is checked by lessons.test.ts, beside what it is about.

import { describe, expect, test } from "bun:test";
import { existsSync, readFileSync, statSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { OperationKind } from "../ts/abi.ts";
import { run } from "./support/child.ts";
import { folder } from "./support/folder.ts";
import { Random } from "./support/random.ts";

const root = join(import.meta.dir, "..");
const read = (path: string) => readFileSync(join(root, path), "utf8");

/** Programs in a document, each with the line that it begins at. */
function programsOf(path: string): [line: number, text: string][] {
  const text = read(path);
  return [...text.matchAll(/^```ts\n(.*?)^```/gms)].map((match) => {
    return [text.slice(0, match.index).split("\n").length, match[1] ?? ""];
  });
}

const DOCUMENTS = ["docs/operations.md", "docs/sending.md", "docs/posts.md", "docs/serve.md"];

describe.each(DOCUMENTS)("the programs of %s", (document) => {
  test.each(programsOf(document))("in line %d run", async (line, text) => {
    const program = text.replace('"bun-uring"', JSON.stringify(join(root, "ts/index.ts")));
    expect(program).not.toBe(text);
    const path = join(folder, `program-${line}.ts`);
    writeFileSync(path, program);
    const { code, stderr } = await run(path);
    expect([code, stderr]).toEqual([0, ""]);
  });
});

describe("examples/copy-file.ts", () => {
  const example = join(root, "examples/copy-file.ts");

  test.each([0, 1, 256 * 1024, 5_000_001])("copies %d bytes as they are", async (size) => {
    const [from, to] = [join(folder, `from-${size}`), join(folder, `to-${size}`)];
    const bytes = new Random(size).bytes(size);
    writeFileSync(from, bytes, { mode: 0o640 });
    const { code, stdout, stderr } = await run(example, { arguments: [from, to] });
    expect([code, stdout, stderr]).toEqual([0, `${size} bytes\n`, ""]);
    expect(Buffer.compare(readFileSync(to), bytes)).toBe(0);
    expect(statSync(to).mode & 0o777).toBe(0o640);
  });

  test("says what is wrong", async () => {
    const missing = await run(example, { arguments: ["nowhere", join(folder, "x")] });
    expect([missing.code, missing.stderr.includes("ENOENT")]).toEqual([1, true]);
    expect((await run(example)).code).toBe(2);
  });
});

describe("examples/workers.ts", () => {
  const example = join(root, "examples/workers.ts");

  test("writes every line of four Workers once, each Worker's in order", async () => {
    const path = join(folder, "workers.log");
    const { code, stdout, stderr } = await run(example, { arguments: [path] });
    const text = readFileSync(path, "utf8");
    expect([code, stdout, stderr]).toEqual([0, `1000 lines, ${text.length} bytes\n`, ""]);
    const lines = text.trimEnd().split("\n");
    for (const worker of [1, 2, 3, 4]) {
      const own = lines.filter((line) => line.startsWith(`Worker ${worker},`));
      const expected = Array.from({ length: 250 }, (_, i) => `Worker ${worker}, line ${i + 1}`);
      expect(own).toEqual(expected);
    }
  });

  test("says what is wrong", async () => {
    expect((await run(example)).code).toBe(2);
  });
});

describe("docs/requirements.md", () => {
  const rows = read("docs/requirements.md").split("\n").filter((line) => /^\| \d/.test(line));

  test("has every requirement from 1.1 to 11.4, in order", () => {
    const counts = [4, 4, 4, 4, 4, 4, 4, 4, 4, 4, 4];
    const all = counts.flatMap((count, at) => {
      return Array.from({ length: count }, (_, place) => `${at + 1}.${place + 1}`);
    });
    expect(rows.map((row) => row.split("|")[1]?.trim())).toEqual(all);
  });

  test("names tests, or what is measured, and all of them exist", () => {
    for (const row of rows) {
      const named = [...row.matchAll(/`([\w/.-]+)` "([^"]+)"/g)];
      const files = [...row.matchAll(/`((?:bench|tests|examples|docs|zig|ts)\/[\w/.-]+)`/g)];
      expect([row, named.length + files.length > 0]).toEqual([row, true]);
      for (const [, path = ""] of files) {
        expect([path, existsSync(join(root, path))]).toEqual([path, true]);
      }
      for (const [, path = "", name = ""] of named) {
        expect([path, name, read(path).includes(name)]).toEqual([path, name, true]);
      }
    }
  });
});

test("docs/kernels.md names each operation, and each errno that it is made to fail with", () => {
  const source = read("zig/kernel/failures.zig");
  const written = source.matchAll(/const (\w+) = numbers\(\.\{(.*?)\}\)/gs);
  const lists = new Map([...written].map(([, name, list = ""]) => {
    return [name, [...list.matchAll(/\.(\w+)/g)].map(([, errno]) => `E${errno}`)];
  }));
  const rows = [...read("docs/kernels.md").matchAll(/^\| ([a-z_, ]+) \| (E[A-Z0-9, ]+) \|$/gm)];
  const named = rows.flatMap(([, names = "", errnos = ""]) => {
    const kinds = names.split(", ");
    // The list is called by the first of those that share it.
    expect([names, errnos.split(", ")]).toEqual([names, lists.get(kinds[0]) ?? []]);
    return kinds;
  });
  expect(["nop", ...named].sort()).toEqual(Object.keys(OperationKind).sort());
});

// What must not compile: the files of tests/types, compiled by the project's own compiler. Each
// expectation there has to be met at the next line, and no other line may fail.

import { expect, setDefaultTimeout, test } from "bun:test";
import { readdirSync, readFileSync } from "node:fs";
import { fileURLToPath } from "node:url";

setDefaultTimeout(60_000);

const path = (name: string) => fileURLToPath(new URL(name, import.meta.url));

interface Complaint {
  file: string;
  line: number;
  code: string;
  text: string;
}

/** `types/misuse.ts(12,30): error TS2339: Property …`, with indented lines that go on. */
function complaintsOf(output: string): Complaint[] {
  const complaints: Complaint[] = [];
  for (const line of output.split("\n")) {
    const head = /types\/(\w+\.ts)\((\d+),\d+\): error (TS\d+): (.*)$/.exec(line);
    if (head !== null) {
      const [, file = "", at, code = "", text = ""] = head;
      complaints.push({ file, line: Number(at), code, text });
    } else if (/^\s/.test(line) && complaints.length > 0) {
      (complaints.at(-1) as Complaint).text += `\n${line}`;
    }
  }
  return complaints;
}

test("every misuse is refused with its code and text, every twin compiles", async () => {
  const compiler = path("../node_modules/typescript/bin/tsc");
  const child = Bun.spawn([process.execPath, compiler, "--project", path("types")], {
    stdout: "pipe",
    stderr: "pipe",
    env: { ...process.env, BUN_BE_BUN: "1" },
  });
  const output = await child.stdout.text();
  const complaints = complaintsOf(output);
  const files = readdirSync(path("types")).filter((name) => name.endsWith(".ts")).toSorted();
  const expected = files.flatMap((file) => {
    const lines = readFileSync(path(`types/${file}`), "utf8").split("\n");
    const found = lines.flatMap((line, index) => {
      const [, code = "", text = ""] = /^ *\/\/ expect (TS\d+): (.*)$/.exec(line) ?? [];
      return code === "" ? [] : [{ file, line: index + 2, code, text }];
    });
    expect([file, found.length > 8]).toEqual([file, true]);
    return found;
  });
  // The whole output: an error in another file must not be mistaken for one of these.
  expect(output.split("\n").filter((line) => /^\S.*error TS/.test(line))).toHaveLength(
    expected.length,
  );
  expect(complaints.map(({ file, line, code }) => [file, line, code])).toEqual(
    expected.map(({ file, line, code }) => [file, line, code]),
  );
  for (const [index, { text }] of expected.entries()) {
    expect(complaints[index]?.text).toContain(text);
  }
});

// The limits of the house, kept by a machine. Every rule is shown to refuse a bad snippet, so a
// rule that lets everything through fails here as well.

import { describe, expect, test } from "bun:test";
import { RULES, TREE_RULES } from "./support/tidy_rules.ts";
import { codeOf, functionsOf, ROOT, sourceFiles } from "./support/source.ts";

const files = sourceFiles();
const paths = new Set(files.map(({ path }) => path));

describe.each(RULES)("$name", ({ applies, check, bad, good }) => {
  test("holds in the whole tree", () => {
    const chosen = files.filter(({ path }) => applies(path));
    expect(chosen.flatMap((file) => check(file, paths))).toEqual([]);
  });

  test("refuses the bad snippets and lets the good ones pass", () => {
    for (const [path, text] of Object.entries(bad)) {
      expect([path, applies(path)]).toEqual([path, true]);
      expect([path, check({ path, text }, paths).length > 0]).toEqual([path, true]);
    }
    for (const [path, text] of Object.entries(good ?? {})) {
      expect(applies(path) ? check({ path, text }, paths) : []).toEqual([]);
    }
  });
});

describe.each(TREE_RULES)("$name", ({ check, bad }) => {
  test("holds in the whole tree", () => {
    expect(check(files, ROOT)).toEqual([]);
  });

  test("refuses the bad tree", () => {
    expect(check(bad, ROOT)).not.toEqual([]);
  });
});

describe("reading source files", () => {
  test("the walk finds both halves and nothing that git ignores", () => {
    expect(paths).toContain("zig/exports.zig");
    expect(paths).toContain("ts/abi.ts");
    expect([...paths].filter((path) => /node_modules|zig-out/.test(path))).toEqual([]);
  });

  test("comments, texts and regular expressions are not code", () => {
    const text = "const a = \"x{\"; // y{\nreturn /z\"{/g.test(`w{${call({ v })}`);";
    expect(codeOf({ path: "a.ts", text })).toBe(
      "const a =     ;      \nreturn       .test(     call({ v })  );",
    );
    expect(codeOf({ path: "a.zig", text: "const a = '\"'; // b\nc(\\\\d\n);" })).toBe(
      "const a =    ;     \nc(   \n);",
    );
  });

  test("functions are measured from head to closing brace", () => {
    const zig = "pub fn one(\n    a: u32,\n) void {\n    if (a) {\n    }\n}\nfn two() type {\n}\n";
    expect(functionsOf({ path: "a.zig", text: zig })).toEqual([{ name: "one", line: 1, lines: 6 }]);
    const script = [
      "class A {",
      "  async read(at: number): Promise<void> {",
      "    if (at) {",
      "    }",
      "  }",
      "  #settle(",
      "    at: number,",
      "  ): void {",
      "  }",
      "}",
      "const wait = () => {",
      "};",
      "test(\"a\", () => {",
      "});",
    ].join("\n");
    expect(functionsOf({ path: "a.ts", text: script })).toEqual([
      { name: "read", line: 2, lines: 4 },
      { name: "#settle", line: 6, lines: 4 },
      { name: "wait", line: 11, lines: 2 },
      { name: "test", line: 13, lines: 2 },
    ]);
  });
});

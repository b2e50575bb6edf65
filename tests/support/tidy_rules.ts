// The tidy rules: what a file may hold, who may import whom, where things stand. Each has snippets
// that it must refuse and, where the line is fine, some that it must not.

import { existsSync, readdirSync } from "node:fs";
import { dirname, join, normalize } from "node:path/posix";
import { codeOf, functionsOf, type SourceFile } from "./source.ts";
import { SCRIPT_LAYERS, ZIG_LAYERS } from "./tidy_layers.ts";

/** Path to text. */
type Snippets = Record<string, string>;

interface Rule {
  name: string;
  applies(path: string): boolean;
  /** One sentence per breach, with path and line. */
  check(file: SourceFile, paths: ReadonlySet<string>): string[];
  bad: Snippets;
  good?: Snippets;
}

interface TreeRule {
  name: string;
  check(files: SourceFile[], root: string): string[];
  bad: SourceFile[];
}

const FILE_LINES_MAX = 500;
const FUNCTION_LINES_MAX = 70;
const COLUMNS_MAX = 100;

const isZig = (path: string) => path.endsWith(".zig");
const isScript = (path: string) => /\.(ts|mjs)$/.test(path) && path !== "ts/abi.ts";
const isSource = (path: string) => isZig(path) || isScript(path);
const isMarkdown = (path: string) => path.endsWith(".md");
const isTest = (path: string) => path.startsWith("tests/");

/** A breach for each line that matches. The text is the code, or everything where `raw` is set. */
function refuse(pattern: RegExp, sentence: string, { raw = false } = {}): Rule["check"] {
  return (file) => {
    const lines = (raw ? file.text : codeOf(file)).split("\n");
    return lines.flatMap((line, index) => {
      return pattern.test(line) ? [`${file.path}:${index + 1}: ${sentence}`] : [];
    });
  };
}

/** The same for what may stretch over lines; the pattern must be global. */
function refuseAcrossLines(pattern: RegExp, sentence: string): Rule["check"] {
  return (file) => {
    const code = codeOf(file);
    return [...code.matchAll(pattern)].map(({ index }) => {
      return `${file.path}:${code.slice(0, index).split("\n").length}: ${sentence}`;
    });
  };
}

const repeat = (line: string, count: number) => `${line}\n`.repeat(count);

// In two pieces, so that this file does not break the rules that it states.
const UNFINISHED = new RegExp(`\\b(?:${["TO" + "DO", "FIX" + "ME", "X" + "XX"].join("|")})\\b`);
const PLACES = ["wo" + "rk", "fa" + "rm", "ho" + "me"];
const WORKPLACE = new RegExp(`(?<![\\w.)}])/(?:${PLACES.join("|")})/`);
const TEMPORARY = new RegExp(`(?<![\\w.])/${"t" + "mp"}/`);

const ZIG_HEADER = /^\/\/! .+\n\/\/!/;
const SCRIPT_HEADER = /^(?:#!.*\n)?(?:\/\/ .+\n\/\/|\/\*\*?[^/]*\n \*)/;
const EMPTY_CATCH = /(?<!\.)\bcatch\s*(?:\([^)]*\)\s*)?\{\s*\}/g;
const EMPTY_HANDLER = /\.catch\((?:\(\w*\)|\w+) => (?:\{\s*\}|undefined|null)\)/;

export const RULES: Rule[] = [
  {
    name: `a file has at most ${FILE_LINES_MAX} lines`,
    applies: isSource,
    check: ({ path, text }) => {
      const lines = text.trimEnd().split("\n").length;
      return lines > FILE_LINES_MAX ? [`${path}: ${lines} lines`] : [];
    },
    bad: { "zig/a.zig": repeat("//", FILE_LINES_MAX + 1) },
    good: { "zig/a.zig": repeat("//", FILE_LINES_MAX) },
  },
  {
    name: `a function has at most ${FUNCTION_LINES_MAX} lines`,
    applies: isSource,
    check: (file) =>
      functionsOf(file)
        .filter(({ lines }) => lines > FUNCTION_LINES_MAX)
        .map(({ name, line, lines }) => `${file.path}:${line}: ${name} has ${lines} lines`),
    bad: {
      "zig/a.zig": `fn a() void {\n${repeat("    b();", FUNCTION_LINES_MAX - 1)}}\n`,
      "ts/a.ts": `function a() {\n${repeat("  b();", FUNCTION_LINES_MAX - 1)}}\n`,
    },
    good: { "ts/a.ts": `function a() {\n${repeat("  b();", FUNCTION_LINES_MAX - 2)}}\n` },
  },
  {
    name: `a line has at most ${COLUMNS_MAX} columns`,
    applies: isSource,
    check: ({ path, text }) =>
      text.split("\n").flatMap((line, index) => {
        const columns = [...line].length;
        return columns > COLUMNS_MAX ? [`${path}:${index + 1}: ${columns} columns`] : [];
      }),
    bad: { "ts/a.ts": "x".repeat(COLUMNS_MAX + 1) },
    good: { "ts/a.ts": "→".repeat(COLUMNS_MAX) },
  },
  {
    name: "a file opens with a comment of two lines or more that says what it owns",
    applies: isSource,
    check: ({ path, text }) => {
      const header = isZig(path) ? ZIG_HEADER : SCRIPT_HEADER;
      return header.test(text) ? [] : [`${path}:1: no header comment`];
    },
    bad: { "zig/a.zig": "//! One line.\nconst a = 1;", "ts/a.ts": "// One line.\nimport b;" },
    good: { "ts/a.ts": "#!/usr/bin/env bun\n// One.\n// Two.\n", "ts/b.ts": "/**\n * One.\n */" },
  },
  {
    name: "std.os.linux is named in zig/kernel/ only",
    applies: (path) => isZig(path) && path.startsWith("zig/") && !path.startsWith("zig/kernel/"),
    check: refuse(/\bos\.linux\b/, "system calls belong to the kernels"),
    bad: { "zig/a.zig": "const linux = std.os.linux;" },
    good: { "zig/kernel/a.zig": "const linux = std.os.linux;", "zig/a.zig": "// std.os.linux" },
  },
  {
    name: "C symbols are exported in zig/exports.zig and its parts only",
    applies: (path) => isZig(path) && /^zig\/(?!exports(?:_\w+)?\.zig$)/.test(path),
    check: refuse(/\bexport (?:fn|const|var)\b|@export\b/, "every C symbol is in exports.zig"),
    bad: { "zig/a.zig": "pub export fn bu_a() void {}", "zig/b.zig": "@export(&b, .{});" },
  },
  {
    name: "dlopen is called in ts/native.ts only",
    applies: (path) => /^(?:ts|examples)\//.test(path) && isScript(path) && path !== "ts/native.ts",
    check: refuse(/\bdlopen\b/, "the library is opened in native.ts"),
    bad: { "ts/a.ts": "import { dlopen } from \"bun:ffi\";" },
    good: { "ts/native.ts": "dlopen(path, SYMBOLS);" },
  },
  {
    name: "ptr() and toArrayBuffer() are called in ts/memory.ts only",
    applies: (path) =>
      /^(?:ts|examples|bench)\//.test(path) && isScript(path) &&
      path !== "ts/memory.ts" && !path.startsWith("bench/micro/"),
    check: refuse(/\b(?:toArrayBuffer|ptr)\(/, "addresses are made and read in memory.ts"),
    bad: { "ts/a.ts": "const address = ptr(bytes);", "ts/b.ts": "toArrayBuffer(address, 0, 8);" },
    good: { "ts/memory.ts": "ptr(bytes);", "ts/a.ts": "const { ptr } = symbols.bu_a;" },
  },
  {
    name: "ts/ has no any type and no enum",
    applies: (path) => path.startsWith("ts/") && isScript(path),
    check: refuse(
      /[:<|&,] *any\b(?! *[:(])|\bas any\b|^\s*(?:export |declare |const )*enum\b/,
      "unknown instead of any, a const object instead of enum",
    ),
    bad: {
      "ts/a.ts": "let a: any;",
      "ts/b.ts": "const b = c as any;",
      "ts/c.ts": "type C = Promise<any>;",
      "ts/d.ts": "export const enum D {}",
      "ts/e.ts": "export enum E {}",
    },
    good: { "ts/a.ts": "// any\nif (any) wait();\nPromise.any(all);" },
  },
  {
    name: "nothing is left unfinished",
    applies: (path) => isSource(path) || isMarkdown(path),
    check: refuse(UNFINISHED, "finish it, or say under \"not done\" why not", { raw: true }),
    bad: { "ts/a.ts": `// ${"TO" + "DO"}: later`, "docs/a.md": `${"FIX" + "ME"}` },
  },
  {
    name: "a test awaits conditions and never sleeps",
    applies: (path) => isTest(path) && isScript(path),
    check: refuse(/\bsetTimeout\(|\bBun\.sleep/, "await the condition"),
    bad: { "tests/a.test.ts": "setTimeout(done, 10);", "tests/b.test.ts": "await Bun.sleep(1);" },
    good: { "tests/a.test.ts": "setDefaultTimeout(1);" },
  },
  {
    name: "no test is skipped, alone or planned",
    applies: (path) => isScript(path) && !path.startsWith("ts/"),
    check: refuse(/\b(?:test|it|describe)(?:\.\w+)*\.(?:skip|only|todo|failing)\b/, "run it"),
    bad: {
      "tests/a.test.ts": "test.skip (name, run);",
      "tests/b.test.ts": "describe.only (name);",
    },
    good: { "tests/a.test.ts": "test.skipIf(!uring)(name, run);" },
  },
  {
    name: "no error is caught and forgotten",
    applies: isSource,
    check: refuseAcrossLines(EMPTY_CATCH, "handle it, or let it through"),
    bad: {
      "ts/a.ts": "try {\n  a();\n} catch {\n  // no matter\n}",
      "zig/a.zig": "a() catch {};",
    },
    good: { "ts/a.ts": "try {\n} catch (error) {\n  report(error);\n}" },
  },
  {
    name: "a rejection is left alone only below a comment that says why",
    applies: isScript,
    check: (file) => {
      const lines = file.text.split("\n");
      return codeOf(file).split("\n").flatMap((line, index) => {
        const hasReason = /^\s*\/\//.test(lines[index - 1] ?? "");
        return EMPTY_HANDLER.test(line) && !hasReason ? [`${file.path}:${index + 1}: say why`] : [];
      });
    },
    bad: { "ts/a.ts": "a();\nb().catch(() => {});", "ts/b.ts": "b().catch((error) => undefined);" },
    good: { "ts/a.ts": "// The handler has it.\nb().catch(() => {});\nc().catch(report);" },
  },
  {
    name: "links in documents lead to files",
    applies: isMarkdown,
    check: ({ path, text }, paths) =>
      [...text.matchAll(/\]\(([^)#\s]+)(?:#[^)\s]*)?\)/g)].flatMap(([, link = ""]) => {
        if (/^[a-z]+:/.test(link)) return [];
        const target = normalize(join(dirname(path), link)).replace(/\/$/, "");
        const found = paths.has(target) || existsSync(target) ||
          [...paths].some((known) => known.startsWith(`${target}/`));
        return found ? [] : [`${path}: ${link} does not exist`];
      }),
    bad: { "docs/a.md": "[b](nowhere.md)", "README.md": "[b](docs/nowhere.md#c)" },
    good: { "docs/a.md": "[b](../zig/abi.zig#x) [c](https://example.com) [d](#e) [f](../zig/)" },
  },
  {
    name: "nothing names the machine that it was written on",
    applies: () => true,
    check: refuse(WORKPLACE, "a path of one machine", { raw: true }),
    bad: { "docs/a.md": `see /${"wo" + "rk"}/b`, "ts/a.ts": `open("/${"ho" + "me"}/me")` },
    good: { "docs/a.md": "bench/work/ and https://example.com/work/" },
  },
  {
    name: "documents do not name temporary files",
    applies: isMarkdown,
    check: refuse(TEMPORARY, "a path of one machine", { raw: true }),
    bad: { "docs/a.md": `cat /${"t" + "mp"}/log` },
  },
  {
    name: "the lock file names versions and no hosts",
    applies: (path) => path === "package-lock.json",
    check: refuse(/"resolved"/, "set npm's omit-lockfile-registry-resolved", { raw: true }),
    bad: { "package-lock.json": "\"resolved\": \"https://example.com/a.tgz\"" },
  },
  {
    name: "Zig modules are imported downwards; upwards only single types",
    applies: (path) => isZig(path) && path.startsWith("zig/"),
    check: (file) => upwardImports(file, ZIG_LAYERS, /@import\("([^"]+\.zig)"\)(\.[A-Z]\w*)?/g),
    bad: {
      "zig/slots.zig": "const engine = @import(\"engine.zig\");",
      "zig/kernel/uring.zig": "const start = @import(\"../engine.zig\").start;",
      "zig/unheard_of.zig": "",
    },
    good: { "zig/slots.zig": "const Engine = @import(\"engine.zig\").Engine;" },
  },
  {
    name: "TypeScript modules are imported downwards; upwards only types",
    applies: (path) => path.startsWith("ts/") && path.endsWith(".ts"),
    check: (file) => upwardImports(file, SCRIPT_LAYERS, SCRIPT_IMPORT),
    bad: {
      "ts/abi.ts": "import { a } from \"./ring.ts\";",
      "ts/memory.ts": "export * from \"./index.ts\";",
      "ts/errors.ts": "import {\n  type A,\n  b,\n} from \"./socket.ts\";",
      "ts/unheard_of.ts": "",
    },
    good: { "ts/memory.ts": "import type { Ring } from \"./ring.ts\";" },
  },
];

/** The path, and the word `type` where only types are taken. */
const SCRIPT_IMPORT = /^(?:import|export) (?!type)[^;"]*?"(\.[^"]+)"()|^(?:import|export) type/gm;

/** Layers are listed from the bottom; files of one layer may import each other. */
function upwardImports(file: SourceFile, layers: RegExp[], pattern: RegExp): string[] {
  const layerOf = (path: string) => layers.findIndex((layer) => layer.test(path));
  const own = layerOf(file.path);
  if (own < 0) return [`${file.path}: give it a layer in tests/support/tidy_layers.ts`];
  return [...file.text.matchAll(pattern)].flatMap(([, link, onlyType]) => {
    if (link === undefined || onlyType) return [];
    const target = normalize(join(dirname(file.path), link));
    return layerOf(target) > own ? [`${file.path}: imports ${target}, which is above it`] : [];
  });
}

const HOUSE = new Set([
  "package.json", "package-lock.json", "build.zig", "zig", "ts", "tests", "bench", "examples",
  "docs", "bunfig.toml", "tsconfig.json", "README.md", "CONTRIBUTING.md", "CHANGELOG.md", "LICENSE",
]);
const IGNORED = /^\.|^node_modules$|^zig-out$|\.log$/;

export const TREE_RULES: TreeRule[] = [
  {
    name: "the house has the rooms of its design and no others",
    check: (files, root) => {
      const names = [...readdirSync(root), ...files.map(({ path }) => path.split("/")[0] ?? "")];
      const strangers = names.filter((name) => !HOUSE.has(name) && !IGNORED.test(name));
      return [...new Set(strangers)].map((name) => `${name} has no place at the top`);
    },
    bad: [{ path: "src/a.ts", text: "" }],
  },
  {
    name: "every Zig file with tests is reached by zig/unit_tests.zig",
    check: (files) => {
      const root = files.find(({ path }) => path === "zig/unit_tests.zig");
      const imports = (root?.text ?? "").matchAll(/@import\("([^"]+)"\)/g);
      const reached = new Set([...imports].map(([, path]) => path));
      return files.flatMap(({ path, text }) => {
        if (!isZig(path) || !path.startsWith("zig/") || path === root?.path) return [];
        if (path === "zig/simulate.zig") return []; // a root of its own
        if (!/^test\b/m.test(text) || reached.has(path.slice("zig/".length))) return [];
        return [`${path} is not reached`];
      });
    },
    bad: [
      { path: "zig/unit_tests.zig", text: "test {\n    _ = @import(\"a.zig\");\n}" },
      { path: "zig/b.zig", text: "test \"b\" {}" },
    ],
  },
];

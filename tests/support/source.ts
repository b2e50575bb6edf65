// The tree's source files as the tidy rules see them: which files there are, their text with
// comments and texts blanked out, and where their functions begin and end.

import { readdirSync, readFileSync } from "node:fs";
import { fileURLToPath } from "node:url";

export interface SourceFile {
  /** From the tree's root, with slashes. */
  path: string;
  text: string;
}

export const ROOT = fileURLToPath(new URL("../..", import.meta.url));

const NOT_OURS = new Set(["node_modules", "zig-out", ".zig-cache", ".git"]);
const TEXT_FILE = /\.(zig|ts|mjs|md|json|toml|sh)$|^\.ci\/run$/;

/** Every text file of the tree, sorted; what git ignores is not walked. */
export function sourceFiles(): SourceFile[] {
  const walk = (directory: string): string[] =>
    readdirSync(ROOT + directory, { withFileTypes: true }).flatMap((entry) => {
      if (NOT_OURS.has(entry.name)) return [];
      const path = directory + entry.name;
      return entry.isDirectory() ? walk(`${path}/`) : [path];
    });
  const paths = walk("").filter((path) => TEXT_FILE.test(path)).sort();
  return paths.map((path) => ({ path, text: readFileSync(ROOT + path, "utf8") }));
}

/**
 * The file's code alone: comments, texts and regular expressions become spaces, so that lines and
 * columns stay where they are. Hand-formatted code is assumed, not every legal program.
 */
export function codeOf({ path, text }: SourceFile): string {
  const pattern = path.endsWith(".zig") ? ZIG_NOT_CODE : SCRIPT_NOT_CODE;
  return text.replace(pattern, (match: string) => {
    if (match.startsWith("`")) return blankTemplate(match);
    return blank(match);
  });
}

const ZIG_NOT_CODE = /\/\/.*|\\\\.*|"(?:\\.|[^"\\\n])*"|'(?:\\.|[^'\\\n])*'/g;

/** What precedes a regular expression and not a division: an opening, an operator, `return`. */
const BEFORE_VALUE = /(?<=(?:^|[(,=:[!&|?{};]|=>|\breturn)\s*)/.source;
const REGULAR_EXPRESSION = /\/(?![*/])(?:\\.|\[(?:\\.|[^\]\\\n])*\]|[^/\\[\n])+\/\w*/.source;

const SCRIPT_NOT_CODE = new RegExp(
  [
    /\/\/.*/,
    /\/\*[^]*?\*\//,
    /"(?:\\.|[^"\\\n])*"/,
    /'(?:\\.|[^'\\\n])*'/,
    /`(?:\\.|\$\{(?:[^{}`]|\{[^{}]*\}|`[^`]*`)*\}|[^`\\])*`/,
  ].map(({ source }) => source).join("|") + `|${BEFORE_VALUE}${REGULAR_EXPRESSION}`,
  "gm",
);

const blank = (text: string) => text.replace(/[^\n]/g, " ");

/** Keeps what a template evaluates. */
function blankTemplate(text: string): string {
  let at = 0;
  let code = "";
  for (const hole of text.matchAll(/\$\{((?:[^{}`]|\{[^{}]*\}|`[^`]*`)*)\}/g)) {
    code += `${blank(text.slice(at, hole.index))}  ${hole[1]} `;
    at = hole.index + hole[0].length;
  }
  return code + blank(text.slice(at));
}

export interface FunctionSpan {
  name: string;
  /** Counted from 1, like `lines` in an editor. */
  line: number;
  lines: number;
}

const ZIG_HEAD = /^\s*(?:pub |export |inline |noinline )*fn (\w+)\(/;
const SCRIPT_HEADS = [
  /\bfunction\*? ?(\w*)[(<]/,
  /(?:const|let) (\w+)\b.*=> \{$/,
  /^\s*(?:static |async |get |set |override )*(\*?\[?[#\w.]+\]?)(?:<.*>)?\(.*\{$/,
  /^\s*(?:static |async |override )*(\*?[#\w]+)(?:<.*>)?\($/,
  /(\w+)\(.*=> \{$/,
];
const NOT_A_FUNCTION = /^(?:if|for|while|switch|catch|with|return|describe)$/;

/**
 * The functions of a formatted file, found by indentation: the body closes on the first later line
 * that is indented like the head and begins with a closing brace.
 */
export function functionsOf(file: SourceFile): FunctionSpan[] {
  const lines = codeOf(file).split("\n");
  const heads = file.path.endsWith(".zig") ? [ZIG_HEAD] : SCRIPT_HEADS;
  return lines.flatMap((line, index) => {
    const name = heads.map((head) => head.exec(line)?.[1]).find((found) => found !== undefined);
    if (name === undefined || NOT_A_FUNCTION.test(name)) return [];
    const opening = line.trimEnd().endsWith("(") ? indexOfClosing(lines, index, ")") : index;
    const isBlock = lines[opening]?.trimEnd().endsWith("{") ?? false;
    // A Zig function that returns a type is a container: its members are counted one by one.
    if (!isBlock || / type \{$/.test(lines[opening] ?? "")) return [];
    const closing = indexOfClosing(lines, opening, "}");
    return [{ name, line: index + 1, lines: closing - index + 1 }];
  });
}

function indexOfClosing(lines: string[], opening: number, bracket: string): number {
  const indent = indentOf(lines[opening]);
  for (let index = opening + 1; index < lines.length; index++) {
    const line = lines[index] ?? "";
    if (line.trimStart().startsWith(bracket) && indentOf(line) === indent) return index;
  }
  return lines.length - 1;
}

const indentOf = (line = "") => line.length - line.trimStart().length;

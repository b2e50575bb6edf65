// Which members of a class are for its users: those that the sources do not mark `@internal`,
// `private` or `protected`. At run time nothing tells them apart.

import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";

const ROOT = join(import.meta.dir, "../../ts");
const CLASS = /^(?:export )?(?:default )?(?:abstract )?class (\w+)/;
const MODIFIERS =
  "public|private|protected|readonly|static|override|abstract|async|declare|get|set";
const MEMBER = new RegExp(`^ {2}(?:(?:${MODIFIERS})\\s+)*\\*?(\\[[\\w.()"]+\\]|\\w+)`);

/** Names by class: of what is no part of what users see. */
const internal = new Map<string, Set<string>>();
for (const path of readdirSync(ROOT, { recursive: true, encoding: "utf8" })) {
  if (path.endsWith(".ts")) collect(readFileSync(join(ROOT, path), "utf8"));
}

function collect(text: string): void {
  let names: Set<string> | null = null;
  let marked = false;
  for (const line of text.split("\n")) {
    const found = CLASS.exec(line)?.[1];
    if (found !== undefined) {
      names = internal.get(found) ?? new Set();
      internal.set(found, names);
    }
    if (line.includes("@internal")) marked = true;
    const code = line.replace(/^(\s*)(?:\/\*\*.*?\*\/\s*)+/, "$1");
    if (/^\s*(?:\/\*|\*|\/\/|$)/.test(code)) continue;
    const name = MEMBER.exec(code)?.[1];
    if (names !== null && name !== undefined) {
      if (marked || /^ {2}(?:private|protected)\b/.test(code)) names.add(name);
    }
    if (/^\S/.test(line) && found === undefined) names = line.startsWith("}") ? null : names;
    marked = false;
  }
}

/** An object of a class of the library's. */
export function isOurs(value: unknown): value is object {
  if (typeof value !== "object" || value === null) return false;
  const made: unknown = (value as { constructor?: unknown }).constructor;
  return typeof made === "function" && internal.has(made.name) && !(made.name in globalThis);
}

/** Methods and accessors of an object's classes that users may call, with their functions. */
export function publicMembers(thing: object): [key: string | symbol, member: PropertyDescriptor][] {
  const members = new Map<string | symbol, PropertyDescriptor>();
  const hidden = new Set(["constructor"]);
  for (const at of prototypes(thing)) {
    for (const name of internal.get((at.constructor as Function).name) ?? []) hidden.add(name);
    for (const key of Reflect.ownKeys(at)) {
      if (members.has(key)) continue;
      members.set(key, Object.getOwnPropertyDescriptor(at, key) as PropertyDescriptor);
    }
  }
  // What a class hides stays hidden where another one overrides it.
  return [...members].filter(([key]) => !hidden.has(String(key)));
}

function* prototypes(thing: object): Generator<object> {
  let at = Object.getPrototypeOf(thing) as object | null;
  for (; at !== null && at !== Object.prototype; at = Object.getPrototypeOf(at) as object | null) {
    yield at;
  }
}

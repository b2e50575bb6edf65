// docs/bun-listen.md has a row for every member of Bun's types, says one of three things about it,
// and every method that is there exists.

import { describe, expect, test } from "bun:test";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { pair } from "./support/pair.ts";

const root = join(import.meta.dir, "..");
const types = readFileSync(join(root, "node_modules/bun-types/bun.d.ts"), "utf8");
const table = readFileSync(join(root, "docs/bun-listen.md"), "utf8");

/** Names of an interface's own members, from its text: those at four spaces. */
function membersOf(name: string): string[] {
  const start = new RegExp(`^  interface ${name}(?:<[^{]*)?(?: extends [^{]*)? ?\\{\\n`, "m");
  const match = start.exec(types);
  if (match === null) throw new Error(`bun-types has no interface ${name}`);
  const from = match.index + match[0].length;
  const body = types.slice(from, types.indexOf("\n  }\n", from));
  const members = body.matchAll(/^ {4}(?:readonly )?(\w+|\[Symbol\.\w+\])\??(?:<\w+>)?[(:]/gm);
  return [...new Set([...members].map(([, member]) => member ?? ""))];
}

/** The rows of a section: what is said of each name. */
function rowsOf(section: string): Map<string, [here: string, remark: string]> {
  const from = table.indexOf(`\n## ${section}\n`);
  expect([section, from > 0]).toEqual([section, true]);
  const text = table.slice(from + 4, table.indexOf("\n## ", from + 4));
  const rows = text.matchAll(/^\| `([^`]+)` \| ([^|]+) \| ?(.*?) ?\|$/gm);
  return new Map([...rows].map(([, name = "", here = "", remark = ""]) => [name, [here, remark]]));
}

const SECTIONS: [section: string, interfaces: string[]][] = [
  ["Options of `listen` and `connect`", [
    "SocketOptions", "TCPSocketListenOptions", "TCPSocketConnectOptions", "UnixSocketOptions",
    "FdSocketOptions",
  ]],
  ["Handlers", ["SocketHandler"]],
  ["Sockets", ["Socket"]],
  ["Listeners", ["SocketListener", "TCPSocketListener", "UnixSocketListener"]],
];

describe.each(SECTIONS)("%s", (section, interfaces) => {
  const rows = rowsOf(section);
  const members = [...new Set(interfaces.flatMap(membersOf))];

  test("has a row for each member of Bun's types, and for nothing else", () => {
    expect(members.length).toBeGreaterThan(4);
    // The types leave the disposal to the interface that they extend.
    const named = [...rows.keys()].filter((name) => name !== "[Symbol.dispose]");
    expect(named.toSorted()).toEqual(
      members.filter((name) => name !== "[Symbol.dispose]").toSorted(),
    );
  });

  test("says same, differs or not there, and in what", () => {
    for (const [name, [here, remark]] of rows) {
      expect([name, here]).toEqual([name, expect.stringMatching(/^(?:same|differs|not there)$/)]);
      if (here !== "same") expect([name, remark.length > 5]).toEqual([name, true]);
    }
  });
});

test("what the table calls there is there, and what it does not throws EOPNOTSUPP", async () => {
  using both = await pair();
  for (const [thing, rows] of [
    [both.client, rowsOf("Sockets")],
    [both.listener, rowsOf("Listeners")],
  ] as const) {
    for (const [name, [here]] of rows) {
      const key = name === "[Symbol.dispose]" ? Symbol.dispose : name;
      expect([name, key in thing]).toEqual([name, true]);
      if (here !== "not there") continue;
      const call = (thing as unknown as Record<string, () => unknown>)[name];
      expect(() => call?.call(thing)).toThrow("EOPNOTSUPP");
    }
  }
});

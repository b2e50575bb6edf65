// Modules that a Worker runs: from what a user gives to a function, on both sides of the thread.
//
// A module is named by a URL or a path; the URL's hash names an export, else it is the default one.

import { isAbsolute, resolve } from "node:path";
import { pathToFileURL } from "node:url";
import { argumentError } from "./errors.ts";

/** The URL of a module: it goes to the Worker. A path is relative to the working directory. */
export function readModule(operation: string, module: unknown): string {
  if (module instanceof URL) return module.href;
  if (typeof module !== "string" || module === "") {
    throw argumentError(operation, "module", "a URL or a path", module);
  }
  if (/^(?:file|data|blob):/.test(module)) return module;
  return pathToFileURL(isAbsolute(module) ? module : resolve(module)).href;
}

/** In the Worker: the function that a URL names. */
export async function importFunction(operation: string, href: string): Promise<Function> {
  const url = new URL(href);
  const name = url.hash === "" ? "default" : decodeURIComponent(url.hash.slice(1));
  url.hash = "";
  const exports = await import(url.href) as Record<string, unknown>;
  const found = exports[name];
  if (typeof found === "function") return found;
  throw new TypeError(`${operation}: ${url.href} exports no function ${JSON.stringify(name)}`);
}

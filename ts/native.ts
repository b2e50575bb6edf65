// The only dlopen: finds the library, checks that it fits this source, hands out its symbols.
//
// Every crossing goes through `native`. It knows no ring and no memory; `memory.ts` reads what the
// calls leave behind. Importing this file outside Linux, or in an unbuilt tree, throws one clear
// sentence.

import { dlopen } from "bun:ffi";
import { existsSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { ABI_HASH, SYMBOLS } from "./abi.ts";
import { UringError, type ErrorCode } from "./errors.ts";

const built = fileURLToPath(new URL("../zig-out/lib/libbun_uring.so", import.meta.url));

function open() {
  if (process.platform !== "linux") {
    throw refusal("ENOSYS", `bun-uring needs Linux, this is ${process.platform}`);
  }
  const path = process.env["BUN_URING_LIBRARY"] ?? built;
  if (!existsSync(path)) {
    throw refusal("ENOENT", "bun-uring is not built: run `npm run build`");
  }
  const library = dlopen(path, SYMBOLS);
  const hash = library.symbols.bu_abi_hash();
  if (hash !== ABI_HASH) {
    throw refusal(
      "EINVAL",
      `the bun-uring library (layout ${hash.toString(16)}) does not fit this source (layout ` +
        `${ABI_HASH.toString(16)}): run \`npm run build\``,
    );
  }
  return library.symbols;
}

/** An error without a stack: an import that fails prints its sentence and no source. */
function refusal(code: ErrorCode, message: string): UringError {
  const { stackTraceLimit } = Error;
  Error.stackTraceLimit = 0;
  const error = new UringError(code, "load", message);
  Error.stackTraceLimit = stackTraceLimit;
  // Its fields are there for who catches it; printed, they would bury the sentence.
  for (const field of Object.keys(error)) {
    Object.defineProperty(error, field, { enumerable: false });
  }
  return error;
}

export const native = open();

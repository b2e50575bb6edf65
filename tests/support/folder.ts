// The folder of this run for files that tests make. The preload removes it after the last test: an
// exit handler does not run under `bun test`.

import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";

export const folder = mkdtempSync(join(tmpdir(), "bun-uring-"));

export function removeFolder(): void {
  rmSync(folder, { recursive: true, force: true });
}

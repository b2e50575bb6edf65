// Borrowed chunks: one receive buffer handed out as an ArrayBuffer of its own, without a copy.
//
// A lent chunk is detached when it goes back, so a view that was kept is empty and never shows
// another connection's bytes. If the user moved the memory elsewhere (`transfer`, `postMessage`),
// the buffer goes back when that owner dies: its deallocator is native (design: buffers, borrowed).

import type { Memory } from "./memory.ts";
import { native } from "./native.ts";

/**
 * Below this many bytes a private copy is cheaper than lending and detaching: 4 KiB copy in about
 * 0.3 µs, a loan costs 0.4 to 0.5 µs whatever its size.
 */
export const LEND_MIN = 4096;

/** The loan of a receive buffer, or null if it cannot be lent (then a copy serves). */
export function lend(
  handle: number,
  memory: Memory,
  offset: number,
  length: number,
  buffer: number,
): ArrayBuffer | null {
  if (length < LEND_MIN || native.bu_buffer_lend(handle, buffer) < 0) return null;
  return memory.lend(offset, length);
}

/** Ends the loan: every view of the chunk is empty from here on. */
export function takeBack(chunk: ArrayBuffer): void {
  if (!chunk.detached) chunk.transfer(0);
}

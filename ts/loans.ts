// Loans: which bytes of whose memory an operation in flight reads or writes.
//
// Counted per backing memory and tracked by byte range. Any number of operations may read the same
// bytes; what the kernel writes to belongs to one operation alone until its last completion. An
// overlap is refused with EBUSY, which names the other operation.

import { describeOperation, UringError } from "./errors.ts";

export interface Loan {
  readonly memory: object;
  readonly from: number;
  readonly to: number;
  /** The kernel writes to it. */
  readonly written: boolean;
  readonly kind: string;
  readonly fd: number;
  /** The next loan of the same memory. */
  next: Loan | null;
}

const loans = new Map<object, Loan>();

/** Throws EBUSY if bytes [from, to) may not be used by a further operation. */
export function checkLoans(
  memory: object,
  from: number,
  to: number,
  written: boolean,
  kind: string,
): void {
  if (loans.size === 0) return;
  for (let loan = loans.get(memory) ?? null; loan !== null; loan = loan.next) {
    if (!(written || loan.written) || to <= loan.from || loan.to <= from) continue;
    throw inFlight(kind, loan.kind, loan.fd);
  }
}

/** The error for memory that another operation has. */
export function inFlight(kind: string, other: string, fd: number): UringError {
  const message = `${kind}: buffer is in flight: ${describeOperation(other, fd)}`;
  return new UringError("EBUSY", kind, message);
}

/** Lends bytes [from, to) to an operation, or throws EBUSY. */
export function borrow(
  memory: object,
  from: number,
  to: number,
  written: boolean,
  kind: string,
  fd: number,
): Loan {
  checkLoans(memory, from, to, written, kind);
  return record(memory, from, to, written, kind, fd);
}

/** A loan that was checked: parts of one operation may overlap each other. */
export function record(
  memory: object,
  from: number,
  to: number,
  written: boolean,
  kind: string,
  fd: number,
): Loan {
  const loan = { memory, from, to, written, kind, fd, next: loans.get(memory) ?? null };
  loans.set(memory, loan);
  return loan;
}

export function giveBack(loan: Loan): void {
  const first = loans.get(loan.memory) ?? null;
  if (first === loan) {
    if (loan.next === null) loans.delete(loan.memory);
    else loans.set(loan.memory, loan.next);
    return;
  }
  for (let before = first; before !== null; before = before.next) {
    if (before.next !== loan) continue;
    before.next = loan.next;
    return;
  }
}

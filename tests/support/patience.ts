// How much longer than on an ordinary machine everything may take: BUN_URING_TEST_PATIENCE, 1 if it
// is not set. An emulated machine (`npm run test:kernels`) sets it; what a test asserts stays the
// same.

const asked = process.env["BUN_URING_TEST_PATIENCE"] ?? "1";

export const patience = Number(asked);

if (!(patience >= 1 && patience <= 100)) {
  throw new Error(`BUN_URING_TEST_PATIENCE is a number from 1 to 100, not ${asked}`);
}

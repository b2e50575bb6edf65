// Which release of Linux brought what a ring uses: a release as a name in `disable` or in
// BUN_URING_DISABLE masks what came later, so that a ring does as it would there.
//
// Only what a ring can do without: provided-buffer rings, the floor, came with 5.19. The flags of
// io_uring_setup(2) and the operations of io_uring_enter(2) say since when they are there.

import type { Feature, OperationKind } from "./abi.ts";

export type Release = (typeof RELEASES)[number];

/** The floor, releases with long support or in many distributions, and 6.0 for its receives. */
export const RELEASES = ["5.19", "6.0", "6.1", "6.6", "6.12"] as const;

const BROUGHT: readonly [since: string, (keyof typeof Feature | keyof typeof OperationKind)[]][] = [
  ["6.0", ["single_issuer", "multishot_receive", "multishot_recvmsg"]],
  // SENDMSG_ZC is the later one of the two.
  ["6.1", ["defer_taskrun", "zero_copy_send"]],
  ["6.6", ["no_sqarray"]],
  ["6.9", ["ftruncate"]],
  ["6.11", ["bind", "listen"]],
  // Registered files are older, but then stay open as long as others are in use.
  ["6.13", ["msg_ring", "registered_files"]],
  ["6.17", ["receive_limit"]],
];

export function isRelease(name: unknown): name is Release {
  return RELEASES.includes(name as Release);
}

/** Names of features and operations that came after this release; it may have more behind it. */
export function laterThan(release: string): string[] {
  const later = BROUGHT.filter(([since]) => numberOf(since) > numberOf(release));
  return later.flatMap(([, names]) => names);
}

/** "6.12" is later than "6.9". */
function numberOf(release: string): number {
  const [major = 0, minor = 0] = release.split(".").map(Number);
  return major * 1000 + minor;
}

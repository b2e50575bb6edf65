// Opcodes of io_uring by their numbers in the kernel's header, which are for ever: what a policy
// refuses one by one.

/** No plain call stands for these, or one that may wait for ever: the twin serves. */
export const ESSENTIAL: Record<string, number> = {
  nop: 0, readv: 1, writev: 2, read_fixed: 4, write_fixed: 5, poll_add: 6, sendmsg: 9, recvmsg: 10,
  timeout: 11, accept: 13, async_cancel: 14, link_timeout: 15, connect: 16, openat: 18, close: 19,
  read: 22, write: 23, send: 26, recv: 27, splice: 30, shutdown: 34,
};

/** These the ring does in another way. */
export const SPARE: Record<string, number> = {
  fsync: 3, sync_file_range: 8, fallocate: 17, statx: 21, renameat: 35, unlinkat: 36, mkdirat: 37,
  symlinkat: 38, linkat: 39, socket: 45, send_zc: 47, sendmsg_zc: 48, ftruncate: 55, bind: 56,
  listen: 57,
};

export const FORBIDDEN: Record<string, number> = { ...ESSENTIAL, ...SPARE };

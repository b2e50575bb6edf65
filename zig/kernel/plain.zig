//! Operations by plain system calls: an SQE in, the result that its CQE would have had out.
//!
//! For kernels whose ring lacks the opcode, and for what the epoll twin does inline. It blocks as
//! the call does. Only operations that do not wait for a peer stand here, CONNECT for datagram
//! sockets; the others are in every ring that is served at all.

const std = @import("std");
const linux = std.os.linux;
const system = @import("linux.zig");
const errno = system.errno;

pub fn perform(sqe: *const system.Sqe) i32 {
    const address: usize = @intCast(sqe.addr);
    const offset: usize = @intCast(sqe.off);
    const fd: usize = @bitCast(@as(isize, sqe.fd));
    const second: usize = @bitCast(@as(isize, @as(i32, @bitCast(sqe.len))));
    return system.result(switch (sqe.opcode) {
        .NOP => 0,
        .FSYNC => linux.syscall1(if (sqe.rw_flags & linux.IORING_FSYNC_DATASYNC != 0)
            .fdatasync
        else
            .fsync, fd),
        .READ => read(sqe, fd, address),
        .WRITE => write(sqe, fd, address),
        .READV => vectors(.preadv2, sqe, fd, address),
        .WRITEV => vectors(.pwritev2, sqe, fd, address),
        .SYNC_FILE_RANGE => linux.syscall4(.sync_file_range, fd, offset, sqe.len, sqe.rw_flags),
        .FALLOCATE => linux.syscall4(.fallocate, fd, sqe.len, offset, address),
        .FTRUNCATE => linux.syscall2(.ftruncate, fd, offset),
        .OPENAT => linux.syscall4(.openat, fd, address, sqe.rw_flags, sqe.len),
        .CLOSE => linux.syscall1(.close, fd),
        .STATX => linux.syscall5(.statx, fd, address, sqe.rw_flags, sqe.len, offset),
        .SOCKET => linux.syscall3(.socket, fd, offset, sqe.len),
        .BIND => linux.syscall3(.bind, fd, address, offset),
        .CONNECT => linux.syscall3(.connect, fd, address, offset),
        .LISTEN => linux.syscall2(.listen, fd, sqe.len),
        .SHUTDOWN => linux.syscall2(.shutdown, fd, sqe.len),
        .RENAMEAT => linux.syscall5(.renameat2, fd, address, second, offset, sqe.rw_flags),
        .UNLINKAT => linux.syscall3(.unlinkat, fd, address, sqe.rw_flags),
        .MKDIRAT => linux.syscall3(.mkdirat, fd, address, sqe.len),
        .LINKAT => linux.syscall5(.linkat, fd, address, second, offset, sqe.rw_flags),
        .SYMLINKAT => linux.syscall3(.symlinkat, address, fd, offset),
        .SPLICE => splice(sqe, fd),
        else => return errno.notsup,
    });
}

/// The same for a ring, where nobody asks again: what finds nothing to read,
/// or no room, does not wait for a peer. poll(2)
pub fn perform_ready(sqe: *const system.Sqe) i32 {
    const events: i16 = switch (sqe.opcode) {
        .READ, .READV => linux.POLL.IN,
        .WRITE, .WRITEV => linux.POLL.OUT,
        else => return perform(sqe),
    };
    var polled = [1]linux.pollfd{.{ .fd = sqe.fd, .events = events, .revents = 0 }};
    if (system.result(linux.poll(&polled, 1, 0)) == 0) return errno.again;
    return perform(sqe);
}

pub fn is_known(opcode: system.Op) bool {
    return switch (opcode) {
        .NOP, .FSYNC, .READ, .WRITE, .READV, .WRITEV, .SYNC_FILE_RANGE, .FALLOCATE => true,
        .FTRUNCATE, .OPENAT, .CLOSE, .STATX, .SOCKET, .BIND, .LISTEN, .SHUTDOWN => true,
        .RENAMEAT, .UNLINKAT, .MKDIRAT, .LINKAT, .SYMLINKAT, .SPLICE => true,
        else => false,
    };
}

/// Position -1 is the descriptor's own: read(2); else pread(2).
fn read(sqe: *const system.Sqe, fd: usize, address: usize) usize {
    if (sqe.off == std.math.maxInt(u64)) return linux.syscall3(.read, fd, address, sqe.len);
    return linux.syscall4(.pread64, fd, address, sqe.len, @intCast(sqe.off));
}

fn write(sqe: *const system.Sqe, fd: usize, address: usize) usize {
    if (sqe.off == std.math.maxInt(u64)) return linux.syscall3(.write, fd, address, sqe.len);
    return linux.syscall4(.pwrite64, fd, address, sqe.len, @intCast(sqe.off));
}

/// preadv2(2) and pwritev2(2) take -1 for the descriptor's own position themselves.
fn vectors(call: linux.SYS, sqe: *const system.Sqe, fd: usize, address: usize) usize {
    const low: usize = @intCast(sqe.off);
    return linux.syscall6(call, fd, address, sqe.len, low, low >> 32, sqe.rw_flags);
}

fn splice(sqe: *const system.Sqe, fd: usize) usize {
    const source: usize = @bitCast(@as(isize, sqe.splice_fd_in));
    var from: u64 = sqe.addr;
    var to: u64 = sqe.off;
    const own = std.math.maxInt(u64);
    return linux.syscall6(
        .splice,
        source,
        if (from == own) 0 else @intFromPtr(&from),
        fd,
        if (to == own) 0 else @intFromPtr(&to),
        sqe.len,
        sqe.rw_flags,
    );
}

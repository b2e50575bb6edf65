//! Attempts of the epoll twin to read and to write: preadv2(2), pwritev2(2), splice(2).
//!
//! First without waiting (RWF_NOWAIT). What a file cannot give at once is read or written by the
//! plain call, which waits for the device and nobody else; a pipe, a terminal or a socket waits in
//! epoll. One that knows no RWF_NOWAIT is asked by poll(2), and then moves no more than it must
//! take (PIPE_BUF, see pipe(7)).

const std = @import("std");
const linux = std.os.linux;
const system = @import("../linux.zig");
const messages = @import("messages.zig");
const polls = @import("polls.zig");
const attempts = @import("attempts.zig");
const Epoll = @import("../epoll.zig").Epoll;
const Operation = @import("operation.zig").Operation;
const Outcome = attempts.Outcome;
const errno = system.errno;

const Way = enum { reading, writing };

pub fn read(kernel: *Epoll, operation: *Operation) Outcome {
    return move(kernel, operation, .reading);
}

pub fn write(kernel: *Epoll, operation: *Operation) Outcome {
    return move(kernel, operation, .writing);
}

pub fn parts_of(sqe: *const system.Sqe) []const system.Iovec {
    const parts: [*]const system.Iovec = @ptrFromInt(sqe.addr);
    return parts[0..sqe.len];
}

fn move(kernel: *Epoll, operation: *Operation, way: Way) Outcome {
    const sqe = &operation.sqe;
    var one: [1]system.Iovec = undefined;
    const parts = switch (sqe.opcode) {
        .READV, .WRITEV => parts_of(sqe),
        else => one_part: {
            const fixed = sqe.opcode == .READ_FIXED or sqe.opcode == .WRITE_FIXED;
            // An update of the table is for those that start after it.
            const holds = !fixed or operation.tried or kernel.buffers.hold(sqe);
            if (!holds) return .{ .done = errno.fault };
            one = .{.{ .base = attempts.bytes_at(sqe.addr), .len = sqe.len }};
            break :one_part &one;
        },
    };
    if (operation.done > 0) return write_on(operation, parts);
    const moved = call(sqe, way, parts, linux.RWF.NOWAIT);
    switch (moved) {
        errno.again, errno.notsup => {},
        else => {
            const is_part = moved > 0 and moved < messages.length_of(parts);
            if (!is_part or !is_file(kind_of(sqe.fd))) return .{ .done = moved };
            return .{ .done = complete(sqe, way, parts, @intCast(moved)) };
        },
    }
    const kind = kind_of(sqe.fd);
    if (is_file(kind)) return .{ .done = complete(sqe, way, parts, 0) };
    // The caller does not wish to wait.
    if (sqe.rw_flags & linux.RWF.NOWAIT != 0) return .{ .done = errno.again };
    if (moved == errno.again) return wait_for(way);
    return move_asking(operation, way, parts);
}

fn wait_for(way: Way) Outcome {
    return .{ .ready = if (way == .reading) linux.EPOLL.IN else linux.EPOLL.OUT };
}

/// What knows no RWF_NOWAIT: one that never blocks is called, of others poll(2) is asked first.
fn move_asking(operation: *Operation, way: Way, parts: []const system.Iovec) Outcome {
    const sqe = &operation.sqe;
    const status = system.result(linux.fcntl(sqe.fd, linux.F.GETFL, 0));
    const non_blocking: u32 = @bitCast(linux.O{ .NONBLOCK = true });
    if (status < 0) return .{ .done = status };
    const never_blocks = @as(u32, @intCast(status)) & non_blocking != 0;
    if (never_blocks) return .{ .done = call(sqe, way, parts, 0) };
    if (way == .writing) return write_on(operation, parts);
    if (polls.ready(sqe.fd, linux.EPOLL.IN) == 0) return wait_for(way);
    return .{ .done = call(sqe, way, parts, 0) };
}

/// As much at a time as is taken without waiting, until all is written, as write(2) does.
fn write_on(operation: *Operation, parts: []const system.Iovec) Outcome {
    const sqe = &operation.sqe;
    const whole = messages.length_of(parts);
    while (true) {
        if (polls.ready(sqe.fd, linux.EPOLL.OUT) == 0) return wait_for(.writing);
        var piece: [1]system.Iovec = undefined;
        const rest = messages.rest_of(parts, operation.done, &piece);
        const written = call(sqe, .writing, at_most(rest, pipe_bytes, &piece), 0);
        if (written <= 0) return .{ .done = operation.part_or(written) };
        operation.done += @intCast(written);
        if (operation.done >= whole) return .{ .done = @intCast(operation.done) };
    }
}

/// PIPE_BUF: what a pipe that is ready takes without waiting.
const pipe_bytes = 4096;

/// The first parts that are together no longer, or the beginning of the first.
fn at_most(
    parts: []const system.Iovec,
    len: usize,
    piece: *[1]system.Iovec,
) []const system.Iovec {
    if (parts.len > 0 and parts[0].len > len) {
        piece[0] = .{ .base = parts[0].base, .len = len };
        return piece;
    }
    var total: usize = 0;
    for (parts, 0..) |part, i| {
        total +|= part.len;
        if (total > len) return parts[0..i];
    }
    return parts;
}

const own_position = std.math.maxInt(u64);

/// A position means nothing to what has none: the ring does not pass it on, a system call refuses.
fn call(sqe: *const system.Sqe, way: Way, parts: []const system.Iovec, flags: u32) i32 {
    const outcome = call_at(sqe, way, parts, sqe.off, flags);
    if (outcome != errno.spipe or sqe.off == own_position) return outcome;
    return call_at(sqe, way, parts, own_position, flags);
}

fn call_at(
    sqe: *const system.Sqe,
    way: Way,
    parts: []const system.Iovec,
    offset: u64,
    flags: u32,
) i32 {
    while (true) {
        const outcome = system.result(linux.syscall6(
            if (way == .reading) .preadv2 else .pwritev2,
            @as(usize, @bitCast(@as(isize, sqe.fd))),
            @intFromPtr(parts.ptr),
            parts.len,
            @truncate(offset),
            if (@bitSizeOf(usize) < 64) @truncate(offset >> 32) else 0,
            sqe.rw_flags | flags,
        ));
        if (outcome != errno.intr) return outcome;
    }
}

/// A file gives all that there is: a part means its end, the disk's, or that the rest was not in
/// memory.
fn complete(sqe: *const system.Sqe, way: Way, parts: []const system.Iovec, moved: u32) i32 {
    const asks_not_to_wait = sqe.rw_flags & linux.RWF.NOWAIT != 0;
    if (asks_not_to_wait) return if (moved > 0) @intCast(moved) else errno.again;
    var done = moved;
    const whole = messages.length_of(parts);
    while (true) {
        var piece: [1]system.Iovec = undefined;
        const rest = messages.rest_of(parts, done, &piece);
        const offset = if (sqe.off == own_position) own_position else sqe.off +| done;
        const more = call_at(sqe, way, rest, offset, 0);
        if (more <= 0) return if (done > 0) @intCast(done) else more;
        done += @intCast(more);
        if (done == whole) return @intCast(done);
    }
}

/// The bits of its mode that say what it is, see inode(7).
fn kind_of(fd: i32) u32 {
    var status: linux.Statx = undefined;
    const outcome = linux.statx(fd, "", linux.AT.EMPTY_PATH, .{ .TYPE = true }, &status);
    return if (system.result(outcome) < 0) 0 else status.mode & linux.S.IFMT;
}

/// Files, directories and block devices are always ready: epoll_ctl(2) refuses them.
fn is_file(kind: u32) bool {
    return kind == linux.S.IFREG or kind == linux.S.IFDIR or kind == linux.S.IFBLK;
}

/// Both ends are asked first: with both ready, and without waiting in a pipe, it blocks on a disk
/// at most.
pub fn splice(operation: *Operation) Outcome {
    const sqe = &operation.sqe;
    const may_wait = sqe.rw_flags & splice_nonblock == 0;
    if (may_wait and operation.tried) {
        if (polls.ready(sqe.splice_fd_in, linux.EPOLL.IN) == 0) return source_readable;
        if (polls.ready(sqe.fd, linux.EPOLL.OUT) == 0) return writable;
    }
    var from: u64 = sqe.addr;
    var to: u64 = sqe.off;
    const moved = system.result(linux.syscall6(
        .splice,
        @as(usize, @bitCast(@as(isize, sqe.splice_fd_in))),
        if (from == own_position) 0 else @intFromPtr(&from),
        @as(usize, @bitCast(@as(isize, sqe.fd))),
        if (to == own_position) 0 else @intFromPtr(&to),
        sqe.len,
        sqe.rw_flags | splice_nonblock,
    ));
    if (moved == errno.intr) return splice(operation);
    if (moved != errno.again or !may_wait) return .{ .done = moved };
    const is_readable = polls.ready(sqe.splice_fd_in, linux.EPOLL.IN) != 0;
    if (!is_readable) return source_readable;
    return if (polls.ready(sqe.fd, linux.EPOLL.OUT) == 0) writable else .{ .later = retry_ns };
}

const splice_nonblock = 2; // SPLICE_F_NONBLOCK
const retry_ns = std.time.ns_per_ms;
const source_readable: Outcome = .{ .source_ready = linux.EPOLL.IN };
const writable: Outcome = .{ .ready = linux.EPOLL.OUT };

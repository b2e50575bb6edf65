//! Attempts of the epoll twin to send and to receive: send(2), sendmsg(2), recv(2), recvmsg(2).
//!
//! Always with MSG_DONTWAIT; what was asked for with it ends with -EAGAIN instead of waiting. With
//! MSG_WAITALL a part is kept and the rest follows when there is room or data (K1, K2). A receive
//! with buffer selection looks at the next provided buffer before it asks the socket (K9); a
//! multishot one goes on as long as buffers come back full.

const std = @import("std");
const linux = std.os.linux;
const system = @import("../linux.zig");
const attempts = @import("attempts.zig");
const seam = @import("../../kernel.zig");
const Provided = @import("provided.zig").Provided;

const Epoll = @import("../epoll.zig").Epoll;
const Operation = @import("operation.zig").Operation;
const Outcome = attempts.Outcome;
const MSG = linux.MSG;
const errno = system.errno;

const readable: Outcome = .{ .ready = linux.EPOLL.IN };
const writable: Outcome = .{ .ready = linux.EPOLL.OUT };

/// Receives of one connection in a row while its buffers come back full: then others have a turn.
const shots_max = 16;

pub fn is_whole(sqe: *const system.Sqe) bool {
    return sqe.rw_flags & MSG.WAITALL != 0;
}

/// Whoever says MSG_DONTWAIT hears -EAGAIN.
fn may_wait(sqe: *const system.Sqe) bool {
    return sqe.rw_flags & MSG.DONTWAIT == 0;
}

pub fn parts_of(sqe: *const system.Sqe) []const system.Iovec {
    const header: *const system.MessageHeader = @ptrFromInt(sqe.addr);
    return header.iov[0..header.iovlen];
}

// Sending --------------------------------------------------------------------------------------

/// The flags of the call itself: EPIPE instead of a signal, as the real ring has it.
fn send_flags(sqe: *const system.Sqe) u32 {
    return sqe.rw_flags & ~@as(u32, MSG.WAITALL) | MSG.DONTWAIT | MSG.NOSIGNAL;
}

pub fn send(operation: *Operation) Outcome {
    const sqe = &operation.sqe;
    const start = attempts.bytes_at(sqe.addr);
    const rest = start[operation.done..sqe.len];
    const name: ?*const linux.sockaddr = @ptrFromInt(sqe.off);
    // The SQE's `addr_len` lies where a splice has its source (io_uring_enter(2)).
    const name_len: u16 = @truncate(@as(u32, @bitCast(sqe.splice_fd_in)));
    const len: linux.socklen_t = if (name == null) 0 else name_len;
    return sent_outcome(operation, uninterrupted(linux.sendto, .{
        sqe.fd, rest.ptr, rest.len, send_flags(sqe), name, len,
    }), rest.len);
}

pub fn send_message(operation: *Operation) Outcome {
    const sqe = &operation.sqe;
    const header: *const linux.msghdr_const = @ptrFromInt(sqe.addr);
    const parts = parts_of(sqe);
    var message = header.*;
    var piece: [1]system.Iovec = undefined;
    if (operation.done > 0) {
        // What is told besides the bytes went with the first of them.
        message = std.mem.zeroes(linux.msghdr_const);
        const rest = rest_of(parts, operation.done, &piece);
        message.iov = rest.ptr;
        message.iovlen = rest.len;
    }
    const asked = length_of(message.iov[0..message.iovlen]);
    const goes_on = operation.done + asked < length_of(parts);
    const flags = send_flags(sqe) | if (goes_on) @as(u32, MSG.MORE) else 0;
    const sent = uninterrupted(linux.sendmsg, .{ sqe.fd, &message, flags });
    const outcome = sent_outcome(operation, sent, asked);
    // The end of one part: those behind it are tried at once.
    if (goes_on and sent == asked) return send_message(operation);
    return outcome;
}

/// With MSG_WAITALL a part waits for room for the rest; only a stream takes parts.
fn sent_outcome(operation: *Operation, sent: i32, asked: usize) Outcome {
    const sqe = &operation.sqe;
    if (sent == errno.again and may_wait(sqe)) return writable;
    if (sent < 0) return .{ .done = operation.part_or(sent) };
    operation.done += @intCast(sent);
    if (sent < asked and is_whole(sqe)) return if (may_wait(sqe)) writable else partly(operation);
    return partly(operation);
}

fn partly(operation: *const Operation) Outcome {
    return .{ .done = @intCast(operation.done) };
}

/// The bytes that follow `done`: the rest of a part alone, or all parts from one's start.
pub fn rest_of(
    parts: []const system.Iovec,
    done: usize,
    piece: *[1]system.Iovec,
) []const system.Iovec {
    var skip = done;
    for (parts, 0..) |part, i| {
        if (skip == 0) return parts[i..];
        if (skip < part.len) {
            piece[0] = .{ .base = part.base + skip, .len = part.len - skip };
            return piece;
        }
        skip -= part.len;
    }
    return parts[parts.len..];
}

pub fn length_of(parts: []const system.Iovec) usize {
    var len: usize = 0;
    for (parts) |part| len +|= part.len;
    return len;
}

/// A signal that comes before anything was moved is no result (I8: it does not wait).
fn uninterrupted(comptime call: anytype, arguments: std.meta.ArgsTuple(@TypeOf(call))) i32 {
    while (true) {
        const result = system.result(@call(.auto, call, arguments));
        if (result != errno.intr) return result;
    }
}

// Receiving ------------------------------------------------------------------------------------

fn receive_flags(sqe: *const system.Sqe) u32 {
    return sqe.rw_flags & ~@as(u32, MSG.WAITALL) | MSG.DONTWAIT;
}

pub fn receive(kernel: *Epoll, operation: *Operation) Outcome {
    const sqe = &operation.sqe;
    if (sqe.flags & system.sqe_flag.buffer_select != 0) return receive_selected(kernel, operation);
    const start = attempts.bytes_at(sqe.addr);
    const rest = start[operation.done..sqe.len];
    const received = receive_now(sqe, rest);
    return received_outcome(operation, received, rest.len);
}

fn receive_now(sqe: *const system.Sqe, bytes: []u8) i32 {
    const flags = receive_flags(sqe);
    const arguments = .{ sqe.fd, bytes.ptr, bytes.len, flags, null, null };
    return uninterrupted(linux.recvfrom, arguments);
}

fn received_outcome(operation: *Operation, received: i32, asked: usize) Outcome {
    const sqe = &operation.sqe;
    if (received == errno.again and may_wait(sqe)) return readable;
    if (received < 0) return .{ .done = operation.part_or(received) };
    operation.done += @intCast(received);
    const wants_more = received > 0 and received < asked and is_whole(sqe);
    if (wants_more and may_wait(sqe) and is_stream(sqe.fd)) return readable;
    return partly(operation);
}

/// The end of one message is the end of a receive that is no stream's.
fn is_stream(fd: i32) bool {
    var kind: u32 = 0;
    var len: linux.socklen_t = @sizeOf(u32);
    const bytes = std.mem.asBytes(&kind);
    const outcome = linux.getsockopt(fd, linux.SOL.SOCKET, linux.SO.TYPE, bytes, &len);
    if (system.result(outcome) < 0) return false;
    return kind == linux.SOCK.STREAM or kind == linux.SOCK.SEQPACKET;
}

fn group_of(kernel: *Epoll, sqe: *const system.Sqe) ?*Provided {
    const group = std.enums.fromInt(seam.BufferGroup, sqe.buf_index) orelse return null;
    return kernel.provided.getPtr(group);
}

/// A multishot ends with the buffer that reaches its limit: `optlen` of its entry, where a splice
/// has its source.
fn reaches_limit(sqe: *system.Sqe, received: i32) bool {
    if (sqe.splice_fd_in == 0) return false;
    sqe.splice_fd_in = @max(sqe.splice_fd_in - received, 0);
    return sqe.splice_fd_in == 0;
}

fn receive_selected(kernel: *Epoll, operation: *Operation) Outcome {
    const sqe = &operation.sqe;
    const provided = group_of(kernel, sqe) orelse return .{ .done = errno.nobufs };
    const multishot = sqe.ioprio & system.sqe_flag.receive_multishot != 0;
    for (0..shots_max) |_| {
        const buffer = provided.peek() orelse return .{ .done = errno.nobufs };
        const most = if (sqe.len == 0) buffer.bytes.len else @min(sqe.len, buffer.bytes.len);
        const received = receive_now(sqe, buffer.bytes[0..most]);
        if (received == errno.again and may_wait(sqe)) return readable;
        if (received <= 0) return .{ .done = received };
        provided.consume();
        const filled: attempts.Filled = .{ .id = buffer.id, .len = received };
        if (!multishot or reaches_limit(sqe, received)) return .{ .done_into = filled };
        post_shot(kernel, operation, filled);
        // A buffer that is not full says that there was no more.
        if (received < most or kernel.completions.is_full()) break;
    }
    return readable;
}

fn post_shot(kernel: *Epoll, operation: *const Operation, filled: attempts.Filled) void {
    const flags = filled.flags() | system.cqe_flag.more;
    kernel.completions.post(operation.sqe.user_data, filled.len, flags);
}

pub fn receive_message(kernel: *Epoll, operation: *Operation) Outcome {
    const sqe = &operation.sqe;
    const header: *linux.msghdr = @ptrFromInt(sqe.addr);
    if (sqe.flags & system.sqe_flag.buffer_select != 0) {
        return receive_message_selected(kernel, operation, header);
    }
    if (operation.done == 0) {
        const received = uninterrupted(linux.recvmsg, .{ sqe.fd, header, receive_flags(sqe) });
        return received_outcome(operation, received, length_of(parts_of(sqe)));
    }
    var piece: [1]system.Iovec = undefined;
    const rest = rest_of(parts_of(sqe), operation.done, &piece);
    var message = std.mem.zeroes(linux.msghdr);
    message.iov = @ptrCast(@constCast(rest.ptr));
    message.iovlen = rest.len;
    const received = uninterrupted(linux.recvmsg, .{ sqe.fd, &message, receive_flags(sqe) });
    const outcome = received_outcome(operation, received, length_of(rest));
    if (received > 0) header.flags = message.flags;
    const left = length_of(parts_of(sqe)) - operation.done;
    // The end of one part: those behind it are tried at once.
    if (outcome == .done and received == length_of(rest) and left > 0) {
        return receive_message(kernel, operation);
    }
    return outcome;
}

/// What stands before name, control data and payload: io_uring_prep_recvmsg_multishot(3).
const Layout = linux.io_uring_recvmsg_out;

fn receive_message_selected(
    kernel: *Epoll,
    operation: *Operation,
    header: *const linux.msghdr,
) Outcome {
    const sqe = &operation.sqe;
    const provided = group_of(kernel, sqe) orelse return .{ .done = errno.nobufs };
    const multishot = sqe.ioprio & system.sqe_flag.receive_multishot != 0;
    for (0..shots_max) |_| {
        const buffer = provided.peek() orelse return .{ .done = errno.nobufs };
        const received = if (multishot)
            receive_laid_out(sqe, header, buffer.bytes)
        else
            receive_one(sqe, @constCast(header), buffer.bytes);
        if (received == errno.again and may_wait(sqe)) return readable;
        if (received < 0 or received == 0 and !multishot) return .{ .done = received };
        provided.consume();
        const filled: attempts.Filled = .{ .id = buffer.id, .len = received };
        // An empty message ends a multishot receive, as it does on the real ring.
        const is_empty = received == payload_offset(header);
        if (!multishot or is_empty) return .{ .done_into = filled };
        post_shot(kernel, operation, filled);
        if (kernel.completions.is_full()) break;
    }
    return readable;
}

fn payload_offset(header: *const linux.msghdr) usize {
    return @sizeOf(Layout) + @as(usize, header.namelen) + header.controllen;
}

/// One message into the buffer in place of the header's own parts.
fn receive_one(sqe: *const system.Sqe, header: *linux.msghdr, bytes: []u8) i32 {
    var message = header.*;
    var part: [1]std.posix.iovec = .{.{ .base = bytes.ptr, .len = bytes.len }};
    if (header.iovlen > 0 and header.iov[0].len > 0) {
        part[0].len = @min(bytes.len, header.iov[0].len);
    }
    message.iov = &part;
    message.iovlen = 1;
    const received = uninterrupted(linux.recvmsg, .{ sqe.fd, &message, receive_flags(sqe) });
    if (received < 0) return received;
    header.namelen = message.namelen;
    header.controllen = message.controllen;
    header.flags = message.flags;
    return received;
}

/// | Layout | name | control data | payload |, each as long as the header says.
fn receive_laid_out(sqe: *const system.Sqe, header: *const linux.msghdr, bytes: []u8) i32 {
    const name_at = @sizeOf(Layout);
    const control_at = name_at + @as(usize, header.namelen);
    const payload_at = payload_offset(header);
    if (payload_at > bytes.len) return errno.fault;
    var part: [1]std.posix.iovec = .{.{
        .base = bytes[payload_at..].ptr,
        .len = bytes.len - payload_at,
    }};
    var message: linux.msghdr = .{
        .name = if (header.namelen > 0) @ptrCast(@alignCast(bytes[name_at..].ptr)) else null,
        .namelen = header.namelen,
        .iov = &part,
        .iovlen = 1,
        .control = if (header.controllen > 0) bytes[control_at..].ptr else null,
        .controllen = header.controllen,
        .flags = 0,
    };
    const received = uninterrupted(linux.recvmsg, .{ sqe.fd, &message, receive_flags(sqe) });
    if (received < 0) return received;
    const out: *align(1) Layout = @ptrCast(bytes.ptr);
    out.* = .{
        .namelen = message.namelen,
        .controllen = @intCast(message.controllen),
        .payloadlen = @intCast(received),
        .flags = message.flags,
    };
    return @intCast(payload_at + @min(@as(usize, @intCast(received)), part[0].len));
}

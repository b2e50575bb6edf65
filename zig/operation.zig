//! Operations: the table of kinds, and what a slot of one holds.
//!
//! One kind, one struct: `prepare` fills an SQE, `complete` takes the slot's CQE. Dispatch is a
//! comptime table: no file grows a switch over everything, and a kind without a struct does not
//! compile. A user's kinds are numbered as in `abi.OperationKind`, above those of the engine's own.
//! Steps 5 and 9 of the straight line.

const std = @import("std");
const assert = std.debug.assert;
const abi = @import("abi.zig");
const kernel = @import("kernel.zig");
const transfer = @import("transfer.zig");
const slots = @import("slots.zig");
const send_chain = @import("send_chain.zig");
const Engine = @import("engine.zig").Engine;
const UserData = slots.UserData;
const connection = @import("operation/connection.zig");
const control = @import("operation/control.zig");
const datagram = @import("operation/datagram.zig");
const file = @import("operation/file.zig");
const socket = @import("operation/socket.zig");
const timer = @import("operation/timer.zig");

/// The kind of an operation, as `user_data` carries it. 0 is no kind: a CQE with it is stray.
pub const Kind = enum(u8) {
    none = 0,
    cancel,
    link_timeout,
    time_limit,
    accept,
    accept_retry,
    connect,
    receive,
    receive_block,
    receive_ready,
    receive_cancel,
    send,
    send_cancel,
    shutdown,
    close,
    connect_cancel,
    listener_cancel,
    listener_close,
    deadline,
    deadline_cancel,
    bell,
    bell_cancel,
    companion,
    companion_cancel,
    datagram_receive,
    datagram_send,
    datagram_wait,
    datagram_cancel,
    datagram_close,
    /// From here on: `abi.OperationKind`.
    user_first = 64,
    _,

    /// From here on: members of a chain of sends, by their place; the slot is a segment's.
    pub const member_first = 128;

    pub fn of(user: abi.OperationKind) Kind {
        return @enumFromInt(@intFromEnum(Kind.user_first) + @intFromEnum(user));
    }

    pub fn of_member(place: send_chain.Place) Kind {
        return @enumFromInt(member_first + @as(u8, place));
    }

    comptime {
        assert(@intFromEnum(Kind.user_first) + kinds <= member_first);
    }
};

fn Own(comptime kind: Kind) type {
    return switch (kind) {
        .cancel => control.Cancel,
        .link_timeout => timer.LinkTimeout,
        .time_limit => timer.TimeLimit,
        .accept => connection.Accept,
        .accept_retry => timer.AcceptRetry,
        .connect => connection.Connect,
        .receive => connection.Receive,
        .receive_block => connection.ReceiveBlock,
        .receive_ready => connection.ReceiveReady,
        .receive_cancel => connection.ReceiveCancel,
        .send => connection.Send,
        .send_cancel => connection.SendCancel,
        .shutdown => connection.Shutdown,
        .close => connection.Close,
        .connect_cancel => connection.ConnectCancel,
        .listener_cancel => connection.ListenerCancel,
        .listener_close => connection.ListenerClose,
        .deadline => timer.Deadline,
        .deadline_cancel => timer.DeadlineCancel,
        .bell => control.Bell,
        .bell_cancel => control.BellCancel,
        .companion => control.Companion,
        .companion_cancel => control.CompanionCancel,
        .datagram_receive => datagram.Receive,
        .datagram_send => datagram.Send,
        .datagram_wait => datagram.Wait,
        .datagram_cancel => datagram.Cancel,
        .datagram_close => datagram.Close,
        .none, .user_first, _ => unreachable,
    };
}

fn User(comptime kind: abi.OperationKind) type {
    return switch (kind) {
        .nop => control.Nop,
        .read => file.Read,
        .write => file.Write,
        .readv => file.Readv,
        .writev => file.Writev,
        .fsync => file.Fsync,
        .datasync => file.Datasync,
        .openat => file.Openat,
        .close => file.Close,
        .statx => file.Statx,
        .fallocate => file.Fallocate,
        .ftruncate => file.Ftruncate,
        .sync_file_range => file.SyncFileRange,
        .socket => socket.Socket,
        .bind => socket.Bind,
        .listen => socket.Listen,
        .accept => socket.Accept,
        .connect => socket.Connect,
        .send => socket.Send,
        .recv => socket.Recv,
        .sendmsg => socket.Sendmsg,
        .recvmsg => socket.Recvmsg,
        .shutdown => socket.Shutdown,
        .poll => socket.Poll,
        .timeout => timer.Timeout,
        .splice => file.Splice,
        .rename => file.Rename,
        .unlink => file.Unlink,
        .mkdir => file.Mkdir,
        .link => file.Link,
        .symlink => file.Symlink,
        .read_fixed => file.ReadFixed,
        .write_fixed => file.WriteFixed,
    };
}

pub const kinds = @typeInfo(abi.OperationKind).@"enum".fields.len;

/// Hands a CQE to its operation. What has no kind is counted as stale and ignored (I3).
pub fn complete(engine: *Engine, cqe: *const kernel.Cqe) void {
    const user_data: UserData = @bitCast(cqe.user_data);
    const number = @intFromEnum(user_data.kind);
    if (number >= Kind.member_first) {
        const place: send_chain.Place = @intCast(number - Kind.member_first);
        return engine.member_complete(user_data, place, cqe);
    }
    if (number >= @intFromEnum(Kind.user_first)) return engine.settle(user_data, cqe);
    switch (user_data.kind) {
        .none, .user_first, _ => engine.stale(cqe),
        inline else => |kind| Own(kind).complete(engine, user_data, cqe),
    }
}

/// Fills the SQE of a user's operation from its slot.
pub fn prepare(sqe: *kernel.Sqe, operation: *Operation) void {
    switch (operation.kind) {
        inline else => |kind| User(kind).prepare(sqe, operation),
    }
    if (operation.option(.registered_file)) sqe.flags |= kernel.sqe_flag.fixed_file;
}

/// queued ──flush──▶ submitted ──last CQE──▶ (retired)
///   │                   └─ its time limit still runs: over ──that one's CQE──▶ (retired)
///   └─ cancelled first: a NOP goes in its place, withdrawn
/// in_stream ──its segment ends──▶ (retired)
/// offloaded ──its outcome is posted, or a cancel──▶ (retired)
/// queued ──flush, a timer──▶ timed ──its time has come, or a cancel──▶ (retired)
pub const Stage = enum(u8) { queued, submitted, withdrawn, over, in_stream, offloaded, timed };

/// A user's operation: one slot from start to its last CQE, its memory until the turn after.
pub const Operation = struct {
    kind: abi.OperationKind,
    /// Bits of `abi.OperationOption`, as the arguments had them.
    options: u32 = 0,
    /// It has a time-out of its own, `arguments.timeout_ms`.
    timed: bool = false,
    stage: Stage = .queued,
    cancelled: bool = false,
    /// Done by a plain system call; `plain_result` stands for the NOP that went in its place.
    plain: bool = false,
    plain_result: i32 = 0,
    /// Its time-out fired.
    timed_out: bool = false,
    limit: timer.TimeLimit.State = .none,
    /// A member of a chain behind another one.
    follows: bool = false,
    /// That one has not settled: a cancel would not find this one (K4).
    waits: bool = false,
    cancel_tries: u8 = 0,
    next: Successor = .{},
    /// Position in an atomic batch: members after this one that must be pushed with it.
    followers: u32 = 0,
    /// Unset for a NOP, which has none.
    arguments: abi.Arguments,
    /// | Prefix | input | NUL | output |, see `layout`.
    block: transfer.Block = .{},
    input_len: u32 = 0,
    started_ns: u64 = 0,
    dirty: slots.Link = .{},

    /// A fresh slot: all but the arguments, which not every kind has and which are half of it.
    pub fn reset(operation: *Operation, kind: abi.OperationKind) void {
        inline for (@typeInfo(Operation).@"struct".fields) |field| {
            if (field.defaultValue()) |value| @field(operation, field.name) = value;
        }
        operation.kind = kind;
    }

    /// The next member of its chain, if any.
    const Successor = struct { index: u32 = 0, generation: u32 = 0 };

    /// What the kernel reads besides the bytes, in front of them.
    const Prefix = extern struct {
        address: kernel.SocketAddress,
        header: kernel.MessageHeader,
        part: kernel.Iovec,
        duration: kernel.Timespec,
        timeout: kernel.Timespec,
    };

    const input_offset = std.mem.alignForward(usize, @sizeOf(Prefix), 64);

    /// Bytes of block for so much input and output; timeouts and the like need the prefix only.
    /// Control data lies at the end of the block.
    pub fn block_size(operation: *const Operation, input_len: u32, output_len: u32) usize {
        const size = output_offset(input_len) + output_len;
        if (!operation.option(.descriptors)) return size;
        const control_at = std.mem.alignForward(usize, size, kernel.rights.alignment);
        return control_at + kernel.rights.size_of(operation.arguments.extra);
    }

    fn output_offset(input_len: u32) usize {
        return std.mem.alignForward(usize, input_offset + input_len + 1, 64);
    }

    fn prefix(operation: *Operation) *Prefix {
        assert(operation.block.bytes.len >= @sizeOf(Prefix));
        return @ptrCast(@alignCast(operation.block.bytes.ptr));
    }

    pub fn input(operation: *Operation) []u8 {
        return operation.block.bytes[input_offset..][0..operation.input_len];
    }

    pub fn output(operation: *Operation) []u8 {
        const end = operation.block.bytes.len - operation.control_size();
        return operation.block.bytes[output_offset(operation.input_len)..end];
    }

    fn control_size(operation: *const Operation) usize {
        if (!operation.option(.descriptors)) return 0;
        return kernel.rights.size_of(operation.arguments.extra);
    }

    /// What goes with a message besides its bytes.
    pub fn control(operation: *Operation) []align(kernel.rights.alignment) u8 {
        const bytes = operation.block.bytes;
        return @alignCast(bytes[bytes.len - operation.control_size() ..]);
    }

    /// Descriptors that came with a message and were not taken yet.
    pub fn received_descriptors(operation: *Operation) kernel.rights.Iterator {
        if (operation.kind != .recvmsg or !operation.option(.descriptors)) {
            return kernel.rights.iterate(&.{});
        }
        const bytes = operation.control();
        const written = operation.prefix().header.controllen;
        return kernel.rights.iterate(bytes[0..@min(bytes.len, written)]);
    }

    /// None came, or they are somebody else's from here on.
    pub fn forget_descriptors(operation: *Operation) void {
        if (operation.kind != .recvmsg or !operation.option(.descriptors)) return;
        operation.prefix().header.controllen = 0;
    }

    pub fn option(operation: *const Operation, comptime bit: abi.OperationOption) bool {
        return operation.options >> @intFromEnum(bit) & 1 != 0;
    }

    /// A send in a connection's queue: the slot of its segment stands in `arguments`, which it
    /// needs for nothing else, and so do the bytes sent when it has settled.
    pub fn begin_send(operation: *Operation, segment: u32, now_ns: u64) void {
        operation.arguments = std.mem.zeroes(abi.Arguments);
        operation.arguments.extra = segment;
        operation.stage = .in_stream;
        operation.started_ns = now_ns;
    }

    pub fn end_send(operation: *Operation, bytes_sent: u64) void {
        operation.arguments.offset = @floatFromInt(bytes_sent);
    }

    /// Where the kernel reads or writes the operation's bytes.
    pub fn data_address(operation: *Operation) u64 {
        if (operation.option(.native_memory)) return @intFromFloat(operation.arguments.address);
        if (operation.block.is_none()) return 0; // nothing to move
        if (operation.writes_out()) return @intFromPtr(operation.input().ptr);
        return @intFromPtr(operation.output().ptr);
    }

    pub fn writes_out(operation: *const Operation) bool {
        return switch (operation.kind) {
            .write, .writev, .send, .sendmsg => true,
            else => false,
        };
    }

    /// Position in a file; all ones is the descriptor's own (io_uring_enter(2)).
    pub fn position(operation: *const Operation) u64 {
        return position_of(operation.arguments.offset);
    }

    pub fn position_second(operation: *const Operation) u64 {
        return position_of(operation.arguments.offset_second);
    }

    fn position_of(offset: f64) u64 {
        return if (offset < 0) std.math.maxInt(u64) else @intFromFloat(offset);
    }

    /// The first path, NUL-terminated: by the input's own NUL, or the one behind the input.
    pub fn path_address(operation: *Operation) u64 {
        return @intFromPtr(operation.input().ptr);
    }

    pub fn path_second_address(operation: *Operation) u64 {
        return @intFromPtr(operation.input().ptr) + operation.arguments.extra + 1;
    }

    /// The vectors in native memory, or the one piece that stands for them.
    pub fn vectors(operation: *Operation) []kernel.Iovec {
        if (operation.option(.native_memory)) {
            // `calls.zig` has turned the pairs of numbers into vectors in place.
            const parts: [*]kernel.Iovec = @ptrCast(@alignCast(operation.input().ptr));
            return parts[0 .. operation.input_len / @sizeOf(kernel.Iovec)];
        }
        const part = &operation.prefix().part;
        const bytes = operation.data_address();
        part.* = .{ .base = @ptrFromInt(bytes), .len = operation.arguments.length };
        return part[0..1];
    }

    pub fn message_header(operation: *Operation) *kernel.MessageHeader {
        const parts = operation.vectors();
        const header = &operation.prefix().header;
        header.* = std.mem.zeroes(kernel.MessageHeader);
        header.iov = parts.ptr;
        header.iovlen = parts.len;
        if (operation.kind == .recvmsg) {
            const address = operation.socket_address();
            header.name = @ptrCast(&address.bytes);
            header.namelen = address.bytes.len;
        } else if (operation.option(.addressed)) {
            const address = operation.socket_address();
            header.name = @ptrCast(&address.bytes);
            header.namelen = address.len;
        }
        if (operation.option(.descriptors)) {
            header.control = operation.control().ptr;
            header.controllen = kernel.rights.room_for(operation.arguments.extra);
        }
        return header;
    }

    pub fn socket_address(operation: *Operation) *kernel.SocketAddress {
        return &operation.prefix().address;
    }

    /// recvmsg leaves the length of the name in its header.
    pub fn received_address(operation: *Operation) kernel.SocketAddress {
        var address = operation.socket_address().*;
        if (operation.kind == .recvmsg) address.len = operation.prefix().header.namelen;
        return address;
    }

    pub fn duration(operation: *Operation) *const kernel.Timespec {
        operation.prefix().duration = timespec(operation.arguments.offset);
        return &operation.prefix().duration;
    }

    pub fn timeout_duration(operation: *Operation) *const kernel.Timespec {
        operation.prefix().timeout = timespec(operation.arguments.timeout_ms);
        return &operation.prefix().timeout;
    }

    fn timespec(milliseconds: f64) kernel.Timespec {
        const nanoseconds: u64 = @intFromFloat(milliseconds * std.time.ns_per_ms);
        return .{
            .sec = @intCast(nanoseconds / std.time.ns_per_s),
            .nsec = @intCast(nanoseconds % std.time.ns_per_s),
        };
    }
};

test "every kind of the boundary has a struct, and numbers that fit a kind" {
    inline for (@typeInfo(abi.OperationKind).@"enum".fields, 0..) |field, i| {
        try std.testing.expectEqual(i, field.value); // counters are arrays over the kinds
        const kind: abi.OperationKind = @enumFromInt(field.value);
        try std.testing.expect(@hasDecl(User(kind), "prepare"));
        try std.testing.expect(@intFromEnum(Kind.of(kind)) >= @intFromEnum(Kind.user_first));
    }
}

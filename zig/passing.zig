//! Passing: descriptors that travel with a connection's bytes over a Unix socket. unix(7)
//!
//! Sent, they go with the first byte of their send. They are duplicated when the call comes, so
//! that the caller may close his own at once, and the duplicates go when the send is over.
//! Received, they come with the receive that takes the first byte that they were sent with. Such a
//! connection receives by one RECVMSG after the other, which has control data of its own (I1); the
//! next one is armed when JavaScript has taken what came. What it has not taken when the next turn
//! begins is closed and counted (I4). Called by `receiving.zig`, `send_queue.zig`,
//! `send_start.zig`, `calls.zig`, `engine.zig` and `teardown.zig`.

const std = @import("std");
const assert = std.debug.assert;
const abi = @import("abi.zig");
const seam = @import("kernel.zig");
const slots = @import("slots.zig");
const segments = @import("segment.zig");
const socket = @import("operation/connection.zig");
const transfer = @import("transfer.zig");
const mutation = @import("testing/mutation.zig");
const Connection = @import("connection.zig").Connection;
const Engine = @import("engine.zig").Engine;
const Segment = segments.Segment;
const errno = seam.errno;
const rights = seam.rights;

// Receiving ------------------------------------------------------------------------------------

/// The kernel never passes more at a time, so none is lost for want of room here; and room for
/// credentials, which a socket from elsewhere may have asked for (SO_PASSCRED).
const control_size = rights.size_of(abi.descriptors_max) + 64;

/// What the kernel writes besides the bytes.
const Message = extern struct {
    header: seam.MessageHeader,
    control: [control_size]u8 align(rights.alignment),
};

pub const Passing = struct {
    /// A `Message`; none if descriptors were not asked for.
    block: transfer.Block = .{},
    /// Descriptors came that nobody has taken: nothing is received until somebody has.
    waiting: bool = false,
    laden: slots.Link = .{},

    pub fn is_on(passing: *const Passing) bool {
        return !passing.block.is_none();
    }

    fn message(passing: *const Passing) *Message {
        return @ptrCast(@alignCast(passing.block.bytes.ptr));
    }

    fn received(passing: *const Passing) rights.Iterator {
        const arrived = passing.message();
        const len = @min(arrived.header.controllen, control_size);
        return rights.iterate(arrived.control[0..len]);
    }
};

/// Connections with descriptors that were told and not taken.
pub const Laden = slots.Queue(Connection, "laden");

/// From the next receive on. 0 or an errno.
pub fn enable(connection: *Connection, engine: *Engine) i32 {
    const passing = &connection.passing;
    if (passing.is_on()) return 0;
    passing.block = engine.transfers.acquire(@sizeOf(Message)) catch return errno.nomem;
    return 0;
}

/// Bytes into a buffer that the kernel selects, descriptors into the connection's own memory.
pub fn prepare(
    connection: *Connection,
    engine: *const Engine,
    sqe: *seam.Sqe,
    file: socket.File,
    user_data: slots.UserData,
) void {
    assert(!connection.passing.waiting);
    const message = connection.passing.message();
    message.header = std.mem.zeroes(seam.MessageHeader);
    message.header.control = &message.control;
    message.header.controllen = control_size;
    const group = engine.buffers.shape.group;
    socket.ReceiveMessage.prepare(sqe, file, &message.header, group, user_data);
}

/// Bytes came. What came with them is told before them, if `told`; else it is nobody's.
pub fn on_message(connection: *Connection, engine: *Engine, index: u32, told: bool) void {
    const passing = &connection.passing;
    const flags = passing.message().header.flags;
    if (flags & seam.socket_flag.control_truncated != 0) {
        // Who has lost some no longer knows what the bytes are about.
        engine.counters.descriptors_truncated += 1;
        drop(connection, engine);
        return connection.fail(engine, index, errno.mfile);
    }
    var count: i32 = 0;
    var descriptors = passing.received();
    while (descriptors.next()) |_| count += 1;
    if (count == 0) return;
    if (!told) return drop(connection, engine);
    passing.waiting = true;
    engine.laden.push(&engine.connections, index);
    engine.record(.descriptors, index, count, 0, 0);
}

/// Their number; from here on they are the caller's.
pub fn take(connection: *Connection, engine: *Engine, index: u32, out: []i32) i32 {
    const passing = &connection.passing;
    if (!passing.waiting) return 0;
    var count: usize = 0;
    var descriptors = passing.received();
    while (descriptors.next()) |fd| : (count += 1) {
        if (count == out.len) return errno.inval; // none is taken
        out[count] = fd;
    }
    settle(connection, engine, index);
    engine.laden.remove(&engine.connections, index);
    return @intCast(count);
}

fn settle(connection: *Connection, engine: *Engine, index: u32) void {
    connection.passing.message().header.controllen = 0;
    connection.passing.waiting = false;
    engine.mark(index); // the next receive
}

/// Start of a turn: JavaScript has read the records of the last one.
pub fn drop_untaken(engine: *Engine) void {
    while (engine.laden.pop(&engine.connections)) |index| {
        const connection = engine.connections.at(index);
        drop(connection, engine);
        settle(connection, engine, index);
    }
}

fn drop(connection: *Connection, engine: *Engine) void {
    engine.counters.descriptors_dropped += close_received(connection, &engine.kernel);
    connection.passing.message().header.controllen = 0;
}

fn close_received(connection: *const Connection, kernel: ?*seam.Kernel) u32 {
    var count: u32 = 0;
    var descriptors = connection.passing.received();
    while (descriptors.next()) |fd| : (count += 1) close(kernel, fd);
    return count;
}

/// The connection is gone: nothing is armed any more.
pub fn release(connection: *Connection, engine: *Engine, index: u32) void {
    if (!connection.passing.is_on()) return;
    engine.laden.remove(&engine.connections, index);
    if (connection.passing.waiting) drop(connection, engine);
    engine.transfers.release(&connection.passing.block);
}

// Sending --------------------------------------------------------------------------------------

/// What a message needs besides its bytes; control data lies behind it.
const Parcel = extern struct {
    header: seam.MessageHeader,
    part: seam.Iovec,

    comptime {
        assert(@sizeOf(Parcel) % rights.alignment == 0);
    }

    fn control(block: *const transfer.Block) []align(rights.alignment) u8 {
        return @alignCast(block.bytes[@sizeOf(Parcel)..]);
    }
};

/// Duplicates of `descriptors` go with the segment's first byte. 0 or an errno, then of none.
pub fn attach(engine: *Engine, segment: *Segment, descriptors: []align(1) const i32) i32 {
    if (descriptors.len == 0) return 0;
    if (descriptors.len > abi.descriptors_max) return errno.inval;
    const count: u32 = @intCast(descriptors.len);
    const size = @sizeOf(Parcel) + rights.size_of(count);
    segment.parcel = engine.transfers.acquire(size) catch return errno.nomem;
    var duplicates: [abi.descriptors_max]i32 = undefined;
    for (descriptors, 0..) |fd, i| {
        duplicates[i] = engine.kernel.duplicate(fd);
        if (duplicates[i] >= 0) continue;
        for (duplicates[0..i]) |made| engine.kernel.close_fd(made);
        engine.transfers.release(&segment.parcel);
        return duplicates[i];
    }
    rights.write(Parcel.control(&segment.parcel), duplicates[0..count]);
    return 0;
}

/// It has descriptors, and they have not left: without a byte that was sent they do not.
pub fn is_laden(segment: *const Segment) bool {
    return !segment.parcel.is_none() and segment.sent == 0;
}

/// The message that takes the descriptors along, with the segment's first bytes.
pub fn header(segment: *Segment, bytes: []const u8) *const seam.MessageHeader {
    assert(is_laden(segment) and bytes.len > 0);
    const parcel: *Parcel = @ptrCast(@alignCast(segment.parcel.bytes.ptr));
    const control = Parcel.control(&segment.parcel);
    parcel.part = .{ .base = bytes.ptr, .len = bytes.len };
    parcel.header = std.mem.zeroes(seam.MessageHeader);
    parcel.header.iov = @ptrCast(&parcel.part);
    parcel.header.iovlen = 1;
    parcel.header.control = control.ptr;
    parcel.header.controllen = control.len;
    return &parcel.header;
}

/// The kernel will not pass these; the stream is as good as before. unix(7), sendmsg(2)
pub fn is_refused(segment: *const Segment, code: i32) bool {
    if (!is_laden(segment)) return false;
    return switch (code) {
        errno.inval, errno.toomanyrefs, errno.perm, errno.acces => true,
        else => false,
    };
}

/// The segment is over.
pub fn detach(engine: *Engine, segment: *Segment) void {
    if (segment.parcel.is_none()) return;
    close_parcel(segment, &engine.kernel);
    engine.transfers.release(&segment.parcel);
}

fn close_parcel(segment: *const Segment, kernel: ?*seam.Kernel) void {
    var descriptors = rights.iterate(Parcel.control(&segment.parcel));
    while (descriptors.next()) |fd| close(kernel, fd);
}

// The end of a ring ----------------------------------------------------------------------------

/// Closes what is left; `kernel` is null if it is closed.
pub fn close_all(engine: *Engine, kernel: ?*seam.Kernel) void {
    for (0..engine.connections.fresh) |at| {
        const index: u32 = @intCast(at);
        if (!engine.connections.is_claimed(index)) continue;
        const connection = engine.connections.at(index);
        if (connection.passing.waiting) _ = close_received(connection, kernel);
    }
    for (0..engine.segments.fresh) |at| {
        const index: u32 = @intCast(at);
        if (!engine.segments.is_claimed(index)) continue;
        const segment = engine.segments.at(index);
        if (!segment.parcel.is_none()) close_parcel(segment, kernel);
    }
}

fn close(kernel: ?*seam.Kernel, fd: i32) void {
    if (mutation.is(.keep_descriptor)) return;
    if (kernel) |open| open.close_fd(fd) else seam.linux.close(fd);
}

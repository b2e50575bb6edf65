//! What a send of memory in place is given: arguments checked, parts listed, slots claimed.
//!
//! Everything that can be refused is refused here, before anything is queued. Memory that could be
//! taken away comes as bytes and is copied; memory that cannot comes as an address. Called by
//! `calls.zig`; `forward` by whoever sends on what another connection has received.

const std = @import("std");
const assert = std.debug.assert;
const abi = @import("abi.zig");
const seam = @import("kernel.zig");
const segments = @import("segment.zig");
const passing = @import("passing.zig");
const send_queue = @import("send_queue.zig");
const registration = @import("registration.zig");
const Connection = @import("connection.zig").Connection;
const Engine = @import("engine.zig").Engine;
const Operation = @import("operation.zig").Operation;
const Segment = segments.Segment;
const errno = seam.errno;

/// IOV_MAX of writev(2).
const parts_max = 1024;
/// Below is no memory: sysctl vm.mmap_min_addr.
const address_min = 4096;

/// Starts a user's send; `arguments` and `input` as `bu_connection_send` says. The slot of the
/// operation that settles when all of it was sent and its memory is free, or an errno.
pub fn start(
    connection: *Connection,
    engine: *Engine,
    index: u32,
    arguments: *const abi.Arguments,
    input: []const u8,
) i32 {
    if (connection.shut != .none or connection.stage == .closing) return errno.shutdown;
    if (connection.has_failed()) return errno.pipe;
    const slot = engine.segments.claim() orelse return errno.nomem;
    const segment = engine.segments.at(slot);
    segment.* = .{
        .connection = index,
        .generation = engine.connections.generation(index),
        .owner = .none,
        .chained = has(arguments, .chained),
        .reports = has(arguments, .report_break),
        .copies = has(arguments, .copy),
    };
    const outcome = load(connection, engine, slot, segment, arguments, input);
    if (outcome < 0) {
        engine.transfers.release(&segment.block);
        passing.detach(engine, segment);
        engine.segments.retire(slot);
        return outcome;
    }
    send_queue.push(connection, engine, index, slot);
    return outcome;
}

fn has(arguments: *const abi.Arguments, comptime flag: abi.SendFlag) bool {
    return arguments.flags >> @intFromEnum(flag) & 1 != 0;
}

/// Descriptors stand before the rest of the input.
fn load(
    connection: *const Connection,
    engine: *Engine,
    slot: u32,
    segment: *Segment,
    arguments: *const abi.Arguments,
    input: []const u8,
) i32 {
    if (arguments.mode > abi.descriptors_max) return errno.inval;
    const size = arguments.mode * @sizeOf(i32);
    if (size > input.len) return errno.inval;
    if (size > 0 and !is_unix(connection, engine)) return errno.notsup;
    const descriptors = std.mem.bytesAsSlice(i32, input[0..size]);
    const attached = passing.attach(engine, segment, descriptors);
    if (attached < 0) return attached;
    return begin(engine, slot, segment, arguments, input[size..]);
}

fn is_unix(connection: *const Connection, engine: *Engine) bool {
    var address: seam.SocketAddress = undefined;
    const outcome = engine.kernel.address(connection.fd, .local, &address);
    return outcome >= 0 and address.is_unix();
}

fn begin(
    engine: *Engine,
    slot: u32,
    segment: *Segment,
    arguments: *const abi.Arguments,
    input: []const u8,
) i32 {
    const bit = @intFromEnum(abi.OperationOption.native_memory);
    const outcome = if (arguments.extra > 0)
        list(engine, segment, arguments.extra, input)
    else if (arguments.options >> bit & 1 != 0)
        lend(segment, arguments)
    else
        copy(engine, segment, input);
    if (outcome < 0) return outcome;
    // No byte, nothing that they could go with.
    if (segment.size == 0 and !segment.parcel.is_none()) return errno.inval;
    const index = engine.operations.claim() orelse return errno.nomem;
    const operation = engine.operations.at(index);
    operation.reset(.send);
    operation.begin_send(slot, engine.kernel.now_ns());
    segment.owner = .{ .operation = index };
    engine.control.generation = engine.operations.generation(index);
    return @intCast(index);
}

/// One piece of memory that stays.
fn lend(segment: *Segment, arguments: *const abi.Arguments) i32 {
    const address = registration.whole(arguments.address) orelse return errno.inval;
    if (arguments.length == 0) return 0;
    if (address < address_min) return errno.inval;
    segment.single = .{ .base = @ptrFromInt(address), .len = arguments.length };
    use_single(segment);
    return 0;
}

/// One piece that does not.
fn copy(engine: *Engine, segment: *Segment, input: []const u8) i32 {
    segment.copied = true;
    if (input.len == 0) return 0;
    segment.block = engine.transfers.acquire(input.len) catch return errno.nomem;
    @memcpy(segment.block.bytes, input);
    segment.single = .{ .base = segment.block.bytes.ptr, .len = input.len };
    use_single(segment);
    return 0;
}

fn use_single(segment: *Segment) void {
    segment.parts = @as(*[1]seam.Iovec, &segment.single);
    segment.size = segment.single.len;
}

/// | count pairs of address and length | copied bytes |: a part without an address is the next of
/// the copied bytes.
fn list(engine: *Engine, segment: *Segment, count: u32, input: []const u8) i32 {
    if (count > parts_max or input.len < count * @sizeOf(seam.Iovec)) return errno.inval;
    segment.block = engine.transfers.acquire(input.len) catch return errno.nomem;
    @memcpy(segment.block.bytes, input);
    const pairs: [*]align(1) const [2]f64 = @ptrCast(input.ptr);
    const parts: [*]seam.Iovec = @ptrCast(@alignCast(segment.block.bytes.ptr));
    var copied = segment.block.bytes[count * @sizeOf(seam.Iovec) ..];
    segment.copied = true;
    for (pairs[0..count], parts[0..count]) |pair, *part| {
        const address = registration.whole(pair[0]) orelse return errno.inval;
        const len = registration.whole(pair[1]) orelse return errno.inval;
        if (address == 0) {
            if (len > copied.len) return errno.inval;
            part.* = .{ .base = copied.ptr, .len = len };
            copied = copied[len..];
        } else {
            if (address < address_min) return errno.inval;
            part.* = .{ .base = @ptrFromInt(address), .len = len };
            segment.copied = false;
        }
        segment.size += len;
    }
    segment.parts = parts[0..count];
    return if (copied.len == 0) 0 else errno.inval;
}

comptime {
    assert(@sizeOf(seam.Iovec) == 2 * @sizeOf(f64));
}

/// Whether anything may still be queued.
pub fn takes(connection: *const Connection) bool {
    return connection.shut == .none and connection.stage != .closing and !connection.has_failed();
}

/// Queues bytes that another connection has received: where they lie, if `stay`, else a copy.
/// `lent.release` hears of it once they are sent, or never will be. False: the connection takes
/// nothing any more, or there is no slot or memory; then the bytes are still the caller's.
pub fn forward(
    connection: *Connection,
    engine: *Engine,
    index: u32,
    bytes: []const u8,
    stay: bool,
    lent: segments.Lent,
) bool {
    if (!takes(connection)) return false;
    const slot = engine.segments.claim() orelse return false;
    const segment = engine.segments.at(slot);
    segment.* = .{
        .connection = index,
        .generation = engine.connections.generation(index),
        .owner = .{ .lent = lent },
        .single = .{ .base = bytes.ptr, .len = bytes.len },
    };
    if (stay) use_single(segment) else if (copy(engine, segment, bytes) < 0) {
        engine.segments.retire(slot);
        return false;
    }
    send_queue.push(connection, engine, index, slot);
    return true;
}

//! After fork(2): the child owns nothing, and the parent's ring goes on (I11).
//!
//! On the real kernel, through the C symbols, as whoever forks a process that holds a ring would
//! meet them: every symbol that takes a ring refuses with EPERM before it touches anything.
//! JavaScript itself never runs in such a child: the engine keeps its own memory out of it.

const std = @import("std");
const abi = @import("../abi.zig");
const exports = @import("../exports.zig");
const rings = @import("../rings.zig");
const seam = @import("../kernel.zig");
const fork = @import("../kernel/fork.zig");
const errno = seam.errno;
const expectEqual = std.testing.expectEqual;

const seconds_max = 10;
const refused_all = 0;
const entered = 1;
const opened = 2;

/// The ring, and what a deallocator gets.
const Held = struct { handle: u32, slab: ?*anyopaque, context: ?*anyopaque };

fn open() !Held {
    var options = std.mem.zeroes(abi.RingOptions);
    options.entries = 8;
    options.operations = 16;
    options.connections = 16;
    options.receive_buffers = 8;
    options.staging_blocks = 16;
    var info: abi.RingInfo = undefined;
    try expectEqual(@as(i32, 0), exports.bu_ring_open(&options, &info));
    return .{
        .handle = info.handle,
        .slab = @ptrFromInt(@as(usize, @intFromFloat(info.slab_address))),
        .context = @ptrFromInt(@as(usize, @intFromFloat(info.context))),
    };
}

/// A call that names the ring, with nothing behind its pointers: a guard that came too late would
/// meet that.
fn call(comptime symbol: anytype, handle: u32) i32 {
    const Arguments = std.meta.ArgsTuple(@TypeOf(symbol));
    var arguments: Arguments = undefined;
    inline for (@typeInfo(Arguments).@"struct".fields, 0..) |field, i| {
        arguments[i] = switch (@typeInfo(field.type)) {
            .int, .float => 0,
            .optional => null,
            .pointer => @ptrFromInt(std.mem.alignBackward(usize, 1 << 46, 4096)),
            else => comptime unreachable,
        };
    }
    arguments[0] = handle;
    const outcome = @call(.auto, symbol, arguments);
    if (@TypeOf(outcome) != f64) return outcome;
    // An address, of which 0 is none; a count, of which there is no negative one.
    return if (outcome <= 0) errno.perm else 0;
}

fn in_child(held: Held) u8 {
    inline for (@typeInfo(exports).@"struct".decls) |declaration| {
        const symbol = @field(exports, declaration.name);
        if (comptime takes_ring(@TypeOf(symbol))) {
            if (call(symbol, held.handle) != errno.perm) return entered;
        }
    }
    // The child's copies of the parent's ArrayBuffers die with it: that ends nothing.
    exports.bu_buffer_released(held.slab, held.context);
    exports.bu_memory_released(held.slab, held.context);
    exports.bu_slab_released(held.slab, held.context);
    var options = std.mem.zeroes(abi.RingOptions);
    var info: abi.RingInfo = undefined;
    return if (exports.bu_ring_open(&options, &info) == errno.perm) refused_all else opened;
}

fn takes_ring(comptime Symbol: type) bool {
    if (@typeInfo(Symbol) != .@"fn") return false;
    const parameters = @typeInfo(Symbol).@"fn".params;
    const is_ring = parameters.len > 0 and parameters[0].type == u32;
    return is_ring and Symbol != @TypeOf(exports.bu_abi_echo);
}

test "a forked child is refused by every call, and the parent's operations go on" {
    const held = try open();
    const engine = try rings.of(held.handle);
    const timer = start: {
        engine.arguments.* = std.mem.zeroes(abi.Arguments);
        engine.arguments.offset = 20;
        engine.arguments.timeout_ms = -1;
        const kind = @intFromEnum(abi.OperationKind.timeout);
        break :start exports.bu_operation_start(held.handle, kind, null, 0);
    };
    try expectEqual(@as(i32, 0), exports.bu_ring_flush(held.handle));
    try expectEqual(fork.End{ .returned = refused_all }, try fork.run(seconds_max, held, in_child));
    const count = exports.bu_ring_turn(held.handle, 1000, 0);
    try expectEqual(@as(i32, 1), count);
    try expectEqual(@as(u32, @intCast(timer)), engine.records[0].index);
    try expectEqual(errno.time, engine.records[0].result);
    try expectEqual(@as(i32, 0), exports.bu_ring_close(held.handle, 1000));
    // The last view: with it the memory goes, which the child's did not take along.
    exports.bu_slab_released(held.slab, held.context);
    try expectEqual(errno.badf, exports.bu_ring_turn(held.handle, 0, 0));
}

//! Registered buffers of the epoll twin: a table that fixed reads and writes name places of.
//!
//! They save nothing here, but their bounds hold: an operation moves only what lies in the buffer
//! that it names when it starts (io_uring_register(2)).

const std = @import("std");
const abi = @import("../../abi.zig");
const system = @import("../linux.zig");
const errno = system.errno;

pub const Buffers = struct {
    places: [abi.registered_max][]u8 = @splat(&.{}),
    count: u32 = 0,

    pub fn register(buffers: *Buffers, count: u32) i32 {
        if (buffers.count > 0) return errno.busy;
        if (count == 0 or count > buffers.places.len) return errno.inval;
        buffers.count = count;
        return 0;
    }

    pub fn set(buffers: *Buffers, place: u32, bytes: []u8) i32 {
        if (place >= buffers.count) return errno.inval;
        buffers.places[place] = bytes;
        return 0;
    }

    pub fn unregister(buffers: *Buffers) void {
        @memset(buffers.places[0..buffers.count], &.{});
        buffers.count = 0;
    }

    /// Whether an entry's bytes lie in the buffer that it names.
    pub fn hold(buffers: *const Buffers, sqe: *const system.Sqe) bool {
        if (sqe.buf_index >= buffers.count) return false;
        const bytes = buffers.places[sqe.buf_index];
        const offset = std.math.sub(u64, sqe.addr, @intFromPtr(bytes.ptr)) catch return false;
        return offset <= bytes.len and sqe.len <= bytes.len - offset;
    }
};

test "only what lies in the buffer that is named is moved" {
    var buffers: Buffers = .{};
    var memory: [16]u8 = undefined;
    var sqe = std.mem.zeroes(system.Sqe);
    sqe.addr = @intFromPtr(&memory[4]);
    sqe.len = 4;
    try std.testing.expect(!buffers.hold(&sqe));
    try std.testing.expectEqual(@as(i32, 0), buffers.register(2));
    try std.testing.expectEqual(errno.busy, buffers.register(2));
    try std.testing.expect(!buffers.hold(&sqe));
    try std.testing.expectEqual(errno.inval, buffers.set(2, &memory));
    try std.testing.expectEqual(@as(i32, 0), buffers.set(0, memory[2..8]));
    try std.testing.expect(buffers.hold(&sqe));
    sqe.len = 5;
    try std.testing.expect(!buffers.hold(&sqe));
    sqe.addr = @intFromPtr(&memory);
    sqe.len = 1;
    try std.testing.expect(!buffers.hold(&sqe));
    sqe.addr = std.math.maxInt(u64);
    try std.testing.expect(!buffers.hold(&sqe));
    buffers.unregister();
    try std.testing.expectEqual(@as(i32, 0), buffers.register(1));
}

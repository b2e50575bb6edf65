//! A bounded first-in, first-out queue of bytes: one direction of a simulated connection.
//!
//! Stands for everything between the two ends of a stream: socket buffers and what is on the way.
//! Owns no memory. Never blocks and never grows: what does not fit is not taken.

const std = @import("std");
const assert = std.debug.assert;

pub const ByteQueue = struct {
    memory: []u8,
    head: usize = 0,
    len: usize = 0,
    /// All that was ever taken; what is no longer here was read or lost.
    written: u64 = 0,
    /// All that was ever read.
    taken: u64 = 0,

    pub fn space(queue: *const ByteQueue) usize {
        return queue.memory.len - queue.len;
    }

    /// Takes as much from the front of `bytes` as fits.
    pub fn write(queue: *ByteQueue, bytes: []const u8) usize {
        const taken = @min(bytes.len, queue.space());
        if (taken == 0) return 0;
        const start = (queue.head + queue.len) % queue.memory.len;
        const first = @min(taken, queue.memory.len - start);
        @memcpy(queue.memory[start..][0..first], bytes[0..first]);
        @memcpy(queue.memory[0 .. taken - first], bytes[first..taken]);
        queue.len += taken;
        queue.written += taken;
        return taken;
    }

    pub fn read(queue: *ByteQueue, out: []u8) usize {
        const count = @min(out.len, queue.len);
        if (count == 0) return 0;
        const first = @min(count, queue.memory.len - queue.head);
        @memcpy(out[0..first], queue.memory[queue.head..][0..first]);
        @memcpy(out[first..count], queue.memory[0 .. count - first]);
        queue.head = (queue.head + count) % queue.memory.len;
        queue.len -= count;
        queue.taken += count;
        return count;
    }

    /// Loses what was written last, so that `count` bytes remain.
    pub fn truncate(queue: *ByteQueue, count: usize) void {
        assert(count <= queue.len);
        queue.len = count;
    }
};

test "bytes come out in the order in which they went in, across the wrap" {
    var memory: [7]u8 = undefined;
    var queue: ByteQueue = .{ .memory = &memory };
    var written: u8 = 0;
    var seen: u32 = 0;
    for (0..200) |i| {
        var source: [7]u8 = undefined;
        for (&source, 0..) |*byte, j| byte.* = written +% @as(u8, @intCast(j));
        written +%= @intCast(queue.write(source[0 .. i % 8]));
        var out: [7]u8 = undefined;
        const count = queue.read(out[0 .. (i * 3) % 8]);
        for (out[0..count]) |byte| {
            try std.testing.expectEqual(@as(u8, @truncate(seen)), byte);
            seen += 1;
        }
    }
    try std.testing.expect(seen > 100);
}

test "a full queue takes nothing and a truncated one keeps its front" {
    var memory: [4]u8 = undefined;
    var queue: ByteQueue = .{ .memory = &memory };
    try std.testing.expectEqual(@as(usize, 4), queue.write("abcdef"));
    try std.testing.expectEqual(@as(usize, 0), queue.write("g"));
    queue.truncate(2);
    var out: [4]u8 = undefined;
    try std.testing.expectEqualStrings("ab", out[0..queue.read(&out)]);
}

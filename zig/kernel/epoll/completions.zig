//! The epoll twin's completion queue: what was posted and not yet taken, in order.
//!
//! Beyond its entries it goes on in memory that is touched only then: like the real ring it drops
//! nothing (IORING_FEAT_NODROP) and counts what came too much. There is always room: whoever makes
//! completions stops at a full queue, but for those that operations in flight end with.

const std = @import("std");
const assert = std.debug.assert;
const Cqe = @import("../linux.zig").Cqe;

pub const Completions = struct {
    memory: []Cqe,
    entries: u32,
    head: u32 = 0,
    count: u32 = 0,
    overflowed: u32 = 0,

    pub fn post(queue: *Completions, user_data: u64, result: i32, flags: u32) void {
        assert(queue.count < queue.memory.len);
        if (queue.is_full()) queue.overflowed +%= 1;
        const at = queue.wrap(@as(usize, queue.head) + queue.count);
        queue.memory[at] = .{ .user_data = user_data, .res = result, .flags = flags };
        queue.count += 1;
    }

    pub fn is_full(queue: *const Completions) bool {
        return queue.count >= queue.entries;
    }

    pub fn room(queue: *const Completions) u32 {
        return queue.entries -| queue.count;
    }

    /// The oldest, as far as they lie in one run.
    pub fn run(queue: *const Completions) []const Cqe {
        return queue.memory[queue.head..][0..@min(queue.count, queue.memory.len - queue.head)];
    }

    pub fn advance(queue: *Completions, count: u32) void {
        assert(count <= queue.count);
        queue.count -= count;
        // An empty queue begins anew, so that it stays in the same few lines of the cache.
        const at = queue.wrap(@as(usize, queue.head) + count);
        queue.head = if (queue.count == 0) 0 else @intCast(at);
    }

    /// Once around at most: a division would cost as much as the rest.
    fn wrap(queue: *const Completions, at: usize) usize {
        return if (at < queue.memory.len) at else at - queue.memory.len;
    }
};

test "completions come in order, also those that are too many" {
    var memory: [8]Cqe = undefined;
    var queue: Completions = .{ .memory = &memory, .entries = 4 };
    var next: u64 = 0;
    var expected: u64 = 0;
    for (0..50) |round| {
        const posted = 1 + round % 5;
        for (0..posted) |_| {
            if (queue.count == memory.len) break;
            queue.post(next, 0, 0);
            next += 1;
        }
        const taken: u32 = @intCast(@min(queue.run().len, 1 + round % 4));
        for (queue.run()[0..taken]) |*cqe| {
            try std.testing.expectEqual(expected, cqe.user_data);
            expected += 1;
        }
        queue.advance(taken);
        try std.testing.expectEqual(4 -| queue.count, queue.room());
    }
    try std.testing.expect(queue.overflowed > 0);
    try std.testing.expectEqual(next, expected + queue.count);
}

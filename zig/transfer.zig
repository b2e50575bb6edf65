//! Memory of operations: what the kernel reads and writes on behalf of JavaScript's own memory.
//!
//! JavaScript's memory can be taken away under the kernel, so an operation works on a block from
//! here: copied in before, copied out after (I1). Three sizes of blocks lie in one mapping that is
//! reserved at open and touched as needed; what is larger, or comes when a size is used up, gets a
//! mapping of its own. A block goes back in the turn after its operation settled.

const std = @import("std");
const builtin = @import("builtin");
const assert = std.debug.assert;
const memory = @import("memory.zig");
const poison = @import("poison.zig");

/// Sizes and numbers: small structures and paths, pages of files, large pieces.
const classes = [_]struct { size: u32, count: u32 }{
    .{ .size = 4096 + 512, .count = 4096 },
    .{ .size = 64 * 1024 + 512, .count = 512 },
    .{ .size = 1024 * 1024 + 512, .count = 32 },
};

const own_mapping = classes.len;
const none = std.math.maxInt(u32);

pub const Block = struct {
    bytes: []u8 = &.{},
    class: u8 = none_class,
    index: u32 = 0,

    const none_class = 255;

    pub fn is_none(block: *const Block) bool {
        return block.class == none_class;
    }
};

pub const Pool = struct {
    mapping: memory.Mapping,
    next: [classes.len][]u32,
    free: [classes.len]u32 = @splat(none),
    fresh: [classes.len]u32 = @splat(0),
    used: u32 = 0,

    pub fn next_count() usize {
        var count: usize = 0;
        for (classes) |class| count += class.count;
        return count;
    }

    pub fn init(next: []u32) error{OutOfMemory}!Pool {
        var size: usize = 0;
        var links: [classes.len][]u32 = undefined;
        var at: usize = 0;
        for (classes, 0..) |class, i| {
            size += @as(usize, class.size) * class.count;
            links[i] = next[at..][0..class.count];
            at += class.count;
        }
        return .{ .mapping = try memory.map(size), .next = links };
    }

    pub fn deinit(pool: *Pool) void {
        memory.unmap(pool.mapping);
    }

    pub fn acquire(pool: *Pool, size: usize) error{OutOfMemory}!Block {
        for (classes, 0..) |class, i| {
            if (size > class.size) continue;
            const index = pool.take(i) orelse break;
            pool.used += 1;
            const bytes = pool.place(i, index)[0..size];
            poison.acquired(bytes);
            return .{ .bytes = bytes, .class = @intCast(i), .index = index };
        }
        const mapping = try memory.map(size);
        pool.used += 1;
        return .{ .bytes = mapping[0..size], .class = own_mapping };
    }

    fn take(pool: *Pool, class: usize) ?u32 {
        const index = pool.free[class];
        if (index != none) {
            pool.free[class] = pool.next[class][index];
            return index;
        }
        if (pool.fresh[class] == classes[class].count) return null;
        pool.fresh[class] += 1;
        return pool.fresh[class] - 1;
    }

    fn place(pool: *Pool, class: usize, index: u32) []u8 {
        var start: usize = 0;
        for (classes[0..class]) |before| start += @as(usize, before.size) * before.count;
        const size = classes[class].size;
        return pool.mapping[start + @as(usize, index) * size ..][0..size];
    }

    pub fn release(pool: *Pool, block: *Block) void {
        if (block.is_none()) return;
        assert(pool.used > 0);
        pool.used -= 1;
        // Whoever still reads it in a test finds it out.
        if (builtin.is_test) @memset(block.bytes, 0xaa);
        if (block.class == own_mapping) {
            const size = std.mem.alignForward(usize, block.bytes.len, memory.page_size);
            const start: [*]align(std.heap.page_size_min) u8 = @alignCast(block.bytes.ptr);
            memory.unmap(start[0..size]);
        } else {
            poison.released(block.bytes);
            pool.next[block.class][block.index] = pool.free[block.class];
            pool.free[block.class] = block.index;
        }
        block.* = .{};
    }
};

test "blocks of every size are apart, and come back" {
    const links = try std.testing.allocator.alloc(u32, Pool.next_count());
    defer std.testing.allocator.free(links);
    var pool: Pool = try .init(links);
    defer pool.deinit();
    var blocks: [8]Block = undefined;
    const sizes = [8]usize{ 0, 1, 4608, 4609, 66048, 66049, 1049088, 1049089 };
    for (&blocks, sizes, 0..) |*block, size, i| {
        block.* = try pool.acquire(size);
        try std.testing.expectEqual(size, block.bytes.len);
        @memset(block.bytes, @intCast(i));
    }
    for (&blocks, 0..) |*block, i| {
        for (block.bytes) |byte| try std.testing.expectEqual(@as(u8, @intCast(i)), byte);
    }
    const bytes = blocks[3].bytes;
    for (&blocks) |*block| pool.release(block);
    try std.testing.expectEqual(@as(u32, 0), pool.used);
    pool.release(&blocks[0]); // twice does nothing
    poison.acquired(bytes); // for the look at it
    try std.testing.expect(std.mem.allEqual(u8, bytes, poison.pattern));
}

test "a size that is used up gets mappings of its own" {
    const links = try std.testing.allocator.alloc(u32, Pool.next_count());
    defer std.testing.allocator.free(links);
    var pool: Pool = try .init(links);
    defer pool.deinit();
    var blocks: [classes[2].count + 1]Block = undefined;
    for (&blocks) |*block| block.* = try pool.acquire(1 << 20);
    try std.testing.expectEqual(@as(u8, own_mapping), blocks[classes[2].count].class);
    for (&blocks) |*block| pool.release(block);
    try std.testing.expectEqual(@as(u32, 0), pool.used);
}

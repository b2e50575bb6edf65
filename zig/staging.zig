//! Staging: blocks of 2 KiB in the slab that hold written bytes until the kernel has taken them.
//!
//! One pool per ring; each connection has two chains of blocks: one filling, one in flight (I5). A
//! block goes back at its send's last CQE and not before (I1). Pool and chains never allocate; an
//! empty pool is back-pressure, not an error. Called by `connection.zig` only.

const std = @import("std");
const assert = std.debug.assert;
const abi = @import("abi.zig");
const poison = @import("poison.zig");
const mutation = @import("testing/mutation.zig");

pub const block_size = abi.staging_block_size;
const none = std.math.maxInt(u32);

pub const Pool = struct {
    memory: []u8,
    /// Block → the block after it in its chain or in the free list.
    next: []u32,
    free_head: u32 = none,
    /// Blocks below were used at least once; the pages above are untouched.
    fresh: u32 = 0,
    used: u32 = 0,

    pub fn init(memory: []u8, next: []u32) Pool {
        assert(memory.len == next.len * block_size);
        return .{ .memory = memory, .next = next };
    }

    pub fn available(pool: *const Pool) u32 {
        return @as(u32, @intCast(pool.next.len)) - pool.used;
    }

    pub fn acquire(pool: *Pool) ?u32 {
        const block = pool.free_head;
        if (block != none) {
            pool.free_head = pool.next[block];
        } else {
            if (pool.fresh == pool.next.len) return null;
            pool.fresh += 1;
        }
        const taken = if (block != none) block else pool.fresh - 1;
        pool.next[taken] = none;
        pool.used += 1;
        poison.acquired(pool.bytes(taken));
        return taken;
    }

    pub fn release(pool: *Pool, block: u32) void {
        assert(pool.used > 0);
        assert(block < pool.fresh);
        poison.released(pool.bytes(block));
        pool.next[block] = pool.free_head;
        pool.free_head = block;
        pool.used -= 1;
    }

    pub fn bytes(pool: *Pool, block: u32) []align(block_size) u8 {
        assert(block < pool.fresh);
        return @alignCast(pool.memory[@as(usize, block) * block_size ..][0..block_size]);
    }
};

/// Blocks in the order of the stream. All but the last are full; `skip` bytes of the first are
/// gone already.
pub const Chain = struct {
    head: u32 = none,
    tail: u32 = none,
    skip: u32 = 0,
    size: u32 = 0,

    pub fn is_empty(chain: *const Chain) bool {
        return chain.size == 0;
    }

    /// Copies as much as fits into blocks that can be had, at most `bytes.len`.
    pub fn append(chain: *Chain, pool: *Pool, bytes: []const u8) u32 {
        var taken: u32 = 0;
        while (taken < bytes.len) {
            const used = (chain.skip + chain.size) % block_size;
            if (used == 0) {
                const block = pool.acquire() orelse break;
                if (chain.tail == none) chain.head = block else pool.next[chain.tail] = block;
                chain.tail = block;
            }
            const rest: u32 = @intCast(@min(bytes.len - taken, block_size - used));
            @memcpy(pool.bytes(chain.tail)[used..][0..rest], bytes[taken..][0..rest]);
            taken += rest;
            chain.size += rest;
        }
        return taken;
    }

    /// The unsent bytes of the first block.
    pub fn first(chain: *const Chain, pool: *Pool) []const u8 {
        assert(chain.size > 0);
        const len = @min(chain.size, block_size - chain.skip);
        return pool.bytes(chain.head)[chain.skip..][0..len];
    }

    /// Drops `count` bytes from the front and gives their blocks back.
    pub fn consume(chain: *Chain, pool: *Pool, count: u32) void {
        assert(count <= chain.size);
        var rest = count;
        while (rest > 0) {
            const here = @min(rest, @min(chain.size, block_size - chain.skip));
            chain.skip += here;
            chain.size -= here;
            rest -= here;
            if (chain.skip == block_size or chain.size == 0) chain.drop_head(pool);
        }
        assert(chain.size > 0 or chain.head == none);
        if (mutation.is(.delay_remainder)) chain.delay_first(pool);
    }

    /// What is left of the first block changes places with as much of the second.
    fn delay_first(chain: *Chain, pool: *Pool) void {
        const left = block_size - chain.skip;
        if (chain.skip == 0 or chain.size < 2 * left) return;
        const later = pool.bytes(pool.next[chain.head])[0..left];
        for (pool.bytes(chain.head)[chain.skip..], later) |*a, *b| std.mem.swap(u8, a, b);
    }

    fn drop_head(chain: *Chain, pool: *Pool) void {
        const block = chain.head;
        chain.head = pool.next[block];
        chain.skip = 0;
        if (chain.head == none) chain.tail = none;
        pool.release(block);
    }

    pub fn clear(chain: *Chain, pool: *Pool) void {
        chain.consume(pool, chain.size);
    }

    pub const Iterator = struct {
        pool: *Pool,
        block: u32,
        skip: u32,
        left: u32,

        pub fn next(iterator: *Iterator) ?[]const u8 {
            if (iterator.left == 0) return null;
            const len = @min(iterator.left, block_size - iterator.skip);
            const part = iterator.pool.bytes(iterator.block)[iterator.skip..][0..len];
            iterator.left -= len;
            iterator.skip = 0;
            iterator.block = iterator.pool.next[iterator.block];
            return part;
        }
    };

    pub fn iterate(chain: *const Chain, pool: *Pool) Iterator {
        return .{ .pool = pool, .block = chain.head, .skip = chain.skip, .left = chain.size };
    }
};

const test_blocks = 8;

const TestPool = struct {
    memory: [test_blocks * block_size]u8 align(block_size) = undefined,
    next: [test_blocks]u32 = undefined,

    fn pool(storage: *TestPool) Pool {
        return .init(&storage.memory, &storage.next);
    }
};

test "a chain gives back its bytes in order, whatever the sizes, and all its blocks" {
    const storage = try std.testing.allocator.create(TestPool);
    defer std.testing.allocator.destroy(storage);
    var pool = storage.pool();
    var prng: std.Random.DefaultPrng = .init(7);
    const random = prng.random();
    var chain: Chain = .{};
    var written: u32 = 0;
    var read: u32 = 0;
    for (0..20_000) |_| {
        var source: [5000]u8 = undefined;
        const len = random.uintAtMost(usize, source.len);
        for (source[0..len], 0..) |*byte, i| byte.* = @truncate((written +% i) *% 31);
        written += chain.append(&pool, source[0..len]);
        var count = random.uintAtMost(u32, chain.size);
        var seen: u32 = 0;
        var iterator = chain.iterate(&pool);
        while (iterator.next()) |part| for (part) |byte| {
            try std.testing.expectEqual(@as(u8, @truncate((read + seen) *% 31)), byte);
            seen += 1;
        };
        try std.testing.expectEqual(chain.size, seen);
        if (random.boolean()) count = chain.size;
        chain.consume(&pool, count);
        read += count;
    }
    chain.clear(&pool);
    try std.testing.expectEqual(@as(u32, 0), pool.used);
}

test "a block that went back holds nothing any more" {
    const storage = try std.testing.allocator.create(TestPool);
    defer std.testing.allocator.destroy(storage);
    var pool = storage.pool();
    const block = pool.acquire().?;
    const bytes = pool.bytes(block);
    @memset(bytes, 'x');
    pool.release(block);
    poison.acquired(bytes); // for the look at it
    try std.testing.expect(std.mem.allEqual(u8, bytes, poison.pattern));
}

test "an empty pool takes what fits and says so" {
    const storage = try std.testing.allocator.create(TestPool);
    defer std.testing.allocator.destroy(storage);
    var pool = storage.pool();
    var chain: Chain = .{};
    const source: [test_blocks * block_size + 1]u8 = @splat(1);
    try std.testing.expectEqual(@as(u32, source.len - 1), chain.append(&pool, &source));
    try std.testing.expectEqual(@as(u32, 0), chain.append(&pool, &source));
    try std.testing.expectEqual(@as(u32, 0), pool.available());
    chain.clear(&pool);
    try std.testing.expectEqual(@as(u32, test_blocks), pool.available());
}

//! Blocks: native memory that goes from thread to thread with a post.
//!
//!     address of the mapping          + block_header_size
//!     | Header: counts, links         | bytes ...            |
//!
//! A block is its mapping; JavaScript and the queues name it by its address. Its owners are
//! counted: the ArrayBuffer over its bytes, the mailbox or the ring that has it on its way. Whoever
//! comes last unmaps it, on any thread. Called by `mailbox.zig` and `posts.zig`.

const std = @import("std");
const assert = std.debug.assert;
const abi = @import("abi.zig");
const memory = @import("memory.zig");
const linux = @import("kernel.zig").linux;

/// Beyond it the answer is no memory anyway.
const size_max = 1 << 34;

comptime {
    assert(@sizeOf(Header) <= abi.block_header_size);
    assert(abi.block_header_size % memory.page_size == 0); // the bytes are page-aligned
}

pub const Header = struct {
    /// Atomic.
    owners: u32,
    /// Of the whole mapping.
    size: usize,
    /// Its place in a ring's list of delivered blocks.
    node: std.DoublyLinkedList.Node = .{},

    pub fn address(header: *Header) f64 {
        return @floatFromInt(@intFromPtr(header));
    }

    pub fn behind(node: *std.DoublyLinkedList.Node) *Header {
        return @fieldParentPtr("node", node);
    }

    pub fn length(header: *const Header) f64 {
        return @floatFromInt(header.size - abi.block_header_size);
    }

    pub fn share(header: *Header) void {
        // Relaxed: whoever shares holds one.
        const before = @atomicRmw(u32, &header.owners, .Add, 1, .monotonic);
        assert(before > 0);
    }

    pub fn release(header: *Header) void {
        // Acquire/release: the last owner unmaps what all others have written.
        const before = @atomicRmw(u32, &header.owners, .Sub, 1, .acq_rel);
        assert(before > 0);
        if (before > 1) return;
        const mapping: [*]align(std.heap.page_size_min) u8 = @ptrCast(@alignCast(header));
        memory.unmap(mapping[0..header.size]);
        _ = @atomicRmw(u32, &mapped_count, .Sub, 1, .monotonic);
    }
};

/// Blocks of this process that are mapped. Atomic.
var mapped_count: u32 = 0;

pub fn count() u32 {
    return @atomicLoad(u32, &mapped_count, .monotonic);
}

/// A block of so many bytes with one owner, zeroed; null if there is no memory.
pub fn map(size: f64) ?*Header {
    if (!(size >= 1 and size <= size_max) or size != @trunc(size)) return null;
    const bytes: usize = @intFromFloat(size);
    const mapping = memory.map(abi.block_header_size + bytes) catch return null;
    const header: *Header = @ptrCast(mapping.ptr);
    header.* = .{ .owners = 1, .size = abi.block_header_size + bytes };
    _ = @atomicRmw(u32, &mapped_count, .Add, 1, .monotonic);
    return header;
}

// Crossing into JavaScript -----------------------------------------------------------------------

/// A Worker can be terminated after the call that hands it a block and before the one that makes
/// an ArrayBuffer of it, whose deallocator would free it. Until JavaScript says that it has one,
/// the block stands here with its thread; what a thread that is gone has left is freed by the next
/// that comes by. Atomic words, 0 for a free place:
///
///     63           40 39                                0
///     +--------------+----------------------------------+
///     |    thread    |      number of the first page    |
///     +--------------+----------------------------------+
var crossing: [64]u64 = @splat(0);

const Crossing = packed struct(u64) {
    page: u40,
    thread: u24, // PID_MAX_LIMIT is 2^22
};

fn crossing_of(header: *const Header) Crossing {
    return .{
        .page = @truncate(@intFromPtr(header) / memory.page_size),
        .thread = @truncate(@as(u32, @bitCast(linux.thread_id()))),
    };
}

/// JavaScript of this thread is about to get the block.
pub fn hand_over(header: *Header) void {
    free_left_behind();
    const own: u64 = @bitCast(crossing_of(header));
    for (&crossing) |*place| {
        // Release: who frees it sees the header.
        if (@cmpxchgStrong(u64, place, 0, own, .acq_rel, .monotonic) == null) return;
    }
    // So many at a time: this one would be lost with its thread, as without all this.
}

/// It has an ArrayBuffer now, or gave the block up: its deallocator counts from here on.
pub fn handed_over(header: *const Header) void {
    const page = crossing_of(header).page;
    for (&crossing) |*place| {
        const word = @atomicLoad(u64, place, .acquire);
        if (word == 0 or @as(Crossing, @bitCast(word)).page != page) continue;
        _ = @cmpxchgStrong(u64, place, word, 0, .acq_rel, .monotonic);
        return;
    }
}

fn free_left_behind() void {
    for (&crossing) |*place| {
        const word = @atomicLoad(u64, place, .acquire);
        if (word == 0) continue;
        const left: Crossing = @bitCast(word);
        if (!linux.thread_is_gone(@intCast(left.thread))) continue;
        // Acquire: of two who come by one frees it.
        if (@cmpxchgStrong(u64, place, word, 0, .acq_rel, .monotonic) != null) continue;
        const header: *Header = @ptrFromInt(@as(usize, left.page) * memory.page_size);
        header.release();
    }
}

/// The header behind an address that `map` has given out.
pub fn of(address: f64) ?*Header {
    if (!(address >= memory.page_size and address < 1 << 53)) return null;
    const number: usize = @intFromFloat(address);
    if (number % memory.page_size != 0) return null;
    return @ptrFromInt(number);
}

test "a block is unmapped by the last of its owners" {
    const before = count();
    const header = map(5).?;
    try std.testing.expectEqual(@as(f64, 5), header.length());
    header.share();
    header.release();
    try std.testing.expectEqual(before + 1, count());
    header.release();
    try std.testing.expectEqual(before, count());
}

test "sizes and addresses that cannot be are refused" {
    for ([_]f64{ 0, -1, 0.5, 1 << 40, std.math.nan(f64), std.math.inf(f64) }) |size| {
        try std.testing.expectEqual(@as(?*Header, null), map(size));
    }
    for ([_]f64{ 0, -4096, 12, 1 << 60, std.math.nan(f64) }) |address| {
        try std.testing.expectEqual(@as(?*Header, null), of(address));
    }
}

test "a block that never reached its ArrayBuffer is freed once its thread is gone" {
    const before = count();
    const Doomed = struct {
        fn take(reaches: bool) void {
            const header = map(100) orelse return;
            hand_over(header);
            if (reaches) handed_over(header);
        }
    };
    const lost = try std.Thread.spawn(.{}, Doomed.take, .{false});
    lost.join();
    const kept = try std.Thread.spawn(.{}, Doomed.take, .{true});
    kept.join();
    try std.testing.expect(count() >= before + 1);
    // The thread may live a moment longer than its function.
    for (0..1000) |_| {
        const own = map(1).?;
        hand_over(own);
        handed_over(own);
        own.release();
        if (count() == before + 1) break;
        std.Thread.yield() catch continue;
    }
    try std.testing.expectEqual(before + 1, count()); // the one that somebody has
    for (crossing) |word| try std.testing.expectEqual(0, word);
}

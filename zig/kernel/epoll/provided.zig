//! The kernel's side of a provided-buffer ring, as the epoll twin plays it.
//!
//! The ring is the same memory as the real one's: entries from a head that only this side moves to
//! a tail that the other side publishes. The oldest buffer is looked at before the socket is asked
//! and leaves the ring only with data in it.

const std = @import("std");
const assert = std.debug.assert;

/// struct io_uring_buf in io_uring_register(2).
const Entry = extern struct { address: u64, len: u32, id: u16, reserved: u16 };

pub const Buffer = struct { bytes: []u8, id: u16 };

pub const Provided = struct {
    entries: []Entry = &.{},
    head: u16 = 0,
    /// What the other side has added, and how much of it is ours to use.
    added: u16 = 0,
    tail: u16 = 0,

    pub fn init(memory: []align(4096) u8, count: u32) Provided {
        const entries: [*]Entry = @ptrCast(memory.ptr);
        assert(std.math.isPowerOfTwo(count) and memory.len >= count * @sizeOf(Entry));
        return .{ .entries = entries[0..count] };
    }

    pub fn is_registered(provided: *const Provided) bool {
        return provided.entries.len > 0;
    }

    fn entry(provided: *const Provided, at: u16) *Entry {
        return &provided.entries[at & (provided.entries.len - 1)];
    }

    pub fn add(provided: *Provided, bytes: []u8, id: u16) void {
        assert(provided.added -% provided.head < provided.entries.len);
        provided.entry(provided.added).* = .{
            .address = @intFromPtr(bytes.ptr),
            .len = @intCast(bytes.len),
            .id = id,
            .reserved = 0,
        };
        provided.added +%= 1;
    }

    pub fn publish(provided: *Provided) void {
        provided.tail = provided.added;
    }

    /// The next buffer, still in the ring; null is ENOBUFS.
    pub fn peek(provided: *const Provided) ?Buffer {
        if (provided.head == provided.tail) return null;
        const next = provided.entry(provided.head);
        const start: [*]u8 = @ptrFromInt(next.address);
        return .{ .bytes = start[0..next.len], .id = next.id };
    }

    pub fn consume(provided: *Provided) void {
        assert(provided.head != provided.tail);
        provided.head +%= 1;
    }
};

test "buffers leave the ring in the order in which they were published" {
    var memory: [64]u8 align(4096) = undefined;
    var bytes: [4][8]u8 = undefined;
    var provided: Provided = .init(&memory, 4);
    var next: u16 = 0;
    for (0..70_000) |round| {
        provided.add(&bytes[round % 4], @intCast(round % 4));
        if (round == 0) try std.testing.expectEqual(@as(?Buffer, null), provided.peek());
        provided.publish();
        if (round % 4 != 3) continue; // four at a time, past the end of the 16 bits
        for (0..4) |_| {
            try std.testing.expectEqual(next % 4, provided.peek().?.id);
            try std.testing.expectEqual(@as(usize, 8), provided.peek().?.bytes.len);
            provided.consume();
            next +%= 1;
        }
        try std.testing.expectEqual(@as(?Buffer, null), provided.peek());
    }
}

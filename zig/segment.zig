//! A segment: memory in a connection's send queue that is sent from where it is, never copied.
//!
//! A user's buffers on loan, a chain of them, a copy that the library made of what it cannot lend,
//! or a receive buffer or a pipe on its way to another connection. The bytes that were written
//! before it travel with it, so that the queue is a list of segments with staged bytes between
//! them. A segment outlives its place in the queue, and its connection, until the kernel has given
//! all of its memory back (I1, K8). Pure: who queues and submits is `send_queue.zig`.

const std = @import("std");
const assert = std.debug.assert;
const seam = @import("kernel.zig");
const slots = @import("slots.zig");
const staging = @import("staging.zig");
const transfer = @import("transfer.zig");
const send_chain = @import("send_chain.zig");
const mutation = @import("testing/mutation.zig");
const Engine = @import("engine.zig").Engine;
const Iovec = seam.Iovec;

pub const none = std.math.maxInt(u32);

/// Bytes of one submission at most, so that progress is seen.
pub const submission_max = 256 * 1024;

/// Who is told when the memory is free again, once.
pub const Owner = union(enum) {
    none,
    /// A user's operation: the slot that settles.
    operation: u32,
    lent: Lent,
};

/// Memory that the library itself lends, as a receive buffer that is forwarded. `release` may
/// queue, mark and write one record; it does not submit.
pub const Lent = struct {
    release: *const Release,
    context: u64,

    /// So much of `size` was sent.
    pub const Release = fn (engine: *Engine, context: u64, sent: u64, size: u64) void;
};

pub const Segment = struct {
    /// The one behind it in the queue.
    next: u32 = none,
    /// Whose queue, by slot and generation: it may be gone when the last notification comes.
    connection: u32,
    generation: u32,
    owner: Owner,
    /// Bytes that were written before it.
    before: staging.Chain = .{},
    parts: []const Iovec = &.{},
    /// Bytes of `parts[0]` that are sent.
    skip: usize = 0,
    size: u64 = 0,
    sent: u64 = 0,
    /// Of a segment that has one part: no block is needed for it.
    single: Iovec = undefined,
    /// Copied bytes and the list of parts.
    block: transfer.Block = .{},
    /// Descriptors that go with the first byte, if any: `passing.zig`.
    parcel: transfer.Block = .{},
    /// Its bytes lie in a pipe and not in memory: `splicing.zig`.
    pipe: ?seam.Pipe = null,
    chain: send_chain.Chain = .{},
    /// Bytes of the window that is in flight.
    window: u64 = 0,
    /// In the queue of those whose owners are to be told.
    finished: slots.Link = .{},
    /// 1 once all of it was sent, 0 if it ended short of that, or the errno.
    result: i32 = 0,
    /// Members are linked, each part a send of its own.
    chained: bool = false,
    /// A break ends it; otherwise the remainder is sent again.
    reports: bool = false,
    /// All of the memory is the library's own: the owner need not wait for notifications.
    copied: bool = false,
    /// No part of it is to be sent without a copy.
    copies: bool = false,
    /// Some of the window in flight is sent without a copy.
    lent: bool = false,
    queued: bool = false,
    /// A submission that the kernel has names its memory.
    flying: bool = false,
    cancelled: bool = false,
    /// Its outcome is known; in the queue it is only a place for the bytes before it.
    over: bool = false,

    pub fn left(segment: *const Segment) u64 {
        return if (segment.over) 0 else segment.size - segment.sent;
    }

    /// What is left, in pieces.
    pub const Pieces = struct {
        parts: []const Iovec,
        skip: usize,

        /// The next bytes that lie together, at most `most` of them; null at the end.
        pub fn next(list: *Pieces, most: usize) ?[]const u8 {
            assert(most > 0);
            while (list.parts.len > 0) {
                const part = list.parts[0];
                if (list.skip == part.len) {
                    list.parts = list.parts[1..];
                    list.skip = 0;
                    continue;
                }
                const piece = part.base[list.skip..][0..@min(most, part.len - list.skip)];
                list.skip += piece.len;
                return piece;
            }
            return null;
        }
    };

    pub fn pieces(segment: *const Segment) Pieces {
        if (segment.over) return .{ .parts = &.{}, .skip = 0 };
        return .{ .parts = segment.parts, .skip = segment.skip };
    }

    /// So many more bytes were sent.
    pub fn advance(segment: *Segment, count: u64) void {
        assert(count <= segment.left());
        segment.sent += count;
        var more = count;
        while (more > 0) {
            const part = segment.parts[0];
            const here = @min(more, part.len - segment.skip);
            segment.skip += here;
            more -= here;
            if (segment.skip < part.len) continue;
            segment.parts = segment.parts[1..];
            segment.skip = 0;
        }
    }

    /// What was asked of a member of the window in flight.
    pub fn member_length(segment: *const Segment, place: send_chain.Place) u64 {
        if (segment.chain.members == 1) return segment.window;
        var list = segment.pieces();
        const position = segment.chain.position_of(place);
        for (0..position) |_| _ = list.next(submission_max) orelse return 0;
        return if (list.next(submission_max)) |piece| piece.len else 0;
    }

    /// Ends it: from here on nothing of it is sent.
    pub fn conclude(segment: *Segment, result: i32) void {
        assert(!segment.over and !segment.flying);
        segment.over = true;
        segment.result = result;
    }

    /// Whether the owner can be told: the kernel has given the memory back, or it is not his.
    pub fn is_free(segment: *const Segment) bool {
        if (mutation.is(.release_loan_early)) return true;
        return segment.copied or segment.chain.promised == 0;
    }
};

const expectEqual = std.testing.expectEqual;

fn part_of(bytes: []const u8) Iovec {
    return .{ .base = bytes.ptr, .len = bytes.len };
}

test "what is left comes in pieces that never cross a part, empty parts left out" {
    var parts: [5]Iovec = undefined;
    for ([_][]const u8{ "", "head", "", "body!", "" }, &parts) |bytes, *part| {
        part.* = part_of(bytes);
    }
    var segment: Segment = .{
        .connection = 0,
        .generation = 0,
        .owner = .none,
        .parts = &parts,
        .size = 9,
    };
    for (0..10) |sent| {
        var text: [9]u8 = undefined;
        var len: usize = 0;
        var list = segment.pieces();
        while (list.next(3)) |piece| {
            @memcpy(text[len..][0..piece.len], piece);
            len += piece.len;
        }
        try std.testing.expectEqualStrings("headbody!"[sent..], text[0..len]);
        try expectEqual(@as(u64, 9 - sent), segment.left());
        if (sent < 9) segment.advance(1);
    }
    segment.conclude(1);
    try expectEqual(@as(u64, 0), segment.left());
}

test "the length of a member is what its piece had when it was submitted" {
    const large: [submission_max + 10]u8 = undefined;
    const parts = [_]Iovec{ part_of("abc"), part_of(&large) };
    var segment: Segment = .{
        .connection = 0,
        .generation = 0,
        .owner = .none,
        .parts = &parts,
        .size = 3 + large.len,
        .window = 3 + large.len,
    };
    const first = segment.chain.start(3, segment.window);
    for ([_]u64{ 3, submission_max, 10 }, 0..) |expected, position| {
        const place = first + @as(send_chain.Place, @intCast(position));
        try expectEqual(expected, segment.member_length(place));
    }
}

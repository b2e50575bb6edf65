//! What a user of a schedule asked to be sent on one connection, and what of it the peer must get.
//!
//! A list of chunks in the order of the calls. Of a chunk all bytes arrive, or, if it was cancelled
//! or broke off, as many as its completion says; the next one follows right behind. As long as it
//! is not known how long a chunk is, what arrives is kept and judged later.

const std = @import("std");
const model = @import("model.zig");
const pattern = @import("pattern.zig");

const Error = error{ Violation, OutOfMemory };

const Chunk = struct {
    position: u64,
    len: u64,
    /// What was sent of it, once that is known.
    sent: ?u64,
    /// It may end before its last byte although the connection goes on.
    may_break: bool,
};

pub const Stream = struct {
    key: u64 = 0,
    chunks: std.ArrayList(Chunk) = .empty,
    /// Bytes of the pattern that were given out.
    offered: u64 = 0,
    /// The chunk that arrives, and how much of it has.
    current: usize = 0,
    seen: u64 = 0,
    /// Bytes that wait to be judged, from `judged` on.
    arrived: std.ArrayList(u8) = .empty,
    judged: usize = 0,
    /// FIN came, and all must have been there before.
    complete: bool = false,
    /// A chunk ended early although nothing but the end of the connection may do that.
    broken: bool = false,

    /// The bytes that are offered next.
    pub fn next(stream: *const Stream, len: usize) []const u8 {
        return pattern.bytes(stream.key, stream.offered, len);
    }

    /// So many of the bytes offered were taken for good.
    pub fn took(stream: *Stream, arena: std.mem.Allocator, len: u64) Error!void {
        if (len == 0) return;
        const position = stream.offered;
        stream.offered += len;
        if (stream.chunks.items.len > stream.current) {
            const last = &stream.chunks.items[stream.chunks.items.len - 1];
            const goes_on = last.position + last.len == position;
            if (!last.may_break and last.sent == last.len and goes_on) {
                last.len += len;
                last.sent = last.len;
                return;
            }
        }
        try stream.chunks.append(arena, .{
            .position = position,
            .len = len,
            .sent = len,
            .may_break = false,
        });
    }

    /// A send of so many of the bytes offered begins; its chunk.
    pub fn begin(stream: *Stream, arena: std.mem.Allocator, len: u64, may_break: bool) Error!usize {
        try stream.chunks.append(arena, .{
            .position = stream.offered,
            .len = len,
            .sent = null,
            .may_break = may_break,
        });
        stream.offered += len;
        return stream.chunks.items.len - 1;
    }

    pub fn cancel(stream: *Stream, chunk: usize) void {
        stream.chunks.items[chunk].may_break = true;
    }

    pub fn end(stream: *Stream, verdict: *model.Verdict, chunk: usize, sent: u64) Error!void {
        const self = &stream.chunks.items[chunk];
        if (self.sent != null) return verdict.violation("a send ended twice", .{});
        if (sent > self.len) return verdict.violation("sent {d} of {d} bytes", .{ sent, self.len });
        const arrived = if (chunk < stream.current) self.len else if (chunk == stream.current)
            stream.seen
        else
            0;
        if (arrived > sent) return verdict.violation("{d} arrived, {d} sent", .{ arrived, sent });
        self.sent = sent;
        try stream.judge(verdict);
    }

    pub fn on_bytes(
        stream: *Stream,
        arena: std.mem.Allocator,
        verdict: *model.Verdict,
        bytes: []const u8,
    ) Error!void {
        try stream.arrived.appendSlice(arena, bytes);
        try stream.judge(verdict);
    }

    fn judge(stream: *Stream, verdict: *model.Verdict) Error!void {
        while (stream.current < stream.chunks.items.len) {
            const chunk = &stream.chunks.items[stream.current];
            if (chunk.sent == null and chunk.may_break) break;
            const limit = chunk.sent orelse chunk.len;
            const waiting = stream.arrived.items[stream.judged..];
            const len: usize = @intCast(@min(limit - stream.seen, waiting.len, pattern.slice_max));
            if (!pattern.matches(stream.key, chunk.position + stream.seen, waiting[0..len])) {
                return verdict.violation("wrong bytes in chunk {d} from {d} on", .{
                    stream.current, stream.seen,
                });
            }
            if (stream.broken and len > 0) {
                return verdict.violation("bytes behind a send that broke off", .{});
            }
            stream.seen += len;
            stream.judged += len;
            if (stream.seen < limit) {
                if (stream.judged == stream.arrived.items.len) break;
                continue;
            }
            if (limit < chunk.len and !chunk.may_break) stream.broken = true;
            stream.current += 1;
            stream.seen = 0;
        } else if (stream.judged < stream.arrived.items.len) {
            return verdict.violation("the peer got more than was written", .{});
        }
        if (stream.judged < stream.arrived.items.len) return;
        stream.arrived.clearRetainingCapacity();
        stream.judged = 0;
    }

    /// Everything is known by now.
    pub fn expect_complete(stream: *const Stream, verdict: *model.Verdict) Error!void {
        for (stream.chunks.items) |chunk| if (chunk.sent == null) {
            return verdict.violation("a send never ended", .{});
        };
        if (!stream.complete or stream.broken) return;
        var left: u64 = 0;
        for (stream.chunks.items[stream.current..]) |chunk| left += chunk.sent.?;
        left -= stream.seen;
        if (left > 0) return verdict.violation("FIN {d} bytes early", .{left});
    }
};

const expectError = std.testing.expectError;

test "a chunk that is cut is followed by the next, and what does not fit is found" {
    var arena_state: std.heap.ArenaAllocator = .init(std.testing.allocator);
    defer arena_state.deinit();
    const arena = arena_state.allocator();
    for ([_]u64{ 0, 40, 100 }) |sent| {
        var verdict: model.Verdict = .{};
        var stream: Stream = .{ .key = 5 };
        try stream.took(arena, 10);
        const cut = try stream.begin(arena, 100, true);
        try stream.took(arena, 20);
        try stream.on_bytes(arena, &verdict, pattern.bytes(5, 0, 10 + sent));
        try stream.on_bytes(arena, &verdict, pattern.bytes(5, 110, 15));
        try stream.end(&verdict, cut, sent);
        stream.complete = true;
        try expectError(error.Violation, stream.expect_complete(&verdict));
        try stream.on_bytes(arena, &verdict, pattern.bytes(5, 125, 5));
        try stream.expect_complete(&verdict);
        try expectError(error.Violation, stream.on_bytes(arena, &verdict, "more"));
    }
}

test "a chunk that is longer or shorter than its completion says is found" {
    var arena_state: std.heap.ArenaAllocator = .init(std.testing.allocator);
    defer arena_state.deinit();
    const arena = arena_state.allocator();
    var verdict: model.Verdict = .{};
    var stream: Stream = .{ .key = 9 };
    const chunk = try stream.begin(arena, 100, true);
    try stream.took(arena, 50);
    try stream.on_bytes(arena, &verdict, pattern.bytes(9, 0, 60));
    try expectError(error.Violation, stream.end(&verdict, chunk, 50));
    var second: Stream = .{ .key = 9 };
    const whole = try second.begin(arena, 100, false);
    try second.on_bytes(arena, &verdict, pattern.bytes(9, 0, 60));
    try expectError(error.Violation, second.end(&verdict, whole, 59));
}

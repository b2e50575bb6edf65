//! The simulated provided-buffer ring: which buffers the kernel may write into, and only those.
//!
//! A buffer is added, published, selected, and added again. Selection takes the oldest published
//! one, as the kernel does. Publishing a buffer overwrites its bytes at once: the kernel may write
//! there whenever it likes, so whoever still reads it sees garbage. Adding a buffer that is in the
//! ring already, or under another address than before, is a violation.

const std = @import("std");
const assert = std.debug.assert;
const BufferGroup = @import("../../kernel.zig").BufferGroup;
const system = @import("../linux.zig");
const errno = system.errno;

/// away ──add──▶ added ──publish──▶ published ──select──▶ away
const State = enum(u8) { away, added, published };

const Buffer = struct { state: State = .away, bytes: []u8 = &.{} };

pub const Selected = struct { id: u16, bytes: []u8 };

pub const Provided = struct {
    /// By id; as many as the ring has entries. Empty until registered.
    buffers: []Buffer = &.{},
    /// Ids in ring order; `added` of them behind the published ones.
    order: []u16 = &.{},
    head: u32 = 0,
    published: u32 = 0,
    added: u32 = 0,

    pub fn init(allocator: std.mem.Allocator, entries: u32) error{OutOfMemory}!Provided {
        const buffers = try allocator.alloc(Buffer, entries);
        errdefer allocator.free(buffers);
        @memset(buffers, .{});
        return .{ .buffers = buffers, .order = try allocator.alloc(u16, entries) };
    }

    pub fn deinit(ring: *Provided, allocator: std.mem.Allocator) void {
        allocator.free(ring.buffers);
        allocator.free(ring.order);
        ring.* = .{};
    }

    /// Null, or what is wrong with it.
    pub fn add(ring: *Provided, bytes: []u8, id: u16) ?[]const u8 {
        if (id >= ring.buffers.len) return "a buffer is added whose id is not below the entries";
        if (bytes.len == 0) return "a buffer without bytes is added";
        const buffer = &ring.buffers[id];
        if (buffer.state != .away) return "a buffer is added that is in the ring already";
        if (buffer.bytes.len > 0 and buffer.bytes.ptr != bytes.ptr) {
            return "a buffer is added under another address than before";
        }
        assert(ring.published + ring.added < ring.order.len); // each id is in it once
        buffer.* = .{ .state = .added, .bytes = bytes };
        const at = (ring.head + ring.published + ring.added) % ring.order.len;
        ring.order[at] = id;
        ring.added += 1;
        return null;
    }

    pub fn publish(ring: *Provided) void {
        while (ring.added > 0) {
            const id = ring.order[(ring.head + ring.published) % ring.order.len];
            assert(ring.buffers[id].state == .added);
            ring.buffers[id].state = .published;
            @memset(ring.buffers[id].bytes, garbage);
            ring.published += 1;
            ring.added -= 1;
        }
    }

    /// The oldest published buffer leaves the ring; null if there is none (ENOBUFS).
    pub fn select(ring: *Provided) ?Selected {
        if (ring.published == 0) return null;
        const id = ring.order[ring.head];
        const buffer = &ring.buffers[id];
        assert(buffer.state == .published);
        buffer.state = .away;
        ring.head = @intCast((ring.head + 1) % ring.order.len);
        ring.published -= 1;
        return .{ .id = id, .bytes = buffer.bytes };
    }
};

/// One ring for each group; some are never registered.
pub const Groups = struct {
    rings: std.EnumArray(BufferGroup, Provided) = .initFill(.{}),

    pub fn register(
        groups: *Groups,
        allocator: std.mem.Allocator,
        group: BufferGroup,
        size_bytes: usize,
        entries: u32,
    ) i32 {
        if (!std.math.isPowerOfTwo(entries) or size_bytes < entries * 16) return errno.inval;
        const ring = groups.of(group);
        if (ring.buffers.len > 0) return errno.exist;
        ring.* = Provided.init(allocator, entries) catch return errno.nomem;
        return 0;
    }

    pub fn deinit(groups: *Groups, allocator: std.mem.Allocator) void {
        for (&groups.rings.values) |*ring| {
            if (ring.buffers.len > 0) ring.deinit(allocator);
        }
    }

    /// Each group has its receives.
    pub fn serves(sqe: *const system.Sqe) bool {
        const group = std.enums.fromInt(BufferGroup, sqe.buf_index) orelse return false;
        return switch (group) {
            .stream => sqe.opcode == .RECV or sqe.opcode == .RECVMSG,
            .block => sqe.opcode == .RECV,
            .datagram => sqe.opcode == .RECVMSG,
        };
    }

    pub fn of(groups: *Groups, group: BufferGroup) *Provided {
        return groups.rings.getPtr(group);
    }
};

/// What a published buffer holds until the kernel writes into it.
pub const garbage: u8 = 0xe5;

test "a buffer can be selected only after it was published, and once" {
    const allocator = std.testing.allocator;
    var ring: Provided = try .init(allocator, 4);
    defer ring.deinit(allocator);
    var memory: [2][8]u8 = @splat(@splat(0));
    try std.testing.expectEqual(@as(?[]const u8, null), ring.add(&memory[1], 1));
    try std.testing.expectEqual(@as(?Selected, null), ring.select());
    ring.publish();
    try std.testing.expectEqual(garbage, memory[1][0]);
    try std.testing.expect(ring.add(&memory[1], 1) != null);
    try std.testing.expectEqual(@as(u16, 1), ring.select().?.id);
    try std.testing.expectEqual(@as(?Selected, null), ring.select());
    try std.testing.expect(ring.add(&memory[0], 1) != null);
    try std.testing.expectEqual(@as(?[]const u8, null), ring.add(&memory[1], 1));
    try std.testing.expect(ring.add(&memory[1], 1) != null);
    try std.testing.expect(ring.add(&memory[0], 4) != null);
}

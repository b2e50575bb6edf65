//! One provided-buffer ring as the real kernel reads it: entries, and a tail that we move.
//!
//! The memory is shared with the kernel, which takes entries from the head as it selects them
//! (struct io_uring_buf_ring in io_uring_register(2)). Used by `uring.zig`, one for each group.

const std = @import("std");
const linux = std.os.linux;
const assert = std.debug.assert;
const abi = @import("../abi.zig");
const BufferGroup = @import("../kernel.zig").BufferGroup;

pub const ProvidedRing = struct {
    /// Null until there is memory.
    entries: ?[*]Entry = null,
    mask: u16 = 0,
    tail: u16 = 0,

    /// The first one's `tail` is the ring's.
    const Entry = extern struct { address: u64, len: u32, id: u16, tail: u16 };

    pub fn registration(
        group: BufferGroup,
        memory: []align(4096) u8,
        entries: u32,
    ) linux.io_uring_buf_reg {
        assert(std.math.isPowerOfTwo(entries) and entries <= abi.receive_buffers_max);
        assert(memory.len >= entries * @sizeOf(Entry));
        return .{
            .ring_addr = @intFromPtr(memory.ptr),
            .ring_entries = entries,
            .bgid = @intFromEnum(group),
            .flags = std.mem.zeroes(@FieldType(linux.io_uring_buf_reg, "flags")),
            .resv = @splat(0),
        };
    }

    /// Over memory that was registered.
    pub fn over(memory: []align(4096) u8, entries: u32) ProvidedRing {
        return .{ .entries = @ptrCast(memory.ptr), .mask = @intCast(entries - 1) };
    }

    pub fn add(ring: *ProvidedRing, bytes: []u8, id: u16) void {
        const entry = &ring.entries.?[ring.tail & ring.mask];
        // Field by field: the first entry's last two bytes are the ring's tail.
        entry.address = @intFromPtr(bytes.ptr);
        entry.len = @intCast(bytes.len);
        entry.id = id;
        ring.tail +%= 1;
    }

    pub fn publish(ring: *ProvidedRing) void {
        // Release: pairs with the kernel's acquire; the entries must be seen before the tail.
        @atomicStore(u16, &ring.entries.?[0].tail, ring.tail, .release);
    }
};

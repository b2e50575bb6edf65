//! Receive buffers for datagrams: each holds the largest one that UDP can carry, and its sender.
//!
//!     | ReceivedMessage | name | control data | payload |
//!
//! One pool per ring. Where multishot RECVMSG is there the kernel selects from a ring of buffers,
//! else each armed receive is given one. A buffer that was delivered comes back at the start of the
//! next turn; nothing of it is lent. What comes back lies on a stack, and only as many as lately
//! were needed are in the ring: few pages are touched. Called by `datagram.zig`.

const std = @import("std");
const assert = std.debug.assert;
const Kernel = @import("kernel.zig").Kernel;

/// A power of two; what one turn can deliver.
pub const count = 256;
/// Largest payload: UDP over IPv6 has 65527 bytes, and coalesced datagrams (UDP_GRO) no more.
pub const payload_max = 65536;
/// What stands before the payload at most: of a Unix socket's.
pub const prefix_max = 128;
/// Not a multiple of a page, so that the first lines of all buffers do not share one set of the
/// cache.
pub const size = payload_max + prefix_max + 192;

/// idle ──top_up──▶ in_ring ──CQE──▶ delivered ──next turn──▶ idle
///   └─────take──────▶ given ──CQE─────┘
pub const State = enum(u8) { idle, in_ring, given, delivered };

pub const Buffers = struct {
    memory: []u8 = &.{},
    states: []State = &.{},
    delivered: []u16 = &.{},
    delivered_count: u32 = 0,
    /// Stack of idle buffers, the one used last on top.
    idle: []u16 = &.{},
    idle_count: u32 = 0,
    /// Buffers that the kernel can still select.
    free: u32 = 0,
    target: u32 = target_first,
    /// The kernel has a ring to select from.
    provided: bool = false,

    const target_first = 64;

    pub fn bytes(buffers: *Buffers, id: u16) []align(8) u8 {
        comptime assert(size % 8 == 0);
        return @alignCast(buffers.memory[@as(usize, id) * size ..][0..size]);
    }

    /// Makes every buffer idle, once.
    pub fn fill(buffers: *Buffers) void {
        assert(buffers.memory.len == count * size);
        var id: u16 = count;
        while (id > 0) {
            id -= 1;
            buffers.put_idle(id);
        }
    }

    fn put_idle(buffers: *Buffers, id: u16) void {
        buffers.states[id] = .idle;
        buffers.idle[buffers.idle_count] = id;
        buffers.idle_count += 1;
    }

    fn top_up(buffers: *Buffers, kernel: *Kernel) void {
        if (!buffers.provided) return;
        if (buffers.free >= buffers.target or buffers.idle_count == 0) return;
        while (buffers.free < buffers.target and buffers.idle_count > 0) {
            const id = buffers.pop();
            const usable = buffers.bytes(id)[0 .. prefix_max + payload_max];
            kernel.buffer_ring_add(.datagram, usable, id);
            buffers.states[id] = .in_ring;
            buffers.free += 1;
        }
        kernel.buffer_ring_publish(.datagram);
    }

    fn pop(buffers: *Buffers) u16 {
        buffers.idle_count -= 1;
        const id = buffers.idle[buffers.idle_count];
        assert(buffers.states[id] == .idle);
        return id;
    }

    /// The kernel found the ring empty: more are needed at a time.
    pub fn starved(buffers: *Buffers) void {
        buffers.target = @min(buffers.target * 2, count);
    }

    /// A buffer for one receive, without the ring.
    pub fn take(buffers: *Buffers) ?u16 {
        if (buffers.idle_count == 0) return null;
        const id = buffers.pop();
        buffers.states[id] = .given;
        return id;
    }

    /// A receive that was given a buffer ended without a datagram.
    pub fn put_back(buffers: *Buffers, id: u16) void {
        assert(buffers.states[id] == .given);
        buffers.put_idle(id);
    }

    /// The kernel has written into the buffer and named it in a CQE. False if that cannot be.
    pub fn deliver(buffers: *Buffers, id: u32) bool {
        if (id >= buffers.states.len) return false;
        switch (buffers.states[id]) {
            .in_ring => buffers.free -= 1,
            .given => {},
            .idle, .delivered => return false,
        }
        buffers.states[id] = .delivered;
        buffers.delivered[buffers.delivered_count] = @intCast(id);
        buffers.delivered_count += 1;
        return true;
    }

    pub fn is_delivered(buffers: *const Buffers, id: u32) bool {
        return id < buffers.states.len and buffers.states[id] == .delivered;
    }

    /// Start of a turn: JavaScript has copied what it wants.
    pub fn give_back(buffers: *Buffers, kernel: *Kernel) void {
        for (buffers.delivered[0..buffers.delivered_count]) |id| buffers.put_idle(id);
        buffers.delivered_count = 0;
        buffers.top_up(kernel);
    }

    /// How many receives that wait for a buffer can be armed now.
    pub fn servable(buffers: *const Buffers) u32 {
        return if (buffers.provided) buffers.free else buffers.idle_count;
    }

    /// Whether a turn would find a buffer for somebody who waits for one.
    pub fn can_serve(buffers: *const Buffers) bool {
        return buffers.free + buffers.idle_count + buffers.delivered_count > 0;
    }

    /// Buffers that nobody uses, in the ring or not.
    pub fn available(buffers: *const Buffers) u32 {
        return buffers.free + buffers.idle_count;
    }
};

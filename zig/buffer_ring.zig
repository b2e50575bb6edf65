//! Provided receive buffers: which are in the kernel's ring, delivered, or lent to JavaScript.
//!
//! A buffer leaves the ring with the CQE that names it. Delivered buffers go back at the start of
//! the next turn by themselves; a lent one goes back when its ArrayBuffer's deallocator has run, on
//! whatever thread. An empty ring means ENOBUFS: connections park in `connection.zig` and are woken
//! when buffers come back. Step 1 of a turn.

const std = @import("std");
const assert = std.debug.assert;
const Kernel = @import("kernel.zig").Kernel;
const mutation = @import("testing/mutation.zig");

/// in_ring ──CQE──▶ delivered ──next turn──▶ in_ring
///                      └─lend─▶ lent ──deallocator──▶ released ──next turn──▶ in_ring
pub const State = enum(u8) { in_ring, delivered, lent, released };

pub const BufferRing = struct {
    memory: []u8,
    size: u32,
    /// Atomic: a deallocator on another thread stores `released`.
    states: []State,
    /// Ids delivered since the last turn began, and those still lent from earlier turns.
    delivered: []u16,
    delivered_count: u32 = 0,
    lent: []u16,
    lent_count: u32 = 0,
    /// Buffers that the kernel can still select.
    free: u32 = 0,

    pub fn count(ring: *const BufferRing) u32 {
        return @intCast(ring.states.len);
    }

    pub fn bytes(ring: *BufferRing, id: u16) []u8 {
        return ring.memory[@as(usize, id) * ring.size ..][0..ring.size];
    }

    /// Hands every buffer to the kernel: once, after the ring is registered.
    pub fn fill(ring: *BufferRing, kernel: *Kernel) void {
        for (0..ring.count()) |id| ring.provide(kernel, @intCast(id));
        kernel.buffer_ring_publish();
    }

    fn provide(ring: *BufferRing, kernel: *Kernel, id: u16) void {
        kernel.buffer_ring_add(ring.bytes(id), id);
        if (mutation.is(.return_buffer_twice)) kernel.buffer_ring_add(ring.bytes(id), id);
        ring.states[id] = .in_ring;
        ring.free += 1;
        assert(ring.free <= ring.count());
    }

    /// The kernel has written into the buffer and named it in a CQE. False if that cannot be.
    pub fn deliver(ring: *BufferRing, id: u32) bool {
        if (id >= ring.count() or ring.states[id] != .in_ring) return false;
        assert(ring.free > 0);
        ring.free -= 1;
        ring.states[id] = .delivered;
        ring.delivered[ring.delivered_count] = @intCast(id);
        ring.delivered_count += 1;
        return true;
    }

    /// JavaScript keeps the buffer beyond the turn. False if it is not its to keep.
    pub fn lend(ring: *BufferRing, id: u32) bool {
        if (id >= ring.count() or ring.states[id] != .delivered) return false;
        // Release is not needed to lend: the pointer reaches other threads through JavaScript.
        @atomicStore(State, &ring.states[id], .lent, .monotonic);
        return true;
    }

    /// From the deallocator, on any thread.
    pub fn release(ring: *BufferRing, id: u32) void {
        assert(id < ring.count());
        // Release: pairs with the acquire in `give_back`; reads of the bytes end before it.
        @atomicStore(State, &ring.states[id], .released, .release);
    }

    pub fn id_of(ring: *const BufferRing, address: usize) u32 {
        const offset = address - @intFromPtr(ring.memory.ptr);
        assert(offset < ring.memory.len);
        return @intCast(offset / ring.size);
    }

    /// Start of a turn: whatever JavaScript is done with goes back to the kernel.
    pub fn give_back(ring: *BufferRing, kernel: *Kernel) void {
        if (ring.delivered_count == 0 and ring.lent_count == 0) return;
        const before = ring.free;
        ring.lent_count = ring.give_back_released(kernel);
        for (ring.delivered[0..ring.delivered_count]) |id| {
            if (mutation.is(.keep_buffer) and id == 0) continue;
            // Acquire: pairs with `release`.
            switch (@atomicLoad(State, &ring.states[id], .acquire)) {
                .delivered, .released => ring.provide(kernel, id),
                .lent => {
                    ring.lent[ring.lent_count] = id;
                    ring.lent_count += 1;
                },
                .in_ring => unreachable, // a delivered buffer is provided here and nowhere else
            }
        }
        ring.delivered_count = 0;
        if (ring.free != before) kernel.buffer_ring_publish();
    }

    fn give_back_released(ring: *BufferRing, kernel: *Kernel) u32 {
        var kept: u32 = 0;
        for (ring.lent[0..ring.lent_count]) |id| {
            // Acquire: pairs with `release`.
            if (@atomicLoad(State, &ring.states[id], .acquire) == .released) {
                ring.provide(kernel, id);
            } else {
                ring.lent[kept] = id;
                kept += 1;
            }
        }
        return kept;
    }
};

//! Provided receive buffers: which are in the kernel's ring, delivered, or lent to JavaScript.
//!
//! A buffer leaves the ring with the CQE that names it. Delivered buffers come back at the start of
//! the next turn by themselves; a lent one when its ArrayBuffer's deallocator has run, on whatever
//! thread. What comes back lies on a stack, and only as many as lately were needed at a time are in
//! the ring: a few warm buffers serve instead of a round through all of them. An empty ring means
//! ENOBUFS: connections park in `connection.zig` and are woken when buffers come back.

const std = @import("std");
const assert = std.debug.assert;
const Kernel = @import("kernel.zig").Kernel;
const mutation = @import("testing/mutation.zig");

/// idle ──top_up──▶ in_ring ──CQE──▶ delivered ──next turn──▶ idle
///                                      └─lend─▶ lent ──deallocator──▶ released ──turn──▶ idle
pub const State = enum(u8) { idle, in_ring, delivered, lent, released };

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
    /// Stack of idle buffers, the one used last on top.
    idle: []u16,
    idle_count: u32 = 0,
    /// Buffers that the kernel can still select.
    free: u32 = 0,
    /// As many are kept in the ring; it doubles when the ring ran empty.
    target: u32 = target_first,

    /// Three times what one DEFER_TASKRUN enter hands over.
    const target_first = 64;

    pub fn count(ring: *const BufferRing) u32 {
        return @intCast(ring.states.len);
    }

    pub fn bytes(ring: *BufferRing, id: u16) []u8 {
        return ring.memory[@as(usize, id) * ring.size ..][0..ring.size];
    }

    /// Makes every buffer idle and the first of them the kernel's: once, at open.
    pub fn fill(ring: *BufferRing, kernel: *Kernel) void {
        var id = ring.count();
        while (id > 0) {
            id -= 1;
            ring.put_idle(@intCast(id));
        }
        ring.top_up(kernel);
    }

    fn put_idle(ring: *BufferRing, id: u16) void {
        ring.states[id] = .idle;
        ring.idle[ring.idle_count] = id;
        ring.idle_count += 1;
    }

    fn top_up(ring: *BufferRing, kernel: *Kernel) void {
        if (ring.free >= ring.target or ring.idle_count == 0) return;
        while (ring.free < ring.target and ring.idle_count > 0) {
            ring.idle_count -= 1;
            const id = ring.idle[ring.idle_count];
            assert(ring.states[id] == .idle);
            kernel.buffer_ring_add(.stream, ring.bytes(id), id);
            if (mutation.is(.return_buffer_twice)) {
                kernel.buffer_ring_add(.stream, ring.bytes(id), id);
            }
            ring.states[id] = .in_ring;
            ring.free += 1;
        }
        kernel.buffer_ring_publish(.stream);
    }

    /// The kernel found the ring empty: more are needed at a time.
    pub fn starved(ring: *BufferRing) void {
        ring.target = @min(ring.target * 2, ring.count());
    }

    /// Whether a turn would find a buffer for somebody who waits for one.
    pub fn can_serve(ring: *const BufferRing) bool {
        if (ring.free + ring.idle_count + ring.delivered_count > 0) return true;
        for (ring.lent[0..ring.lent_count]) |id| {
            // Sequentially consistent: pairs with `release`, which looks for waiters afterwards.
            if (@atomicLoad(State, &ring.states[id], .seq_cst) == .released) return true;
        }
        return false;
    }

    /// Buffers that nobody uses, in the ring or not.
    pub fn available(ring: *const BufferRing) u32 {
        return ring.free + ring.idle_count;
    }

    /// Buffers that JavaScript holds on loan now.
    pub fn on_loan(ring: *const BufferRing) u32 {
        var total: u32 = 0;
        for ([_][]const u16{
            ring.lent[0..ring.lent_count],
            ring.delivered[0..ring.delivered_count],
        }) |ids| for (ids) |id| {
            // Acquire: pairs with `release`.
            total += @intFromBool(@atomicLoad(State, &ring.states[id], .acquire) == .lent);
        };
        return total;
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
        // Sequentially consistent: the caller looks for waiters next, who look at this before they
        // sleep; one of them sees the other. It also pairs with the acquire in `give_back`.
        @atomicStore(State, &ring.states[id], .released, .seq_cst);
    }

    pub fn id_of(ring: *const BufferRing, address: usize) u32 {
        const offset = address - @intFromPtr(ring.memory.ptr);
        assert(offset < ring.memory.len);
        return @intCast(offset / ring.size);
    }

    /// Start of a turn: whatever JavaScript is done with goes back to the kernel.
    pub fn give_back(ring: *BufferRing, kernel: *Kernel) void {
        ring.lent_count = ring.reclaim_lent();
        for (ring.delivered[0..ring.delivered_count]) |id| {
            if (mutation.is(.keep_buffer) and id == 0) continue;
            // Acquire: pairs with `release`.
            switch (@atomicLoad(State, &ring.states[id], .acquire)) {
                .delivered, .released => ring.put_idle(id),
                .lent => if (mutation.is(.forget_loan)) ring.put_idle(id) else {
                    ring.lent[ring.lent_count] = id;
                    ring.lent_count += 1;
                },
                .idle, .in_ring => unreachable, // a delivered buffer changes here and nowhere else
            }
        }
        ring.delivered_count = 0;
        ring.top_up(kernel);
    }

    fn reclaim_lent(ring: *BufferRing) u32 {
        var kept: u32 = 0;
        for (ring.lent[0..ring.lent_count]) |id| {
            // Acquire: pairs with `release`.
            if (@atomicLoad(State, &ring.states[id], .acquire) == .released) {
                ring.put_idle(id);
            } else {
                ring.lent[kept] = id;
                kept += 1;
            }
        }
        return kept;
    }
};

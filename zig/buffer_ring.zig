//! Provided receive buffers of one size: which are in the kernel's ring, delivered, or lent.
//!
//! An engine has two of these: `buffers`, which all connections share, and `blocks`, each of them
//! for one receive in the middle of a large message. A buffer leaves the kernel's ring with the CQE
//! that names it. Delivered buffers come back at the start of the next turn by themselves; a lent
//! one when its ArrayBuffer's deallocator has run, on whatever thread. What comes back lies on a
//! stack, and only as many as lately were needed at a time are in the ring: a few warm buffers
//! serve instead of a round through all of them. Loans stop at a low-water mark, so every turn
//! finds buffers for those who wait. What an empty ring (ENOBUFS) means to a connection, and what
//! it may hold, is decided in `receiving.zig`.

const std = @import("std");
const assert = std.debug.assert;
const abi = @import("abi.zig");
const memory = @import("memory.zig");
const seam = @import("kernel.zig");
const mutation = @import("testing/mutation.zig");
const Kernel = seam.Kernel;
const errno = seam.errno;

/// idle ──top_up──▶ in_ring ──CQE──▶ delivered ──next turn──▶ idle
///                                      └─lend─▶ lent ──deallocator──▶ released ──turn──▶ idle
pub const State = enum(u8) { idle, in_ring, delivered, lent, released };

/// What is in a buffer, and which connection received it.
pub const Delivery = struct {
    slot: u32,
    generation: u32,
    len: u32,

    /// A connection that is gone: no slot is ever of generation 0.
    pub const nobody: Delivery = .{ .slot = 0, .generation = 0, .len = 0 };
};

/// One size of buffers, and where they lie.
pub const Shape = struct {
    group: seam.BufferGroup,
    count: u32,
    size: u32,
    /// Byte offset of the first buffer in the slab.
    offset: u32,
    /// Number of the first buffer in records.
    first: u32,
    /// As many are in the ring at first.
    target: u32,

    pub fn shared(config: *const memory.Config, layout: *const memory.Layout) Shape {
        return .{
            .group = .stream,
            .count = config.receive_buffers,
            .size = config.receive_buffer_size,
            .offset = layout.receive_offset,
            .first = 0,
            .target = 64, // three times what one DEFER_TASKRUN enter hands over (K15)
        };
    }

    pub fn blocks(config: *const memory.Config, layout: *const memory.Layout) Shape {
        return .{
            .group = .block,
            .count = config.receive_blocks,
            .size = config.receive_block_size,
            .offset = @intCast(layout.blocks_offset),
            .first = config.receive_buffers,
            .target = 2, // one that is read, one that is filled
        };
    }
};

pub const BufferRing = struct {
    shape: Shape,
    memory: []u8,
    /// Atomic: a deallocator on another thread stores `released`.
    states: []State,
    deliveries: []Delivery,
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
    /// As many are kept in the ring. It doubles, up to all, when the ring ran empty, and is halved
    /// when half of it was not needed for a while.
    target: u32,
    /// The fewest that were left at the start of a turn, and the turns that this was watched.
    least_free: u32 = std.math.maxInt(u32),
    turns_watched: u32 = 0,
    /// Loans that have not ended. Atomic: they end on any thread.
    loans: u32 = 0,

    /// Turns after which a ring that was never half used shrinks: some ten milliseconds of load.
    const turns_until_halved = 1024;

    pub fn init(shape: Shape, slab: []u8, bump: *memory.Bump) BufferRing {
        return .{
            .shape = shape,
            .memory = slab[shape.offset..][0 .. @as(usize, shape.count) * shape.size],
            .states = bump.take(State, shape.count),
            .deliveries = bump.take(Delivery, shape.count),
            .delivered = bump.take(u16, shape.count),
            .lent = bump.take(u16, shape.count),
            .idle = bump.take(u16, shape.count),
            .target = @min(shape.target, shape.count),
        };
    }

    /// Bytes that `init` and `open` take.
    pub fn private_size(buffers: u32) usize {
        const one = 16 + @sizeOf(State) + @sizeOf(Delivery) + 3 * @sizeOf(u16);
        return @as(usize, buffers) * one + 2 * memory.page_size;
    }

    pub fn count(ring: *const BufferRing) u32 {
        return ring.shape.count;
    }

    pub fn bytes(ring: *BufferRing, id: u16) []u8 {
        return ring.memory[@as(usize, id) * ring.shape.size ..][0..ring.shape.size];
    }

    /// Registers the ring, makes every buffer idle and the first of them the kernel's.
    pub fn open(ring: *BufferRing, kernel: *Kernel, bump: *memory.Bump) i32 {
        if (ring.count() == 0) return 0;
        const entries = bump.take_aligned(u8, memory.page_size, 16 * @as(usize, ring.count()));
        const outcome = kernel.buffer_ring_register(ring.shape.group, entries, ring.count());
        if (outcome < 0) return outcome;
        var id = ring.count();
        while (id > 0) {
            id -= 1;
            ring.put_idle(@intCast(id));
        }
        ring.top_up(kernel);
        return 0;
    }

    fn put_idle(ring: *BufferRing, id: u16) void {
        ring.states[id] = .idle;
        ring.idle[ring.idle_count] = id;
        ring.idle_count += 1;
    }

    fn top_up(ring: *BufferRing, kernel: *Kernel) void {
        if (ring.free >= ring.target or ring.idle_count == 0) return;
        const group = ring.shape.group;
        while (ring.free < ring.target and ring.idle_count > 0) {
            ring.idle_count -= 1;
            const id = ring.idle[ring.idle_count];
            assert(ring.states[id] == .idle);
            kernel.buffer_ring_add(group, ring.bytes(id), id);
            if (mutation.is(.return_buffer_twice)) {
                kernel.buffer_ring_add(group, ring.bytes(id), id);
            }
            ring.states[id] = .in_ring;
            ring.free += 1;
        }
        kernel.buffer_ring_publish(group);
    }

    /// The kernel found the ring empty: more are needed at a time. False if there are no more.
    pub fn starved(ring: *BufferRing) bool {
        ring.least_free = 0;
        if (ring.target == ring.count()) return false;
        ring.target = @min(ring.target * 2, ring.count());
        return true;
    }

    fn watch(ring: *BufferRing) void {
        ring.least_free = @min(ring.least_free, ring.free);
        ring.turns_watched += 1;
        if (ring.turns_watched < turns_until_halved) return;
        const spare = ring.least_free > ring.target / 2 and ring.target / 2 >= ring.shape.target;
        if (spare) ring.target /= 2;
        ring.turns_watched = 0;
        ring.least_free = std.math.maxInt(u32);
    }

    /// Whether a turn would find a buffer for somebody who waits for one.
    pub fn can_serve(ring: *const BufferRing) bool {
        return ring.free + ring.idle_count + ring.delivered_count > 0 or ring.has_released();
    }

    /// Whether a turn would take a loan back.
    pub fn has_released(ring: *const BufferRing) bool {
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

    /// The kernel has written into the buffer and named it in a CQE. False if that cannot be.
    pub fn deliver(ring: *BufferRing, id: u32, delivery: Delivery) bool {
        if (id >= ring.count() or ring.states[id] != .in_ring) return false;
        if (delivery.len > ring.shape.size) return false;
        assert(ring.free > 0);
        ring.free -= 1;
        ring.states[id] = .delivered;
        ring.deliveries[id] = delivery;
        ring.delivered[ring.delivered_count] = @intCast(id);
        ring.delivered_count += 1;
        return true;
    }

    /// Somebody keeps the buffer beyond the turn: 0 or an errno.
    pub fn lend(ring: *BufferRing, id: u32) i32 {
        if (id >= ring.count() or ring.states[id] != .delivered) return errno.inval;
        _ = @atomicRmw(u32, &ring.loans, .Add, 1, .monotonic);
        // Release is not needed to lend: the pointer reaches other threads through JavaScript.
        @atomicStore(State, &ring.states[id], .lent, .monotonic);
        return 0;
    }

    pub fn on_loan(ring: *const BufferRing) u32 {
        return @atomicLoad(u32, &ring.loans, .monotonic);
    }

    /// JavaScript may keep no more: the last quarter is back with each turn.
    pub fn is_low(ring: *const BufferRing) bool {
        const low_water_mark = @max(1, ring.count() / 4);
        return ring.on_loan() + low_water_mark >= ring.count() and !mutation.is(.lend_all);
    }

    /// From the deallocator, on any thread.
    pub fn release(ring: *BufferRing, id: u32) void {
        assert(id < ring.count());
        _ = @atomicRmw(u32, &ring.loans, .Sub, 1, .monotonic);
        // Sequentially consistent: the caller looks for waiters next, who look at this before they
        // sleep; one of them sees the other. It also pairs with the acquire in `give_back`.
        @atomicStore(State, &ring.states[id], .released, .seq_cst);
    }

    pub fn id_at(ring: *const BufferRing, address: usize) ?u32 {
        const start = @intFromPtr(ring.memory.ptr);
        if (address < start or address - start >= ring.memory.len) return null;
        return @intCast((address - start) / ring.shape.size);
    }

    /// Start of a turn: whatever JavaScript is done with goes back to the kernel. `holder` is told
    /// of each loan that begins to outlive its turn, `kept`, and of its end, `returned`.
    pub fn give_back(ring: *BufferRing, kernel: *Kernel, holder: anytype) void {
        ring.reclaim_lent(holder);
        for (ring.delivered[0..ring.delivered_count]) |id| {
            if (mutation.is(.keep_buffer) and id == 0) continue;
            // Acquire: pairs with `release`.
            switch (@atomicLoad(State, &ring.states[id], .acquire)) {
                .delivered, .released => ring.put_idle(id),
                .lent => if (mutation.is(.forget_loan)) ring.put_idle(id) else {
                    ring.lent[ring.lent_count] = id;
                    ring.lent_count += 1;
                    holder.kept(&ring.deliveries[id]);
                },
                .idle, .in_ring => unreachable, // a delivered buffer changes here and nowhere else
            }
        }
        ring.delivered_count = 0;
        ring.watch();
        ring.top_up(kernel);
    }

    fn reclaim_lent(ring: *BufferRing, holder: anytype) void {
        var kept: u32 = 0;
        for (ring.lent[0..ring.lent_count]) |id| {
            // Acquire: pairs with `release`.
            if (@atomicLoad(State, &ring.states[id], .acquire) == .released) {
                ring.put_idle(id);
                holder.returned(&ring.deliveries[id]);
            } else {
                ring.lent[kept] = id;
                kept += 1;
            }
        }
        ring.lent_count = kept;
    }
};

comptime {
    assert(abi.receive_buffers_max <= std.math.maxInt(u16) + 1); // ids are u16
}

//! The datagram sockets of a ring and what they share: messages to send, receive buffers.
//!
//! Memory for all of it is mapped with the ring's first datagram socket: a ring without one pays
//! nothing. `engine.zig` asks it in each turn, once at each step. Called by `datagram_calls.zig`,
//! too.

const std = @import("std");
const assert = std.debug.assert;
const abi = @import("abi.zig");
const seam = @import("kernel.zig");
const memory = @import("memory.zig");
const slots = @import("slots.zig");
const buffers_file = @import("datagram_buffers.zig");
const queue = @import("datagram_queue.zig");
const mutation = @import("testing/mutation.zig");
const Datagram = @import("datagram.zig").Datagram;
const Engine = @import("engine.zig").Engine;

/// Even if all sockets are at their high-water mark they have no more batches.
const batches_max = 8 * abi.datagram_sockets_max;

comptime {
    assert(batches_max * queue.messages_max <= abi.slots_max + 1);
}

/// The ring's datagram sockets and what they share.
pub const Datagrams = struct {
    sockets: slots.Slots(Datagram) = .{ .entries = &.{} },
    batches: slots.Slots(queue.Batch) = .{ .entries = &.{} },
    buffers: buffers_file.Buffers = .{},
    dirty: slots.Queue(Datagram, "dirty") = .{},
    parked: slots.Queue(Datagram, "parked") = .{},
    mapping: ?memory.Mapping = null,

    pub fn on_send(
        _: *Datagrams,
        engine: *Engine,
        user_data: slots.UserData,
        cqe: *const seam.Cqe,
    ) void {
        queue.on_send(engine, user_data, cqe);
    }

    /// Maps the memory of all datagram sockets, once.
    pub fn prepare(datagrams: *Datagrams, engine: *Engine) error{OutOfMemory}!void {
        if (datagrams.mapping != null) return;
        const Socket = slots.Slots(Datagram).Entry;
        const Batch = slots.Slots(queue.Batch).Entry;
        const ids = buffers_file.count;
        const provided_size = 16 * ids;
        const mapping = try memory.map(provided_size + 8 * memory.page_size +
            abi.datagram_sockets_max * @sizeOf(Socket) + batches_max * @sizeOf(Batch) +
            ids * (1 + 2 + 2) + ids * buffers_file.size);
        var bump: memory.Bump = .{ .memory = mapping };
        const provided = bump.take_aligned(u8, memory.page_size, provided_size);
        datagrams.sockets = .init(bump.take(Socket, abi.datagram_sockets_max));
        datagrams.batches = .init(bump.take(Batch, batches_max));
        datagrams.buffers = .{
            .states = bump.take(buffers_file.State, ids),
            .delivered = bump.take(u16, ids),
            .idle = bump.take(u16, ids),
            .memory = bump.take_aligned(u8, 64, ids * buffers_file.size),
        };
        datagrams.buffers.fill();
        datagrams.mapping = mapping;
        if (!engine.has(.multishot_recvmsg) or !engine.has(.multishot_receive)) return;
        // Without a ring of its own each receive is given a buffer.
        const registered = engine.kernel.buffer_ring_register(.datagram, provided, ids);
        datagrams.buffers.provided = registered >= 0;
        datagrams.buffers.give_back(&engine.kernel);
    }

    pub fn deinit(datagrams: *Datagrams) void {
        if (datagrams.mapping) |mapping| memory.unmap(mapping);
    }

    pub fn find(datagrams: *Datagrams, user_data: slots.UserData) ?*Datagram {
        return datagrams.sockets.find(user_data.slot, user_data.generation);
    }

    pub fn mark(datagrams: *Datagrams, index: u32) void {
        datagrams.dirty.push(&datagrams.sockets, index);
    }

    /// A CQE without a socket: its buffer is of this pool (I3).
    pub fn stale(datagrams: *Datagrams, engine: *Engine, cqe: *const seam.Cqe) void {
        engine.counters.cqes_stale += 1;
        if (cqe.flags & seam.cqe_flag.buffer == 0) return;
        _ = datagrams.buffers.deliver(cqe.flags >> seam.cqe_flag.buffer_shift);
    }

    /// Start of a turn: slots and buffers are free again, and whoever waited for one goes on.
    pub fn begin(datagrams: *Datagrams, engine: *Engine) void {
        if (datagrams.mapping == null) return;
        datagrams.sockets.recycle();
        datagrams.batches.recycle();
        datagrams.buffers.give_back(&engine.kernel);
        if (mutation.is(.forget_parked_datagram)) return;
        var budget = datagrams.buffers.servable();
        while (budget > 0) : (budget -= 1) {
            const index = datagrams.parked.pop(&datagrams.sockets) orelse return;
            datagrams.sockets.at(index).receiving = .idle;
            datagrams.mark(index);
        }
    }

    pub fn flush(datagrams: *Datagrams, engine: *Engine) void {
        Engine.advance_marked(engine, &datagrams.dirty, &datagrams.sockets, Datagram.advance);
    }

    pub fn has_work(datagrams: *const Datagrams) bool {
        return datagrams.dirty.count > 0 or
            (datagrams.parked.count > 0 and datagrams.buffers.can_serve());
    }

    /// The end of the ring: nothing that is queued is sent any more.
    pub fn end_all(datagrams: *Datagrams, engine: *Engine) void {
        for (0..datagrams.sockets.fresh) |at| {
            const index: u32 = @intCast(at);
            if (!datagrams.sockets.is_claimed(index)) continue;
            const socket = datagrams.sockets.at(index);
            queue.discard(engine, &socket.outgoing);
            socket.close(engine, index);
        }
    }
};

//! How a connection receives: buffers or blocks, its share of them, the line, pause, the FIN.
//!
//! `Receiving` is the state, held in the connection; the functions act on the connection that holds
//! it. A connection waits with a multishot receive into the buffers that all share, so that an idle
//! one holds none. One that keeps getting much at a time changes to one receive after the other,
//! each into a block of its own, and back when little comes. Nobody gets more than a share: who
//! holds it stops receiving, and TCP pushes back, until half of it has come back (I9). Who finds no
//! buffer stands in line (K9), and while somebody does, everybody gets one buffer at a time. Called
//! by `connection.zig`, `engine.zig`, `rings.zig` and `operation/connection.zig`.

const std = @import("std");
const assert = std.debug.assert;
const seam = @import("kernel.zig");
const buffer_ring = @import("buffer_ring.zig");
const forwarding = @import("forwarding.zig");
const passing = @import("passing.zig");
const proxied = @import("proxied.zig");
const sending = @import("sending.zig");
const socket = @import("operation/connection.zig");
const splicing = @import("splicing.zig");
const mutation = @import("testing/mutation.zig");
const BufferRing = buffer_ring.BufferRing;
const Connection = @import("connection.zig").Connection;
const Engine = @import("engine.zig").Engine;
const Kind = @import("operation.zig").Kind;
const Shut = @import("connection.zig").Shut;
const errno = seam.errno;

/// idle ──advance──▶ armed ──last CQE──▶ idle       ENOBUFS: armed ──▶ parked ──buffers──▶ idle
pub const Arm = enum(u8) { idle, armed, parked };

/// What is armed, or was last.
const Form = enum(u8) {
    /// One receive into a shared buffer.
    single,
    /// Any number of them.
    multishot,
    /// One into a block.
    block,
    /// One message into a shared buffer, with the descriptors that come with it.
    message,
    /// None: it is told that there is something for a pipe.
    ready,

    fn kind(form: Form) Kind {
        return switch (form) {
            .block => .receive_block,
            .ready => .receive_ready,
            else => .receive,
        };
    }
};

/// Receive buffers that a connection holds, and bytes in them.
const Share = struct { buffers: u32 = 0, bytes: u32 = 0 };

pub const Receiving = struct {
    arm: Arm = .idle,
    form: Form = .single,
    paused: bool = false,
    /// FIN received.
    ended: bool = false,
    /// A cancel of the armed receive is on its way: not asked for twice.
    cancelled: bool = false,
    /// Much comes at a time: receives go into blocks.
    large: bool = false,
    /// All blocks were in use: the next receive takes a buffer.
    blocks_empty: bool = false,
    /// Receives into blocks in succession that got little.
    small_count: u8 = 0,
    /// It holds its share, and receives no more until half of it is back.
    full: bool = false,
    /// It stood in line and is the next to get a buffer.
    admitted: bool = false,
    /// Bytes came since it was armed.
    served: bool = false,
    /// Held since turn `turn` began, and on loan from earlier ones.
    turn: u64 = 0,
    fresh: Share = .{},
    lent: Share = .{},

    /// The kernel still holds a receive of this connection.
    pub fn is_armed(receiving: *const Receiving) bool {
        return receiving.arm == .armed and !mutation.is(.close_early);
    }

    fn take(receiving: *Receiving, engine: *const Engine, len: u32) void {
        if (receiving.turn != engine.counters.turns) {
            receiving.turn = engine.counters.turns;
            receiving.fresh = .{};
        }
        receiving.fresh.buffers += 1;
        receiving.fresh.bytes +|= len;
    }

    fn held(receiving: *const Receiving, engine: *const Engine) Share {
        if (receiving.turn != engine.counters.turns) return receiving.lent;
        return .{
            .buffers = receiving.lent.buffers + receiving.fresh.buffers,
            .bytes = receiving.lent.bytes +| receiving.fresh.bytes,
        };
    }

    /// Compares what it holds with its share: it becomes full, or is so no longer.
    fn weigh(receiving: *Receiving, engine: *Engine) void {
        const holds = receiving.held(engine);
        const config = &engine.config;
        if (!receiving.full) {
            const over = holds.buffers >= config.hold_buffers or holds.bytes >= config.hold_bytes;
            if (!over or mutation.is(.ignore_share)) return;
            receiving.full = true;
            engine.full_count += 1;
            engine.counters.receive_held += 1;
        } else {
            const half_back = holds.buffers <= config.hold_buffers / 2 and
                holds.bytes <= config.hold_bytes / 2;
            if (half_back) receiving.leave(engine);
        }
    }

    /// It is no longer full, or no longer there.
    pub fn leave(receiving: *Receiving, engine: *Engine) void {
        if (!receiving.full) return;
        receiving.full = false;
        assert(engine.full_count > 0);
        engine.full_count -= 1;
    }

    fn change_size(receiving: *Receiving, engine: *Engine, large: bool) void {
        receiving.large = large;
        receiving.small_count = 0;
        engine.counters.receive_switches += 1;
    }
};

// Submission -----------------------------------------------------------------------------------

/// Arms or cancels, as the state asks. False: no SQE was to be had.
pub fn advance(connection: *Connection, engine: *Engine, index: u32) bool {
    const receiving = &connection.receiving;
    if (receiving.full) {
        receiving.weigh(engine);
        // What came in this turn goes back with the next: to be looked at again then.
        if (receiving.full and receiving.turn == engine.counters.turns) engine.mark(index);
    }
    const wanted = !receiving.paused and !receiving.ended and !receiving.full and
        !connection.passing.waiting and !connection.forwarding.must_wait(engine) and
        !is_given_up(connection);
    switch (receiving.arm) {
        // Woken when buffers come back; if it is not wanted then, it stays idle.
        .parked => return true,
        .idle => {
            if (wanted) return arm(connection, engine, index);
            receiving.admitted = false;
        },
        .armed => {
            const keeps = wanted and !must_yield(connection, engine);
            if (keeps or receiving.cancelled) return true;
            if (mutation.is(.ignore_pause) and receiving.paused) return true;
            return submit_cancel(connection, engine, index);
        },
    }
    return true;
}

/// Nothing more is to be received, whatever the state asks. False: no SQE was to be had.
pub fn abandon(connection: *Connection, engine: *Engine, index: u32) bool {
    const receiving = &connection.receiving;
    if (receiving.arm != .armed or receiving.cancelled) return true;
    return submit_cancel(connection, engine, index);
}

fn submit_cancel(connection: *Connection, engine: *Engine, index: u32) bool {
    const receiving = &connection.receiving;
    const sqe = engine.sqe() orelse return false;
    const target = Connection.tag(engine, index, receiving.form.kind());
    const user_data = Connection.tag(engine, index, .receive_cancel);
    socket.ReceiveCancel.prepare(sqe, target, user_data);
    receiving.cancelled = true;
    connection.cancels_pending += 1;
    return true;
}

/// After terminate or close nobody reads.
pub fn is_given_up(connection: *const Connection) bool {
    return @intFromEnum(connection.shut) >= @intFromEnum(Shut.close);
}

/// A multishot ends where it is not the right form any more: blocks serve better, or others stand
/// in line for the buffers that it takes.
fn must_yield(connection: *const Connection, engine: *const Engine) bool {
    const receiving = &connection.receiving;
    if (receiving.form != .multishot) return false;
    if (receiving.large or connection.forwarding.is_rationed(engine)) return true;
    if (connection.forwarding.is_piped()) return true;
    return engine.crowded and receiving.served;
}

fn arm(connection: *Connection, engine: *Engine, index: u32) bool {
    const receiving = &connection.receiving;
    const forwards = connection.forwarding.stage == .on;
    const blocks = !receiving.blocks_empty and !(forwards and engine.blocks.is_low());
    const rationed = connection.forwarding.is_rationed(engine);
    const form: Form = if (connection.forwarding.is_piped())
        .ready
    else if (connection.passing.is_on())
        .message
    else if (receiving.large and blocks)
        .block
    else if (receiving.large or rationed or engine.crowded or !engine.has(.multishot_receive))
        .single
    else
        .multishot;
    const sqe = engine.sqe() orelse return false;
    const user_data = Connection.tag(engine, index, form.kind());
    const file = connection.file_of(index);
    if (form == .ready) {
        socket.ReceiveReady.prepare(sqe, file, user_data);
    } else if (form == .message) {
        passing.prepare(connection, engine, sqe, file, user_data);
    } else socket.Receive.prepare(sqe, file, .{
        .group = if (form == .block) engine.blocks.shape.group else engine.buffers.shape.group,
        .multishot = form == .multishot,
        // The kernel itself ends it where the share does; else a cancel has to.
        .limit = if (engine.has(.receive_limit)) share_bytes(engine) else 0,
    }, user_data);
    receiving.arm = .armed;
    receiving.form = form;
    receiving.cancelled = false;
    receiving.served = false;
    return true;
}

/// The share of a connection that receives full buffers.
fn share_bytes(engine: *const Engine) u32 {
    const config = &engine.config;
    return @min(config.hold_bytes, config.hold_buffers *| config.receive_buffer_size);
}

pub fn pause(connection: *Connection, engine: *Engine, index: u32, paused: bool) void {
    if (connection.receiving.paused == paused) return;
    connection.receiving.paused = paused;
    if (!paused) sending.reader_is_back(connection, engine, index);
    engine.mark(index);
}

// The line -------------------------------------------------------------------------------------

fn park(receiving: *Receiving, engine: *Engine, index: u32) void {
    receiving.arm = .parked;
    // Who was next and got nothing keeps the place.
    const first = receiving.admitted or mutation.is(.jump_line);
    receiving.admitted = false;
    if (first) {
        engine.parked.push_front(&engine.connections, index);
    } else {
        engine.parked.push(&engine.connections, index);
    }
}

/// Start of a turn: as many as there are buffers leave the line, oldest first, each for one buffer,
/// before anybody else submits. Never in a loop, never on a timer (K9).
pub fn admit(engine: *Engine) void {
    engine.crowded = engine.parked.count > 0;
    if (mutation.is(.forget_parked)) return;
    for (0..engine.buffers.free) |_| {
        const index = engine.parked.pop(&engine.connections) orelse return;
        const connection = engine.connections.at(index);
        assert(connection.receiving.arm == .parked);
        connection.receiving.arm = .idle;
        connection.receiving.admitted = true;
        if (!connection.is_sound()) continue; // it is marked, and will ask for nothing
        if (advance(connection, engine, index)) continue;
        park(&connection.receiving, engine, index); // no SQE: next turn, in its place
        return;
    }
}

fn on_starved(connection: *Connection, engine: *Engine, index: u32) void {
    const receiving = &connection.receiving;
    engine.counters.receive_starved += 1;
    const grows = engine.buffers.starved();
    // In the middle of a message a block serves as well, and at once.
    const in_message = receiving.turn == engine.counters.turns and
        receiving.fresh.bytes >= engine.buffers.shape.size;
    if (in_message and !receiving.large and has_blocks(engine)) {
        return receiving.change_size(engine, true);
    }
    if (!grows and engine.parked.count == 0) engine.control.starvations +%= 1;
    engine.counters.parks += 1;
    park(receiving, engine, index);
}

// Completions ----------------------------------------------------------------------------------

pub fn on_receive(
    connection: *Connection,
    engine: *Engine,
    index: u32,
    ring: *BufferRing,
    cqe: *const seam.Cqe,
) void {
    const receiving = &connection.receiving;
    if (cqe.flags & seam.cqe_flag.more == 0) {
        receiving.arm = .idle;
        engine.mark(index);
    }
    if (cqe.flags & seam.cqe_flag.buffer != 0) {
        const id = cqe.flags >> seam.cqe_flag.buffer_shift;
        const len: u32 = @intCast(@max(cqe.res, 0));
        const delivery: buffer_ring.Delivery = .{
            .slot = index,
            .generation = engine.connections.generation(index),
            .len = len,
        };
        if (!ring.deliver(id, delivery)) return engine.stale(cqe);
        if (len > 0) {
            if (receiving.form == .message) on_message(connection, engine, index);
            return on_data(connection, engine, index, ring, id, len);
        }
    }
    if (cqe.res == 0) return on_end(connection, engine, index);
    if (cqe.res == errno.nobufs) {
        if (receiving.arm == .armed) return; // more will follow
        if (ring == &engine.buffers) return on_starved(connection, engine, index);
        _ = ring.starved();
        receiving.blocks_empty = true;
        return;
    }
    if (sending.is_retried(connection, cqe.res)) return;
    connection.fail(engine, index, cqe.res);
}

/// What came with bytes that go to JavaScript is told before them.
fn on_message(connection: *Connection, engine: *Engine, index: u32) void {
    const told = !is_given_up(connection) and connection.proxy != .awaited and
        connection.forwarding.stage == .off;
    passing.on_message(connection, engine, index, told);
}

fn on_data(
    connection: *Connection,
    engine: *Engine,
    index: u32,
    ring: *BufferRing,
    id: u32,
    len: u32,
) void {
    if (is_given_up(connection)) return; // the buffer goes back with the others
    const receiving = &connection.receiving;
    engine.counters.bytes_received += len;
    receiving.served = true;
    receiving.admitted = false;
    if (ring == &engine.buffers) {
        receiving.take(engine, len);
        receiving.weigh(engine);
        receiving.blocks_empty = false;
        const much = receiving.fresh.bytes >= @min(large_min, engine.config.hold_bytes);
        if (much and !receiving.large and has_blocks(engine)) receiving.change_size(engine, true);
        if (receiving.full or must_yield(connection, engine)) engine.mark(index);
    } else {
        engine.counters.receive_large += 1;
        receiving.small_count = if (len < large_min / 2) receiving.small_count + 1 else 0;
        if (receiving.small_count == small_max) receiving.change_size(engine, false);
    }
    const shape = &ring.shape;
    const number = shape.first + id;
    if (connection.forwarding.stage != .off) {
        const bytes = ring.bytes(@intCast(id))[0..len];
        const came = if (ring == &engine.buffers) receiving.fresh.bytes else len;
        splicing.on_data(connection, engine, index, came);
        return forwarding.on_data(connection, engine, index, number, bytes);
    }
    var skip: u32 = 0;
    if (connection.proxy == .awaited) {
        const bytes = ring.bytes(@intCast(id))[0..len];
        skip = proxied.on_data(connection, engine, index, bytes) orelse return;
        if (skip == len) return; // the header and nothing behind it
    }
    const offset = shape.offset + id * shape.size + skip;
    engine.record(.data, index, @intCast(len - skip), offset, number);
}

/// Bytes in one turn from which on blocks serve a connection better than buffers.
const large_min = 64 * 1024;
/// So many receives in succession that got less than half of that lead back to buffers.
const small_max = 8;

fn has_blocks(engine: *const Engine) bool {
    return engine.blocks.count() > 0 and engine.blocks.shape.size > engine.buffers.shape.size;
}

fn on_end(connection: *Connection, engine: *Engine, index: u32) void {
    if (connection.receiving.ended) return;
    connection.receiving.ended = true;
    engine.mark(index);
    if (is_given_up(connection) or is_cut_short(connection)) return;
    if (connection.proxy == .awaited) return proxied.on_end(connection, engine, index);
    if (connection.forwarding.stage != .off) {
        return forwarding.on_end(connection, engine, index);
    }
    engine.record(.end, index, 0, 0, 0);
}

/// A send has heard of a reset, so that the receive sees an end where there was no FIN.
fn is_cut_short(connection: *const Connection) bool {
    const broken = connection.sending.broken;
    return broken != 0 and broken != errno.pipe;
}

// Loans ----------------------------------------------------------------------------------------

/// Start of a turn: what JavaScript is done with goes back to the kernel, and to the shares.
pub fn give_back(engine: *Engine) void {
    const holder: Holder = .{ .engine = engine };
    engine.buffers.give_back(&engine.kernel, holder);
    engine.blocks.give_back(&engine.kernel, holder);
}

/// Whose share a loan counts in: the connection that received it, as long as it is there.
const Holder = struct {
    engine: *Engine,

    fn find(holder: Holder, delivery: *const buffer_ring.Delivery) ?*Receiving {
        const connections = &holder.engine.connections;
        const connection = connections.find(delivery.slot, delivery.generation) orelse return null;
        return &connection.receiving;
    }

    pub fn kept(holder: Holder, delivery: *const buffer_ring.Delivery) void {
        const receiving = holder.find(delivery) orelse return;
        receiving.lent.buffers += 1;
        receiving.lent.bytes +|= delivery.len;
        if (!receiving.full) receiving.weigh(holder.engine);
        // A receive that is armed is cancelled.
        if (receiving.full) holder.engine.mark(delivery.slot);
    }

    pub fn returned(holder: Holder, delivery: *const buffer_ring.Delivery) void {
        const receiving = holder.find(delivery) orelse return;
        receiving.lent.buffers -= 1;
        receiving.lent.bytes -= delivery.len;
        const waits = receiving.full and !mutation.is(.forget_share);
        if (waits) holder.engine.mark(delivery.slot);
    }
};

/// Whether a turn would give somebody a buffer, or its share back.
pub fn has_work(engine: *const Engine) bool {
    if (engine.parked.count > 0 and engine.buffers.can_serve()) return true;
    if (engine.full_count == 0) return false;
    return engine.buffers.has_released() or engine.blocks.has_released();
}

const Place = struct { ring: *BufferRing, id: u32 };

/// A buffer or block by its number in records.
fn place_of(engine: *Engine, number: u32) Place {
    const blocks_first = engine.blocks.shape.first;
    if (number < blocks_first) return .{ .ring = &engine.buffers, .id = number };
    return .{ .ring = &engine.blocks, .id = number - blocks_first };
}

/// Marks a delivered one as lent, to JavaScript or a send queue, unless too many are: 0 or an
/// errno.
pub fn lend(engine: *Engine, number: u32) i32 {
    const place = place_of(engine, number);
    if (place.ring.is_low()) return errno.nobufs;
    return place.ring.lend(place.id);
}

/// A send queue gives it back when its bytes have left.
pub fn return_from_queue(engine: *Engine, number: u32) void {
    const place = place_of(engine, number);
    place.ring.release(place.id);
}

/// The end of a loan, from its deallocator, on any thread.
pub fn release(engine: *Engine, address: usize) void {
    for ([_]*BufferRing{ &engine.buffers, &engine.blocks }) |ring| {
        if (ring.id_at(address)) |id| return ring.release(id);
    }
    unreachable; // only what was lent has the deallocator
}

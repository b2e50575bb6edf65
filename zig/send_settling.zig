//! What becomes of the segments of a send queue: consumed, broken, cancelled, given back.
//!
//! A CQE says how far the front of the queue got; what is left goes again before anything later
//! (I6), unless its owner wanted to hear of a break. An end is remembered first and told at the end
//! of the reap, where there is room for records, and not before the memory is free (I1). Called by
//! `sending.zig`, `engine.zig`, `calls.zig` and `connection.zig`.

const std = @import("std");
const assert = std.debug.assert;
const seam = @import("kernel.zig");
const slots = @import("slots.zig");
const segments = @import("segment.zig");
const sending_file = @import("sending.zig");
const send_chain = @import("send_chain.zig");
const passing = @import("passing.zig");
const splicing = @import("splicing.zig");
const submission = @import("submission.zig");
const mutation = @import("testing/mutation.zig");
const Connection = @import("connection.zig").Connection;
const Engine = @import("engine.zig").Engine;
const Segment = segments.Segment;
const errno = seam.errno;
const none = segments.none;

/// Segments at the front of which nothing is left, nor of what was written before them.
pub fn drop_ended(connection: *Connection, engine: *Engine) void {
    const sending = &connection.sending;
    while (sending.head != none) {
        const slot = sending.head;
        const segment = engine.segments.at(slot);
        if (!segment.before.is_empty() or segment.left() > 0) return;
        sending.head = segment.next;
        if (sending.head == none) sending.tail = none;
        segment.queued = false;
        if (!segment.over) conclude(engine, slot, segment, all_sent);
        retire_if_free(engine, slot, segment);
    }
}

// Completion -----------------------------------------------------------------------------------

/// So many bytes of the message in flight were sent; it has landed.
pub fn on_sent(connection: *Connection, engine: *Engine, count: u32) void {
    const sending = &connection.sending;
    var slot = sending.head;
    while (slot != none) {
        const segment = engine.segments.at(slot);
        segment.flying = false;
        slot = segment.next;
    }
    consume(connection, engine, count);
    if (sending.cancel != .no) end_cancelled(connection, engine);
    drop_ended(connection, engine);
}

/// Takes bytes from the front of the queue.
fn consume(connection: *Connection, engine: *Engine, count: u32) void {
    const sending = &connection.sending;
    const pool = &engine.staging_pool;
    var left = count;
    while (sending.head != none and left > 0) {
        const segment = engine.segments.at(sending.head);
        const staged = @min(left, segment.before.size);
        segment.before.consume(pool, staged);
        sending.size -= staged;
        left -= staged;
        const own: u32 = @intCast(@min(left, segment.left()));
        segment.advance(own);
        left -= own;
        if (!segment.before.is_empty() or segment.left() > 0) break;
        drop_ended(connection, engine);
    }
    if (left == 0) return;
    sending.staged.consume(pool, left);
    sending.size -= left;
}

/// What was to be cancelled and is not in flight any more.
fn end_cancelled(connection: *Connection, engine: *Engine) void {
    connection.sending.cancel = .no;
    var slot = connection.sending.head;
    while (slot != none) {
        const segment = engine.segments.at(slot);
        const next = segment.next;
        if (segment.cancelled and !segment.over and segment.left() > 0) {
            conclude(engine, slot, segment, errno.canceled);
        }
        slot = next;
    }
}

/// A CQE of a member: its result, or the notification that its memory is free.
pub fn on_member(
    engine: *Engine,
    user_data: slots.UserData,
    place: send_chain.Place,
    cqe: *const seam.Cqe,
) void {
    const slot: u32 = user_data.slot;
    const segment = engine.segments.find(slot, user_data.generation) orelse
        return engine.stale(cqe);
    if (cqe.flags & seam.cqe_flag.notification != 0) {
        return on_notification(engine, slot, segment, place, cqe.res);
    }
    const more = cqe.flags & seam.cqe_flag.more != 0;
    const before = segment.chain.bytes_sent;
    const asked = segment.member_length(place);
    const event = segment.chain.on_operation(place, asked, cqe.res, more);
    engine.counters.bytes_sent += @intCast(segment.chain.bytes_sent - before);
    if (event == .pending or !segment.flying) return;
    const index = segment.connection;
    const connection = engine.connections.find(index, segment.generation) orelse return;
    on_window(connection, engine, index, segment);
}

/// All operations of the window are complete.
fn on_window(connection: *Connection, engine: *Engine, index: u32, segment: *Segment) void {
    const sending = &connection.sending;
    const slot = sending.head;
    assert(engine.segments.at(slot) == segment and sending.linked);
    if (segment.chained) engine.counters.chain_operations_complete += 1;
    sending_file.land(connection, engine);
    segment.flying = false;
    segment.advance(segment.chain.bytes_sent - segment.sent);
    if (segment.chain.has_hole()) {
        connection.fail(engine, index, errno.io);
    } else if (segment.left() > 0) {
        on_break(connection, engine, index, slot, segment);
    }
    sending.cancel = .no;
    drop_ended(connection, engine);
    const quiet = sending.is_empty() and connection.shut == .none and connection.failure == 0;
    if (!quiet) engine.mark(index);
    sending_file.maybe_drain(connection, engine, index);
}

/// Not all of the segment is sent: a further window follows, or it ends here.
fn on_break(
    connection: *Connection,
    engine: *Engine,
    index: u32,
    slot: u32,
    segment: *Segment,
) void {
    const code = switch (segment.chain.cause()) {
        .none => return if (segment.cancelled) conclude(engine, slot, segment, errno.canceled),
        .short => ended_short,
        .code => |code| code,
    };
    switch (code) {
        // The socket cannot, or there is no memory to be locked: copies are sent from here on.
        errno.notsup, errno.nobufs, errno.nomem => if (segment.lent) {
            connection.sending.copies = true;
            return;
        },
        else => {},
    }
    if (segment.cancelled) return conclude(engine, slot, segment, errno.canceled);
    if (passing.is_refused(segment, code)) return conclude(engine, slot, segment, code);
    const reports = segment.reports or mutation.is(.drop_remainder) and code == ended_short;
    if (reports) conclude(engine, slot, segment, code);
    if (code < 0 and !sending_file.is_retried(connection, code)) {
        sending_file.fail(connection, engine, index, code);
    }
}

/// `Segment.result` of what was sent to the end, and of what broke off without an errno.
const all_sent = 1;
const ended_short = 0;

fn on_notification(
    engine: *Engine,
    slot: u32,
    segment: *Segment,
    place: send_chain.Place,
    usage: i32,
) void {
    if (usage & seam.notification_copied != 0) {
        // Two costs and no gain, as on loopback: not again on this connection.
        engine.counters.zero_copy_copied += 1;
        if (engine.connections.find(segment.connection, segment.generation)) |connection| {
            connection.sending.copies = true;
        }
    }
    const strays = segment.chain.strays;
    const event = segment.chain.on_notification(place);
    engine.counters.notifications_stray += segment.chain.strays - strays;
    if (event != .complete or !segment.over) return;
    if (segment.owner != .none) engine.finished.push(&engine.segments, slot);
    retire_if_free(engine, slot, segment);
}

/// The outcome is known; its owner is told once the memory is free.
fn conclude(engine: *Engine, slot: u32, segment: *Segment, result: i32) void {
    segment.conclude(result);
    if (mutation.is(.keep_loan) and segment.copied) return;
    if (segment.owner != .none and segment.is_free()) {
        engine.finished.push(&engine.segments, slot);
    }
}

fn retire_if_free(engine: *Engine, slot: u32, segment: *Segment) void {
    if (segment.queued or segment.owner != .none or segment.chain.promised != 0) return;
    engine.transfers.release(&segment.block);
    passing.detach(engine, segment);
    splicing.detach(engine, segment);
    engine.segments.retire(slot);
}

/// Tells the owners of what has ended, as far as there is room for records (I9).
pub fn report(engine: *Engine) void {
    // Each CQE of a batch that is being handled may want a record of its own.
    while (engine.record_count + engine.cqe_batch.len < engine.records.len) {
        const slot = engine.finished.pop(&engine.segments) orelse return;
        const segment = engine.segments.at(slot);
        const owner = segment.owner;
        segment.owner = .none;
        switch (owner) {
            .none => {},
            .operation => |operation| {
                submission.settle_send(engine, operation, segment.result, segment.sent);
            },
            .lent => |lent| lent.release(engine, lent.context, segment.sent, segment.size),
        }
        retire_if_free(engine, slot, segment);
    }
}

// Cancel and end -------------------------------------------------------------------------------

/// Asked for by its owner. What is in flight ends with its own CQE (I2), the rest at once.
pub fn cancel(engine: *Engine, slot: u32) void {
    const segment = engine.segments.at(slot);
    if (segment.cancelled or segment.over) return;
    segment.cancelled = true;
    if (mutation.is(.ignore_send_cancel)) return conclude(engine, slot, segment, errno.canceled);
    const index = segment.connection;
    const connection = engine.connections.find(index, segment.generation) orelse return;
    engine.mark(index);
    if (!segment.flying) return conclude(engine, slot, segment, errno.canceled);
    const sending = &connection.sending;
    if (sending.cancel == .no) sending.cancel = .wanted;
}

/// The connection is on its way out and has nothing in flight.
pub fn abandon(connection: *Connection, engine: *Engine, cause: i32) void {
    const sending = &connection.sending;
    assert(cause < 0);
    while (sending.head != none) {
        const slot = sending.head;
        const segment = engine.segments.at(slot);
        segment.before.clear(&engine.staging_pool);
        segment.flying = false;
        if (!segment.over and segment.left() > 0) conclude(engine, slot, segment, cause);
        drop_ended(connection, engine);
    }
}

//! The part of a connection's send queue that is not staged bytes: segments, sent in place.
//!
//! What lies side by side in the queue leaves as one message of at most 256 KiB. A chain leaves as
//! linked members, pushed together or not at all; so does, by itself, what is to be sent without a
//! copy. Either is the connection's one send in flight (I5). What becomes of it is
//! `send_settling.zig`. Called by `sending.zig` and `send_start.zig`.

const std = @import("std");
const assert = std.debug.assert;
const seam = @import("kernel.zig");
const slots = @import("slots.zig");
const segments = @import("segment.zig");
const sending_file = @import("sending.zig");
const send_chain = @import("send_chain.zig");
const staging = @import("staging.zig");
const passing = @import("passing.zig");
const settling = @import("send_settling.zig");
const splicing = @import("splicing.zig");
const socket = @import("operation/connection.zig");
const mutation = @import("testing/mutation.zig");
const Connection = @import("connection.zig").Connection;
const Engine = @import("engine.zig").Engine;
const Kind = @import("operation.zig").Kind;
const Segment = segments.Segment;
const none = segments.none;

/// Members in flight of what is sent without a copy and is no chain: 1 MiB.
const loan_window = 4;

/// Puts a segment behind everything that was written so far.
pub fn push(connection: *Connection, engine: *Engine, index: u32, slot: u32) void {
    const sending = &connection.sending;
    const segment = engine.segments.at(slot);
    segment.queued = true;
    if (!mutation.is(.overtake)) {
        segment.before = sending.staged;
        sending.staged = .{};
    }
    if (sending.tail == none) {
        sending.head = slot;
    } else {
        engine.segments.at(sending.tail).next = slot;
    }
    sending.tail = slot;
    engine.mark(index);
}

// Submission -----------------------------------------------------------------------------------

/// Nothing is in flight, and there is a segment. False: no SQE was to be had.
pub fn advance(connection: *Connection, engine: *Engine, index: u32) bool {
    const sending = &connection.sending;
    settling.drop_ended(connection, engine);
    if (sending.is_empty()) {
        // What was cancelled has no CQE that would tell of room.
        if (sending.wants_drain) engine.starved.push(&engine.connections, index);
        return true;
    }
    if (sending.corked) return true;
    if (sending.head == none) return sending_file.submit_staged(connection, engine, index);
    const segment = engine.segments.at(sending.head);
    if (segment.before.is_empty() and goes_alone(connection, engine, segment)) {
        return submit_window(connection, engine, index, segment);
    }
    return submit_message(connection, engine, index);
}

/// Whether it is a send of its own, or several: a chain, or memory that is not to be copied.
fn goes_alone(connection: *const Connection, engine: *const Engine, segment: *const Segment) bool {
    if (segment.left() == 0) return false;
    if (segment.chained or passing.is_laden(segment) or segment.pipe != null) return true;
    return may_lend(connection, engine, segment, segment.left());
}

fn may_lend(
    connection: *const Connection,
    engine: *const Engine,
    segment: *const Segment,
    len: u64,
) bool {
    const sending = &connection.sending;
    if (sending.copies or segment.copies or !engine.has(.zero_copy_send)) return false;
    const asked = sending.zero_copy_min;
    return len >= if (asked > 0) asked else engine.zero_copy_min;
}

/// What lies at the front of the queue, piece by piece, up to what has to go alone.
const Front = struct {
    connection: *const Connection,
    engine: *Engine,
    slot: u32,
    staged: staging.Chain.Iterator,
    pieces: ?Segment.Pieces = null,
    budget: usize = segments.submission_max,

    fn of(connection: *const Connection, engine: *Engine) Front {
        const slot = connection.sending.head;
        const staged = staged_before(connection, engine, slot);
        return .{ .connection = connection, .engine = engine, .slot = slot, .staged = staged };
    }

    fn staged_before(
        connection: *const Connection,
        engine: *Engine,
        slot: u32,
    ) staging.Chain.Iterator {
        const pool = &engine.staging_pool;
        if (slot == none) return connection.sending.staged.iterate(pool);
        return engine.segments.at(slot).before.iterate(pool);
    }

    fn next(front: *Front) ?[]const u8 {
        while (front.budget > 0) {
            if (front.staged.next()) |bytes| return front.take(bytes);
            if (front.slot == none) return null;
            const segment = front.engine.segments.at(front.slot);
            if (front.pieces == null) {
                if (goes_alone(front.connection, front.engine, segment)) return null;
                front.pieces = segment.pieces();
            }
            if (front.pieces.?.next(front.budget)) |bytes| return front.take(bytes);
            front.slot = segment.next;
            front.staged = staged_before(front.connection, front.engine, front.slot);
            front.pieces = null;
        }
        return null;
    }

    fn take(front: *Front, bytes: []const u8) []const u8 {
        const taken = bytes[0..@min(bytes.len, front.budget)];
        front.budget -= taken.len;
        return taken;
    }
};

fn submit_message(connection: *Connection, engine: *Engine, index: u32) bool {
    const sending = &connection.sending;
    const sqe = engine.sqe() orelse return false;
    const file = connection.file_of(index);
    const user_data = Connection.tag(engine, index, .send);
    var front: Front = .of(connection, engine);
    const first = front.next().?;
    const second = front.next();
    const message = if (second != null) sending.message(engine) else null;
    sending.in_flight = @intCast(first.len);
    if (message) |made| {
        made.parts[0] = .{ .base = first.ptr, .len = first.len };
        var count: usize = 1;
        var more = second;
        while (more) |part| : (count += 1) {
            made.parts[count] = .{ .base = part.ptr, .len = part.len };
            sending.in_flight += @intCast(part.len);
            more = if (count + 1 < made.parts.len) front.next() else null;
        }
        socket.Send.prepare_message(sqe, file, made.seal(count), user_data);
    } else {
        // One piece, or no block left for the header: then the rest goes as its remainder.
        socket.Send.prepare(sqe, file, first, user_data);
    }
    sending.pending = true;
    sending.cancel = .no;
    set_flying(sending, engine);
    return true;
}

/// Marks the segments that have bytes among those in flight.
fn set_flying(sending: *const sending_file.Sending, engine: *Engine) void {
    var left: u64 = sending.in_flight;
    var slot = sending.head;
    while (slot != none and left > 0) {
        const segment = engine.segments.at(slot);
        left -|= segment.before.size;
        segment.flying = left > 0 and segment.left() > 0;
        left -|= segment.left();
        slot = segment.next;
    }
}

/// Linked members from the first segment, as many as fit; all of them or none are pushed.
fn submit_window(
    connection: *Connection,
    engine: *Engine,
    index: u32,
    segment: *Segment,
) bool {
    const sending = &connection.sending;
    if (segment.pipe) |pipe| return splicing.send(connection, engine, index, segment, pipe);
    if (passing.is_laden(segment)) return submit_parcel(connection, engine, index, segment);
    if (!segment.chained and segment.parts.len > 1) {
        return submit_lent_message(connection, engine, index, segment);
    }
    const most: u32 = if (segment.chained) send_chain.window_max else loan_window;
    const count_max = @min(most, engine.kernel.room() + engine.kernel.queued());
    var list = segment.pieces();
    var count: u32 = 0;
    segment.window = 0;
    while (count < count_max) : (count += 1) {
        segment.window += (list.next(segments.submission_max) orelse break).len;
    }
    const needed = if (mutation.is(.split_window)) 1 else count;
    if (!engine.make_room(needed)) return false;
    const first = begin_window(segment, count);
    list = segment.pieces();
    for (0..count) |position| {
        const place = first +% @as(send_chain.Place, @intCast(position));
        const piece = list.next(segments.submission_max).?;
        // `make_room` has counted it.
        const sqe = engine.sqe() orelse return mutation.is(.split_window);
        const user_data = member_tag(engine, sending.head, place);
        socket.Send.prepare(sqe, connection.file_of(index), piece, user_data);
        const lends = may_lend(connection, engine, segment, piece.len);
        if (lends and segment.chain.may_promise(place)) make_lent(engine, segment, sqe);
        // Link flags are set when the SQE is made, never afterwards.
        const linked = position + 1 < count and !mutation.is(.unlink_members);
        if (linked) sqe.flags |= seam.sqe_flag.io_link;
    }
    fly(sending, engine, segment);
    return true;
}

/// Several parts that together are worth it, in one message.
fn submit_lent_message(
    connection: *Connection,
    engine: *Engine,
    index: u32,
    segment: *Segment,
) bool {
    const sending = &connection.sending;
    const sqe = engine.sqe() orelse return false;
    const made = sending.message(engine) orelse {
        // No block for the header: one part at a time, and not worth it.
        segment.copies = true;
        return submit_piece(connection, engine, index, segment, sqe);
    };
    var list = segment.pieces();
    var count: usize = 0;
    segment.window = 0;
    while (count < made.parts.len and segment.window < segments.submission_max) : (count += 1) {
        const most = segments.submission_max - segment.window;
        const part = list.next(@intCast(most)) orelse break;
        made.parts[count] = .{ .base = part.ptr, .len = part.len };
        segment.window += part.len;
    }
    const place = begin_window(segment, 1);
    const user_data = member_tag(engine, sending.head, place);
    socket.Send.prepare_message(sqe, connection.file_of(index), made.seal(count), user_data);
    if (segment.chain.may_promise(place)) make_lent(engine, segment, sqe);
    fly(sending, engine, segment);
    return true;
}

fn submit_piece(
    connection: *Connection,
    engine: *Engine,
    index: u32,
    segment: *Segment,
    sqe: *seam.Sqe,
) bool {
    var list = segment.pieces();
    const piece = list.next(segments.submission_max).?;
    segment.window = piece.len;
    const place = begin_window(segment, 1);
    const user_data = member_tag(engine, connection.sending.head, place);
    socket.Send.prepare(sqe, connection.file_of(index), piece, user_data);
    fly(&connection.sending, engine, segment);
    return true;
}

/// Descriptors, with the first bytes of their segment; the rest follows when these were sent.
fn submit_parcel(
    connection: *Connection,
    engine: *Engine,
    index: u32,
    segment: *Segment,
) bool {
    const sqe = engine.sqe() orelse return false;
    var list = segment.pieces();
    const piece = list.next(segments.submission_max).?;
    segment.window = piece.len;
    const place = begin_window(segment, 1);
    const user_data = member_tag(engine, connection.sending.head, place);
    const header = passing.header(segment, piece);
    socket.Send.prepare_message(sqe, connection.file_of(index), header, user_data);
    fly(&connection.sending, engine, segment);
    return true;
}

fn begin_window(segment: *Segment, count: u32) send_chain.Place {
    segment.lent = false;
    if (segment.chain.is_active()) return segment.chain.extend(count, segment.window);
    return segment.chain.start(count, segment.window);
}

fn make_lent(engine: *Engine, segment: *Segment, sqe: *seam.Sqe) void {
    socket.Send.make_zero_copy(sqe);
    segment.lent = true;
    engine.counters.sends_zero_copy += 1;
}

fn fly(sending: *sending_file.Sending, engine: *Engine, segment: *Segment) void {
    if (segment.chained) engine.counters.chain_windows += 1;
    segment.flying = true;
    sending.pending = true;
    sending.linked = true;
    sending.cancel = .no;
}

fn member_tag(engine: *const Engine, slot: u32, place: send_chain.Place) slots.UserData {
    return .{
        .slot = @intCast(slot),
        .kind = Kind.of_member(place),
        .generation = engine.segments.generation(slot),
    };
}

/// The member that a cancel must name (K4).
pub fn running(engine: *Engine, slot: u32) ?slots.UserData {
    const place = engine.segments.at(slot).chain.running() orelse return null;
    return member_tag(engine, slot, place);
}

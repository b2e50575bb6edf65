//! What a datagram socket has to send: batches of messages, copied in, in order.
//!
//! A batch is one block of memory with a header for each message in front and the bytes behind.
//! Datagrams of one size to one place become one message with UDP_SEGMENT: the kernel takes them in
//! a sixth of the time. Usually all of a turn's messages are submitted together. When one finds no
//! room, and always on Unix sockets, they go as a chain in which each waits for the one before, so
//! that their order stands; after a refusal the socket is polled first. Called by `datagram.zig`.
//!
//!     queued ──submit──▶ in_flight ──CQE──▶ done        -EAGAIN: in_flight ──▶ queued

const std = @import("std");
const assert = std.debug.assert;
const seam = @import("kernel.zig");
const slots = @import("slots.zig");
const transfer = @import("transfer.zig");
const operation = @import("operation/datagram.zig");
const mutation = @import("testing/mutation.zig");
const Datagram = @import("datagram.zig").Datagram;
const Engine = @import("engine.zig").Engine;
const errno = seam.errno;

/// Messages of one batch, and of one chain.
pub const messages_max = 64;
/// Datagrams that the kernel splits one message into: UDP_MAX_SEGMENTS of old kernels.
const segments_max = 64;
/// What fits into one IPv4 datagram, split or not.
const gso_size_max = 65507;
/// Any path carries so much in one packet: the least MTU of IPv6 without its headers.
const segment_size_sure = 1232;
/// The block of a batch, in the middle class of `transfer.zig`.
const block_size = 64 * 1024 + 512;
const none = std.math.maxInt(u32);

const State = enum(u8) { queued, in_flight, done };

/// unknown ──a send finds none──▶ missing ──submit──▶ awaited ──CQE──▶ unknown
const Room = enum { unknown, missing, awaited };

const Message = extern struct {
    header: seam.MessageHeader,
    part: seam.Iovec,
    control: seam.SegmentControl,
    address: seam.SocketAddress,
    /// Bytes; those sent already of a message that goes piece by piece.
    size: u32,
    sent: u32,
    /// Size of each datagram but the last, which may be shorter; 0: it is one.
    segment: u32,
    state: State,
    /// The kernel would not split it: its datagrams go one after the other.
    piecemeal: bool,
    /// It met an error that was about an earlier datagram, once.
    retried: bool,
    padding: u8 = 0,

    /// Whether a datagram of so many bytes to the same place can be part of it.
    fn admits(message: *const Message, to: ?*const seam.SocketAddress, len: u32, most: u32) bool {
        if (message.state != .queued or message.piecemeal or message.retried) return false;
        const segment = if (message.segment > 0) message.segment else message.size;
        if (len == 0 or len > segment or segment > most) return false;
        if (message.size % segment != 0) return false; // its last one is shorter already
        if (message.size / segment >= segments_max) return false;
        if (message.size + len > gso_size_max) return false;
        const target = to orelse return message.header.namelen == 0;
        return target.len == message.address.len and
            std.mem.eql(u8, target.bytes[0..target.len], message.address.bytes[0..target.len]);
    }

    fn count(message: *const Message) u32 {
        if (message.segment == 0) return 1;
        return std.math.divCeil(u32, message.size, message.segment) catch unreachable;
    }
};

pub const Batch = struct {
    block: transfer.Block,
    socket: u32,
    /// The batch behind it in its socket's queue.
    next: u32 = none,
    capacity: u32,
    count: u32 = 0,
    done: u32 = 0,
    /// Bytes of payload so far.
    used: u32 = 0,

    fn messages(batch: *const Batch) []Message {
        const first: [*]Message = @ptrCast(@alignCast(batch.block.bytes.ptr));
        return first[0..batch.count];
    }

    /// Where payload goes: behind room for all headers.
    fn room(batch: *Batch) []u8 {
        return batch.block.bytes[batch.capacity * @sizeOf(Message) + batch.used ..];
    }
};

/// What one message costs of a socket's high-water mark besides its bytes.
const overhead = @sizeOf(Message);

/// The socket's part: its batches, oldest first, and what they hold.
pub const Outgoing = struct {
    head: u32 = none,
    tail: u32 = none,
    /// Messages that wait for their SQE; in the kernel.
    waiting: u32 = 0,
    in_flight: u32 = 0,
    /// Bytes of all that are not done, with `overhead`.
    size: u32 = 0,
    /// Each waits for the one before: the socket was full, or is a Unix one.
    in_order: bool = false,
    room: Room = .unknown,
    /// A socket that is closing found no room: what is left would leave a gap, and goes nowhere.
    cut: bool = false,
    /// A send was refused: JavaScript waits for `drain`.
    wants_drain: bool = false,
    /// Largest size that is left to the kernel to split; 0: none.
    segment_max: u32 = 0,

    /// The kernel holds nothing of it.
    pub fn is_idle(outgoing: *const Outgoing) bool {
        return outgoing.in_flight == 0 and outgoing.room != .awaited;
    }
};

/// 1 if the datagram was taken, 0 if the queue is full, or an errno.
pub fn append(
    socket: *Datagram,
    engine: *Engine,
    index: u32,
    to: ?*const seam.SocketAddress,
    bytes: []const u8,
) i32 {
    const outgoing = &socket.outgoing;
    const len: u32 = @intCast(bytes.len);
    if (outgoing.size > 0 and outgoing.size + len + overhead > engine.high_water_mark) {
        outgoing.wants_drain = true;
        return 0;
    }
    if (coalesce(engine, outgoing, to, bytes)) return 1;
    const batch = batch_for(engine, outgoing, index, len) catch return errno.nomem;
    const place = batch.room()[0..len];
    @memcpy(place, bytes);
    batch.used += len;
    batch.count += 1;
    const message = &batch.messages()[batch.count - 1];
    // Field by field: most of the address would be copied for nothing.
    message.part = .{ .base = place.ptr, .len = len };
    message.size = len;
    message.sent = 0;
    message.segment = 0;
    message.state = .queued;
    message.piecemeal = false;
    message.retried = false;
    message.header = std.mem.zeroes(seam.MessageHeader);
    message.header.iov = @ptrCast(&message.part);
    message.header.iovlen = 1;
    message.address.len = 0;
    if (to) |target| {
        @memcpy(message.address.bytes[0..target.len], target.bytes[0..target.len]);
        message.address.len = target.len;
        message.header.name = @ptrCast(&message.address.bytes);
        message.header.namelen = target.len;
    }
    outgoing.waiting += 1;
    outgoing.size += len + overhead;
    return 1;
}

/// Lets the datagram ride with the last message. Its bytes lie behind that one's.
fn coalesce(
    engine: *Engine,
    outgoing: *Outgoing,
    to: ?*const seam.SocketAddress,
    bytes: []const u8,
) bool {
    if (outgoing.segment_max == 0 or outgoing.tail == none) return false;
    const batch = engine.datagrams.batches.at(outgoing.tail);
    const message = &batch.messages()[batch.count - 1];
    const len: u32 = @intCast(bytes.len);
    if (!message.admits(to, len, outgoing.segment_max)) return false;
    const room = batch.room();
    if (room.len < len) return false;
    assert(message.part.base + message.size == room.ptr);
    @memcpy(room[0..len], bytes);
    batch.used += len;
    if (message.segment == 0) {
        message.segment = message.size;
        message.control = .of(message.segment);
        message.header.control = &message.control;
        message.header.controllen = @sizeOf(seam.SegmentControl);
    }
    message.size += len;
    message.part.len = message.size;
    outgoing.size += len;
    return true;
}

/// The last batch if it has room, else a new one.
fn batch_for(engine: *Engine, outgoing: *Outgoing, index: u32, len: u32) error{OutOfMemory}!*Batch {
    const batches = &engine.datagrams.batches;
    if (outgoing.tail != none) {
        const last = batches.at(outgoing.tail);
        if (last.count < last.capacity and last.room().len >= len) return last;
    }
    // A datagram that fills a block has it alone.
    const shared = block_size - messages_max * @sizeOf(Message);
    const capacity: u32 = if (len <= shared) messages_max else 1;
    const size = @max(block_size, @sizeOf(Message) + len);
    const slot = batches.claim() orelse return error.OutOfMemory;
    const batch = batches.at(slot);
    const block = engine.transfers.acquire(size) catch {
        batches.retire(slot);
        return error.OutOfMemory;
    };
    batch.* = .{ .block = block, .socket = index, .capacity = capacity };
    if (outgoing.tail == none) outgoing.head = slot else batches.at(outgoing.tail).next = slot;
    outgoing.tail = slot;
    return batch;
}

// Submission -----------------------------------------------------------------------------------

/// Submits what waits. False: no SQE was to be had.
pub fn advance(socket: *Datagram, engine: *Engine, index: u32) bool {
    const outgoing = &socket.outgoing;
    if (outgoing.waiting == 0) return true;
    switch (outgoing.room) {
        .unknown => {},
        // One that is closing waits for nobody.
        .missing => if (!socket.is_ending()) return submit_wait(socket, engine, index),
        .awaited => return true,
    }
    if (!outgoing.in_order) return submit_run(socket, engine, outgoing.waiting, false);
    if (outgoing.in_flight > 0) return true; // the chain before it is under way
    const most = @min(outgoing.waiting, messages_max, engine.config.entries);
    if (!engine.make_room(most)) return false;
    return submit_run(socket, engine, most, true);
}

fn submit_wait(socket: *Datagram, engine: *Engine, index: u32) bool {
    const sqe = engine.sqe() orelse return false;
    const user_data = Datagram.tag(engine, index, .datagram_wait);
    if (socket.family == .unix and !socket.connected) {
        operation.Wait.prepare_pause(sqe, user_data);
    } else {
        operation.Wait.prepare(sqe, socket.fd, user_data);
    }
    socket.outgoing.room = .awaited;
    return true;
}

fn submit_run(socket: *Datagram, engine: *Engine, most: u32, chained: bool) bool {
    const outgoing = &socket.outgoing;
    var left = most;
    var slot = outgoing.head;
    while (slot != none) {
        const batch = engine.datagrams.batches.at(slot);
        for (batch.messages(), 0..) |*message, i| {
            if (left == 0) return true;
            if (message.state != .queued) continue;
            const sqe = engine.sqe() orelse return false;
            const user_data = tag(engine, slot, @intCast(i));
            operation.Send.prepare(sqe, socket.fd, &message.header, user_data);
            left -= 1;
            const linked = chained and left > 0 and !mutation.is(.lose_datagram_order);
            if (linked) sqe.flags |= seam.sqe_flag.io_link;
            message.state = .in_flight;
            outgoing.waiting -= 1;
            outgoing.in_flight += 1;
        }
        slot = batch.next;
    }
    assert(left == 0);
    return true;
}

/// Batch and message share the bits of a slot.
fn tag(engine: *Engine, slot: u32, message: u32) slots.UserData {
    return .{
        .slot = @intCast(slot * messages_max + message),
        .kind = .datagram_send,
        .generation = engine.datagrams.batches.generation(slot),
    };
}

// Completion -----------------------------------------------------------------------------------

pub fn on_send(engine: *Engine, user_data: slots.UserData, cqe: *const seam.Cqe) void {
    const datagrams = &engine.datagrams;
    const slot = user_data.slot / messages_max;
    const batch = datagrams.batches.find(slot, user_data.generation) orelse
        return datagrams.stale(engine, cqe);
    const place = user_data.slot % messages_max;
    if (place >= batch.count) return datagrams.stale(engine, cqe);
    const message = &batch.messages()[place];
    if (message.state != .in_flight) return; // a kernel that completes twice harms nobody
    const index = batch.socket;
    const socket = datagrams.sockets.at(index);
    const outgoing = &socket.outgoing;
    outgoing.in_flight -= 1;
    message.state = .queued;
    if (judge(socket, engine, index, message, cqe.res) == .settled) {
        message.state = .done;
        batch.done += 1;
        outgoing.size -= message.size + overhead;
    } else {
        outgoing.waiting += 1;
    }
    if (outgoing.cut) discard(engine, outgoing) else release_done(engine, outgoing);
    const unix = socket.family == .unix;
    if (outgoing.waiting == 0 and outgoing.in_flight == 0 and !unix) outgoing.in_order = false;
    if (outgoing.waiting > 0 or socket.is_ending()) datagrams.mark(index);
    maybe_drain(socket, engine, index);
}

const Verdict = enum { settled, again };

/// What a result means for the message: it is over, or it goes once more.
fn judge(
    socket: *Datagram,
    engine: *Engine,
    index: u32,
    message: *Message,
    result: i32,
) Verdict {
    if (result >= 0) {
        const sent: u32 = if (message.piecemeal) piece_of(message) else message.size;
        engine.counters.bytes_sent += sent;
        engine.counters.datagrams_sent += if (message.piecemeal) 1 else message.count();
        return next_piece(message, sent);
    }
    switch (result) {
        errno.again => {
            if (socket.is_ending()) { // it waits for nobody
                socket.outgoing.cut = socket.outgoing.in_order;
                return .settled;
            }
            socket.outgoing.in_order = true;
            if (socket.outgoing.room == .unknown) socket.outgoing.room = .missing;
            return .again;
        },
        // The one before it in its chain was refused.
        errno.canceled, errno.intr => {
            const given_up = socket.failure != 0 or socket.outgoing.cut;
            return if (given_up or mutation.is(.lose_followers)) .settled else .again;
        },
        else => {},
    }
    if (message.segment > 0 and !message.piecemeal and is_refusal_to_split(result)) {
        give_up_splitting(&socket.outgoing, message);
        return .again;
    }
    socket.report(engine, index, result);
    // The error of a connected socket may be that of an earlier datagram, and this one was kept.
    if (socket.connected and is_of_the_past(result) and !message.retried) {
        message.retried = true;
        return .again;
    }
    return next_piece(message, if (message.piecemeal) piece_of(message) else message.size);
}

/// udp(7): no such option, no checksums in hardware, or a datagram that needs fragments.
fn is_refusal_to_split(result: i32) bool {
    return result == errno.inval or result == errno.io or result == errno.msgsize;
}

fn give_up_splitting(outgoing: *Outgoing, message: *Message) void {
    const smaller: u32 = if (message.segment > segment_size_sure) segment_size_sure else 0;
    outgoing.segment_max = @min(outgoing.segment_max, smaller);
    message.piecemeal = true;
    message.header.control = null;
    message.header.controllen = 0;
    message.part.len = piece_of(message);
}

fn piece_of(message: *const Message) u32 {
    return @min(message.segment, message.size - message.sent);
}

fn next_piece(message: *Message, sent: u32) Verdict {
    if (!message.piecemeal) return .settled;
    message.sent += sent;
    message.retried = false;
    if (message.sent == message.size or mutation.is(.lose_pieces)) return .settled;
    message.part.base += sent;
    message.part.len = piece_of(message);
    return .again;
}

/// ICMP's answers to what was sent before: udp(7), icmp(7).
fn is_of_the_past(result: i32) bool {
    return switch (result) {
        errno.connrefused, errno.hostunreach, errno.netunreach, errno.hostdown => true,
        errno.proto, errno.noprotoopt, errno.nonet => true,
        else => false,
    };
}

/// Batches leave the queue at its head, when all of their messages are done (I1).
fn release_done(engine: *Engine, outgoing: *Outgoing) void {
    const batches = &engine.datagrams.batches;
    while (outgoing.head != none) {
        const slot = outgoing.head;
        const batch = batches.at(slot);
        if (batch.done < batch.count and !mutation.is(.release_batch_early)) return;
        outgoing.head = batch.next;
        if (outgoing.head == none) outgoing.tail = none;
        release(engine, slot);
    }
}

fn release(engine: *Engine, slot: u32) void {
    engine.transfers.release(&engine.datagrams.batches.at(slot).block);
    engine.datagrams.batches.retire(slot);
}

/// There is room again for a sender that was refused: once per refusal.
fn maybe_drain(socket: *Datagram, engine: *Engine, index: u32) void {
    const outgoing = &socket.outgoing;
    if (!outgoing.wants_drain or socket.is_ending()) return;
    if (outgoing.size > engine.high_water_mark / 2) return;
    outgoing.wants_drain = false;
    if (mutation.is(.forget_datagram_drain)) return;
    socket.record(engine, index, .datagram_drain, 0);
}

/// What is not in the kernel is given up.
pub fn discard(engine: *Engine, outgoing: *Outgoing) void {
    var slot = outgoing.head;
    while (slot != none) {
        const batch = engine.datagrams.batches.at(slot);
        for (batch.messages()) |*message| {
            if (message.state != .queued) continue;
            message.state = .done;
            batch.done += 1;
            outgoing.waiting -= 1;
            outgoing.size -= message.size + overhead;
        }
        slot = batch.next;
    }
    release_done(engine, outgoing);
}

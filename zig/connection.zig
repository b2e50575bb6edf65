//! One stream connection: connect, receive, send queue, half-close, close.
//!
//! CQEs and calls only set state and mark the connection; `advance` looks at the state once per
//! turn and submits what it asks for, as a list of ordered guards. That gives one send per turn, a
//! place for back-pressure (no SQE: try again next turn), and one function that holds every order
//! that matters. Called by `engine.zig` and `operation/connection.zig`. It never waits and never
//! closes a descriptor that an operation still names (K5).

const std = @import("std");
const assert = std.debug.assert;
const abi = @import("abi.zig");
const seam = @import("kernel.zig");
const slots = @import("slots.zig");
const staging = @import("staging.zig");
const socket = @import("operation/connection.zig");
const mutation = @import("testing/mutation.zig");
const Engine = @import("engine.zig").Engine;
const Kind = @import("operation.zig").Kind;
const errno = seam.errno;

/// connecting ──CQE──▶ open ──▶ closing ──CLOSE's CQE──▶ (retired)
///      └─ failed ─────────────────┘
pub const Stage = enum(u8) { connecting, open, closing };

/// How far the user wants the connection shut; it only grows.
pub const Shut = enum(u8) { none, end, close, terminate };

/// idle ──advance──▶ armed ──last CQE──▶ idle       ENOBUFS: armed ──▶ parked ──buffers──▶ idle
pub const Receiving = enum(u8) { idle, armed, parked };

/// Bytes at which a write with nothing queued before it is offered to the kernel inside the call:
/// below, one more system call costs more than the copy into a staging block.
const send_now_min = 4 * staging.block_size;

pub const Connection = struct {
    fd: i32,
    /// The first thing that went wrong, negative; 0 while sound. Reported with `close`.
    failure: i32 = 0,
    listener: u32,
    stage: Stage,
    shut: Shut = .none,
    receiving: Receiving = .idle,
    paused: bool = false,
    /// The slot's place among the registered files holds the descriptor.
    registered: bool = false,
    /// JavaScript knows the connection: it gets a `close` record.
    announced: bool = false,
    /// FIN received, FIN sent.
    peer_ended: bool = false,
    write_ended: bool = false,
    /// A write took less than it was offered: JavaScript waits for `drain`.
    wants_drain: bool = false,
    connect_pending: bool = false,
    send_pending: bool = false,
    shutdown_pending: bool = false,
    /// A cancel of the armed receive, or of everything, is on its way: not asked for twice.
    receive_cancelled: bool = false,
    all_cancelled: bool = false,
    cancels_pending: u8 = 0,
    filling: staging.Chain = .{},
    flight: staging.Chain = .{},
    /// The block that holds the flight's message header and iovecs.
    flight_header: ?u32 = null,
    dirty: slots.Link = .{},
    parked: slots.Link = .{},
    starved: slots.Link = .{},
    /// Where to connect to; the kernel reads it until the connect's CQE (I1).
    address: seam.SocketAddress = undefined,

    /// Submits what the state asks for. False: no SQE was to be had, come again next turn.
    pub fn advance(connection: *Connection, engine: *Engine, index: u32) bool {
        if (connection.stage == .closing) return true;
        if (connection.stage == .connecting) {
            // Only terminate gives a connect up: after end or close, what was written leaves first.
            if (connection.shut == .terminate) return connection.advance_abandoned(engine, index);
            return connection.submit_connect(engine, index);
        }
        if (connection.is_dying()) return connection.advance_abandoned(engine, index);
        if (!connection.advance_receive(engine, index)) return false;
        if (!connection.advance_send(engine, index)) return false;
        return connection.advance_shut(engine, index);
    }

    /// Nothing more is to be sent or received: cancel, wait for the last CQEs, close.
    fn is_dying(connection: *const Connection) bool {
        return connection.failure != 0 or connection.shut == .terminate;
    }

    fn is_busy(connection: *const Connection) bool {
        const receives = connection.receiving == .armed and !mutation.is(.close_early);
        return receives or connection.send_pending or
            connection.shutdown_pending or connection.connect_pending or
            connection.cancels_pending > 0;
    }

    fn advance_abandoned(connection: *Connection, engine: *Engine, index: u32) bool {
        connection.filling.clear(&engine.staging_pool);
        if (!connection.is_busy()) {
            if (connection.shut == .terminate) {
                // RST instead of FIN; if it is refused the close is merely a polite one.
                _ = engine.kernel.set_option(connection.fd, .linger_reset, 1);
            }
            return connection.submit_close(engine, index);
        }
        if (connection.all_cancelled) return true;
        const sqe = engine.sqe() orelse return false;
        socket.ConnectionCancel.prepare(sqe, connection.fd, tag(engine, index, .connection_cancel));
        connection.all_cancelled = true;
        connection.cancels_pending += 1;
        return true;
    }

    fn advance_receive(connection: *Connection, engine: *Engine, index: u32) bool {
        const wanted = !connection.paused and !connection.peer_ended and
            @intFromEnum(connection.shut) < @intFromEnum(Shut.close);
        switch (connection.receiving) {
            // Woken when buffers come back; if it is not wanted then, it stays idle.
            .parked => return true,
            .idle => {
                if (!wanted) return true;
                const sqe = engine.sqe() orelse return false;
                const multishot = engine.has(.multishot_receive);
                const file = connection.file_of(index);
                socket.Receive.prepare(sqe, file, multishot, tag(engine, index, .receive));
                connection.receiving = .armed;
                connection.receive_cancelled = false;
            },
            .armed => {
                if (wanted or connection.receive_cancelled) return true;
                if (mutation.is(.ignore_pause) and connection.paused) return true;
                const sqe = engine.sqe() orelse return false;
                const target = tag(engine, index, .receive);
                socket.ReceiveCancel.prepare(sqe, target, tag(engine, index, .receive_cancel));
                connection.receive_cancelled = true;
                connection.cancels_pending += 1;
            },
        }
        return true;
    }

    /// One send in flight at most (I5); what a short one left goes before anything later (I6).
    fn advance_send(connection: *Connection, engine: *Engine, index: u32) bool {
        if (connection.send_pending) return true;
        if (connection.flight.is_empty()) {
            if (connection.filling.is_empty()) return true;
            connection.flight = connection.filling;
            connection.filling = .{};
        }
        const sqe = engine.sqe() orelse return false;
        const user_data = tag(engine, index, .send);
        const file = connection.file_of(index);
        const first = connection.flight.first(&engine.staging_pool);
        if (first.len == connection.flight.size) {
            socket.Send.prepare(sqe, file, first, user_data);
        } else if (connection.flight_message(engine)) |header| {
            socket.Send.prepare_message(sqe, file, header, user_data);
        } else {
            // No block left for the header: the first block alone, the rest as its remainder.
            socket.Send.prepare(sqe, file, first, user_data);
        }
        connection.send_pending = true;
        if (mutation.is(.release_blocks_early)) connection.flight.clear(&engine.staging_pool);
        return true;
    }

    /// One block holds a msghdr and as many iovecs as fit behind it: 248 KiB in one send, so that
    /// progress is seen.
    const Message = extern struct {
        header: seam.MessageHeader,
        parts: [parts_max]seam.Iovec,
        const parts_max = (staging.block_size - @sizeOf(seam.MessageHeader)) / @sizeOf(seam.Iovec);
        comptime {
            assert(@sizeOf(Message) <= staging.block_size);
        }
    };

    fn flight_message(connection: *Connection, engine: *Engine) ?*const seam.MessageHeader {
        const pool = &engine.staging_pool;
        const block = connection.flight_header orelse pool.acquire() orelse return null;
        connection.flight_header = block;
        const message: *Message = @ptrCast(pool.bytes(block).ptr);
        var count: usize = 0;
        var iterator = connection.flight.iterate(pool);
        while (count < Message.parts_max) : (count += 1) {
            const part = iterator.next() orelse break;
            message.parts[count] = .{ .base = part.ptr, .len = part.len };
        }
        message.header = std.mem.zeroes(seam.MessageHeader);
        message.header.iov = &message.parts;
        message.header.iovlen = count;
        return &message.header;
    }

    /// FIN once the queue is empty; close once both sides are done, or the user will not wait.
    fn advance_shut(connection: *Connection, engine: *Engine, index: u32) bool {
        if (connection.shut == .none) return true;
        if (connection.send_pending or connection.shutdown_pending) return true;
        assert(connection.flight.is_empty() and connection.filling.is_empty());
        if (!connection.write_ended) {
            const sqe = engine.sqe() orelse return false;
            socket.Shutdown.prepare(sqe, connection.fd, tag(engine, index, .shutdown));
            connection.shutdown_pending = true;
            return true;
        }
        if (connection.shut == .end and !connection.peer_ended) return true;
        if (connection.is_busy()) return true;
        return connection.submit_close(engine, index);
    }

    fn submit_connect(connection: *Connection, engine: *Engine, index: u32) bool {
        if (connection.connect_pending) return true;
        const sqe = engine.sqe() orelse return false;
        const user_data = tag(engine, index, .connect);
        socket.Connect.prepare(sqe, connection.fd, &connection.address, user_data);
        connection.connect_pending = true;
        return true;
    }

    fn submit_close(connection: *Connection, engine: *Engine, index: u32) bool {
        assert(!connection.is_busy());
        const sqe = engine.sqe() orelse return false;
        connection.release_blocks(engine);
        if (connection.registered) {
            // The table holds the socket open as a descriptor does: out of it before the close.
            _ = engine.kernel.file_set(index, -1);
            connection.registered = false;
        }
        socket.Close.prepare(sqe, connection.fd, tag(engine, index, .close));
        connection.stage = .closing;
        return true;
    }

    fn release_blocks(connection: *Connection, engine: *Engine) void {
        assert(!connection.send_pending); // I1
        connection.filling.clear(&engine.staging_pool);
        connection.flight.clear(&engine.staging_pool);
        if (connection.flight_header) |block| engine.staging_pool.release(block);
        connection.flight_header = null;
    }

    fn file_of(connection: *const Connection, index: u32) socket.File {
        if (!connection.registered) return .{ .number = connection.fd };
        return .{ .number = @intCast(index), .registered = true };
    }

    fn tag(engine: *Engine, index: u32, kind: Kind) slots.UserData {
        return .{
            .slot = @intCast(index),
            .kind = kind,
            .generation = engine.connections.generation(index),
        };
    }

    fn fail(connection: *Connection, engine: *Engine, index: u32, code: i32) void {
        assert(code < 0);
        if (connection.failure == 0) connection.failure = code;
        engine.mark(index);
    }

    // Calls from JavaScript ---------------------------------------------------------------------

    /// Bytes taken. Large ones with nothing queued before them are offered to the kernel at once;
    /// what is left is copied as far as the mark and the pool allow.
    pub fn write(connection: *Connection, engine: *Engine, index: u32, bytes: []const u8) i32 {
        if (connection.shut != .none or connection.stage == .closing) return errno.shutdown;
        if (connection.failure != 0) return errno.pipe;
        var taken: u32 = 0;
        const idle = connection.flight.is_empty() and connection.filling.is_empty();
        if (idle and bytes.len >= send_now_min and connection.stage == .open) {
            const sent = engine.kernel.send_now(connection.fd, bytes);
            if (sent > 0) {
                taken = @intCast(sent);
                engine.counters.bytes_sent += taken;
            } else if (sent != errno.again and sent != errno.intr and sent != errno.nobufs) {
                connection.fail(engine, index, sent);
                return errno.pipe;
            }
        }
        const staged = connection.filling.size + connection.flight.size;
        const room = engine.high_water_mark -| staged;
        const rest = bytes[taken..];
        const offered = rest[0..@min(rest.len, room)];
        taken += connection.filling.append(&engine.staging_pool, offered);
        if (!connection.filling.is_empty()) engine.mark(index);
        if (taken < bytes.len) {
            connection.wants_drain = true;
            // Nothing of its own will complete and wake it: it queues for blocks.
            if (connection.filling.is_empty() and connection.flight.is_empty()) {
                engine.starved.push(&engine.connections, index);
            }
        }
        return @intCast(taken);
    }

    pub fn shut_down(connection: *Connection, engine: *Engine, index: u32, how: abi.Shut) void {
        const asked: Shut = switch (how) {
            .end => .end,
            .close => .close,
            .terminate => .terminate,
        };
        if (@intFromEnum(asked) <= @intFromEnum(connection.shut)) return;
        connection.shut = asked;
        connection.wants_drain = false;
        engine.mark(index);
    }

    pub fn pause(connection: *Connection, engine: *Engine, index: u32, paused: bool) void {
        if (connection.paused == paused) return;
        connection.paused = paused;
        engine.mark(index);
    }

    // Completions ------------------------------------------------------------------------------

    pub fn on_connect(connection: *Connection, engine: *Engine, index: u32, result: i32) void {
        assert(connection.stage == .connecting);
        connection.connect_pending = false;
        engine.mark(index);
        if (result < 0) {
            connection.failure = result;
            connection.stage = .open; // the way to `closing` is the same
            return engine.record(.connect_failed, index, result, 0, 0);
        }
        connection.stage = .open;
        // Success wins over a cancel that came too late (I4): the connection is told, then shut.
        connection.announce(engine, index);
    }

    pub fn announce(connection: *Connection, engine: *Engine, index: u32) void {
        assert(!connection.announced);
        if (index < engine.registered_files) {
            connection.registered = engine.kernel.file_set(index, connection.fd) >= 0;
        }
        connection.announced = true;
        engine.counters.connections_opened += 1;
        engine.record(.open, index, 0, 0, connection.listener);
    }

    pub fn on_receive(
        connection: *Connection,
        engine: *Engine,
        index: u32,
        cqe: *const seam.Cqe,
    ) void {
        const more = cqe.flags & seam.cqe_flag.more != 0;
        if (!more) {
            connection.receiving = .idle;
            engine.mark(index);
        }
        if (cqe.flags & seam.cqe_flag.buffer != 0) {
            const id = cqe.flags >> seam.cqe_flag.buffer_shift;
            if (!engine.buffers.deliver(id)) return engine.stale(cqe);
            if (cqe.res > 0) return connection.on_data(engine, index, id, cqe.res);
        }
        if (cqe.res == 0) return connection.on_peer_end(engine, index);
        if (cqe.res == errno.nobufs) {
            engine.counters.receive_starved += 1;
            engine.buffers.starved();
            if (more) return;
            engine.counters.parks += 1;
            connection.receiving = .parked;
            engine.parked.push(&engine.connections, index);
            return;
        }
        if (cqe.res == errno.canceled or cqe.res == errno.intr) return;
        connection.fail(engine, index, cqe.res);
    }

    fn on_data(connection: *Connection, engine: *Engine, index: u32, id: u32, len: i32) void {
        // After terminate or close nobody reads; the buffer goes back with the others.
        if (@intFromEnum(connection.shut) >= @intFromEnum(Shut.close)) return;
        engine.counters.bytes_received += len;
        const offset = engine.layout.receive_offset + id * engine.buffers.size;
        engine.record(.data, index, len, offset, id);
    }

    fn on_peer_end(connection: *Connection, engine: *Engine, index: u32) void {
        if (connection.peer_ended) return;
        connection.peer_ended = true;
        engine.mark(index);
        if (@intFromEnum(connection.shut) >= @intFromEnum(Shut.close)) return;
        engine.record(.end, index, 0, 0, 0);
    }

    pub fn on_send(connection: *Connection, engine: *Engine, index: u32, result: i32) void {
        if (!connection.send_pending) return; // a kernel that completes twice harms nobody
        connection.send_pending = false;
        if (result < 0) {
            engine.mark(index);
            // -ECANCELED comes from our own cancel, which has set the reason already.
            if (result != errno.canceled and result != errno.intr) {
                connection.fail(engine, index, result);
            }
            return;
        }
        const sent = @min(@as(u32, @intCast(result)), connection.flight.size);
        engine.counters.bytes_sent += sent;
        const flown = if (mutation.is(.skip_remainder)) connection.flight.size else sent;
        connection.flight.consume(&engine.staging_pool, flown);
        if (connection.flight.is_empty()) {
            if (connection.flight_header) |block| engine.staging_pool.release(block);
            connection.flight_header = null;
        }
        // The usual echo ends here: nothing is left to submit.
        const quiet = connection.flight.is_empty() and connection.filling.is_empty() and
            connection.shut == .none and connection.failure == 0;
        if (!quiet) engine.mark(index);
        connection.maybe_drain(engine, index);
    }

    /// There is room again for a writer that was refused: once per refusal.
    pub fn maybe_drain(connection: *Connection, engine: *Engine, index: u32) void {
        if (!connection.wants_drain or connection.is_dying()) return;
        const staged = connection.filling.size + connection.flight.size;
        if (staged > engine.high_water_mark / 2) return;
        connection.wants_drain = false;
        if (!mutation.is(.forget_drain)) engine.record(.drain, index, 0, 0, 0);
    }

    pub fn on_shutdown(connection: *Connection, engine: *Engine, index: u32, result: i32) void {
        connection.shutdown_pending = false;
        connection.write_ended = true;
        engine.mark(index);
        // ENOTCONN: the peer is gone already, which the receive reports.
        if (result < 0 and result != errno.notconn and result != errno.canceled) {
            connection.fail(engine, index, result);
        }
    }

    pub fn on_cancel_done(connection: *Connection, engine: *Engine, index: u32) void {
        assert(connection.cancels_pending > 0);
        connection.cancels_pending -= 1;
        engine.mark(index);
    }

    pub fn on_closed(connection: *Connection, engine: *Engine, index: u32) void {
        assert(connection.stage == .closing);
        if (connection.announced) {
            engine.counters.connections_closed += 1;
            engine.record(.close, index, connection.failure, 0, 0);
        } else if (connection.failure == 0) {
            // Given up before its connect was submitted: this is its one outcome (I2).
            engine.record(.connect_failed, index, errno.canceled, 0, 0);
        }
        engine.connection_gone(index);
    }
};

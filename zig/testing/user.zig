//! The user's side of a schedule: calls at random, and what is expected of each record.
//!
//! It goes through `calls.zig`, as `exports.zig` does, and keeps its expectations in `model.zig`.

const std = @import("std");
const abi = @import("../abi.zig");
const calls = @import("../calls.zig");
const opening = @import("../opening.zig");
const seam = @import("../kernel.zig");
const model = @import("model.zig");
const pattern = @import("pattern.zig");
const loans = @import("loans.zig");
const sends = @import("sends.zig");
const peer_side = @import("peer_side.zig");
const posters = @import("posters.zig");
const Schedule = @import("schedule.zig").Schedule;
const errno = seam.errno;

const Error = error{ Violation, OutOfMemory };

// Calls ----------------------------------------------------------------------------------------

const Action = enum {
    write,
    send,
    cork,
    shut,
    pause,
    set_timeout,
    connect,
    listener_open,
    listener_stop,
    peer_connect,
    start,
    cancel,
    flush,
    arm,
    use_stale_handles,
    give_back_one,
    give_back_all,
    none,
};

pub fn act(schedule: *Schedule) Error!void {
    if (schedule.resting or !schedule.steps.begin()) return;
    defer schedule.steps.end();
    const action = choose(schedule);
    if (action != .none) schedule.steps.tell("  {t}", .{action});
    switch (action) {
        .write => try write(schedule),
        .send => try send(schedule),
        .cork => cork(schedule),
        .shut => try shut(schedule),
        .pause => pause(schedule),
        .set_timeout => try set_timeout(schedule),
        .connect => try connect(schedule),
        .listener_open => try listener_open(schedule),
        .listener_stop => listener_stop(schedule),
        .peer_connect => try peer_connect(schedule),
        .start => try start(schedule),
        .cancel => cancel(schedule),
        .flush => _ = schedule.engine.flush_only(),
        .arm => {
            _ = schedule.engine.arm();
            _ = schedule.engine.disarm();
        },
        .use_stale_handles => try use_stale_handles(schedule),
        .give_back_one => try loans.give_back_one(schedule),
        .give_back_all => try loans.give_back_all(schedule),
        .none => {},
    }
}

fn choose(schedule: *Schedule) Action {
    if (schedule.lends and schedule.chance(50)) {
        return if (schedule.chance(30)) .cancel else .send;
    }
    return switch (schedule.below(100)) {
        0...29 => .write,
        30...41 => .send,
        42...44 => .cork,
        45...53 => .shut,
        54...55 => .pause,
        56 => .set_timeout,
        57...59 => .connect,
        60...61 => .listener_open,
        62 => if (schedule.chance(30)) .listener_stop else .none,
        63...74 => .peer_connect,
        75...78 => .start,
        79...81 => .cancel,
        83...87 => .flush,
        88...89 => .arm,
        90 => .use_stale_handles,
        91...93 => .give_back_one,
        94 => .give_back_all,
        else => .none,
    };
}

/// A random slot with a live connection, if the dice find one.
fn pick(schedule: *Schedule) ?u32 {
    for (0..4) |_| {
        const index = schedule.below(schedule.engine.config.connections);
        const connection = schedule.connections[index] orelse continue;
        if (connection.is_live()) return index;
    }
    return null;
}

fn write_size(schedule: *Schedule) u32 {
    const most: u32 = switch (schedule.below(100)) {
        0...44 => 100,
        45...74 => 5000,
        75...97 => 20_000,
        else => pattern.slice_max,
    };
    return 1 + schedule.below(most);
}

fn write(schedule: *Schedule) Error!void {
    const index = pick(schedule) orelse return;
    const connection = schedule.connections[index].?;
    const len = write_size(schedule);
    const bytes = connection.stream.next(len);
    const taken = calls.connection_write(
        schedule.engine,
        index,
        connection.generation,
        bytes.ptr,
        len,
    );
    if (connection.is_gone(taken)) return;
    if (connection.is_writable()) {
        const verdict = &schedule.verdict;
        return connection.wrote(schedule.arena, verdict, schedule.turns, len, taken);
    }
    if (taken >= 0) return schedule.verdict.violation("a shut connection took a write", .{});
}

fn send(schedule: *Schedule) Error!void {
    if (pick(schedule)) |index| try sends.start(schedule, index);
}

fn cork(schedule: *Schedule) void {
    const index = pick(schedule) orelse return;
    sends.cork(schedule, index, schedule.connections[index].?, schedule.chance(30));
}

fn shut(schedule: *Schedule) Error!void {
    const index = pick(schedule) orelse return;
    // What is shut already, and what only begins, is terminated more often.
    const connection = schedule.connections[index].?;
    const odd = connection.shut != null or connection.stage == .connecting;
    if (odd and schedule.chance(75)) return shut_one(schedule, index, .terminate);
    const hows = [_]abi.Shut{ .end, .end, .close, .terminate, .terminate, .receiving };
    try shut_one(schedule, index, hows[schedule.below(hows.len)]);
}

fn shut_one(schedule: *Schedule, index: u32, how: abi.Shut) Error!void {
    const connection = schedule.connections[index].?;
    const generation = connection.generation;
    const linger_ms = if (how == .close and schedule.chance(50)) 1 + schedule.below(100) else 0;
    const outcome = calls.connection_shut(
        schedule.engine,
        index,
        generation,
        @intFromEnum(how),
        linger_ms,
    );
    if (connection.is_gone(outcome)) return;
    if (outcome < 0) return schedule.verdict.violation("shut gave {d}", .{outcome});
    if (how == .receiving) {
        connection.receives_less = true;
        return;
    }
    // Before it is open a close has no bound, and only the first one has.
    const grows = connection.shut == null or connection.shut == .end;
    const is_open = schedule.engine.connections.at(index).stage == .open;
    if (linger_ms > 0 and grows and is_open) connection.close_limited = true;
    const before = connection.shut orelse {
        connection.shut_turn = schedule.turns;
        connection.shut = how;
        return;
    };
    if (@intFromEnum(how) > @intFromEnum(before)) connection.shut = how;
}

fn set_timeout(schedule: *Schedule) Error!void {
    const index = pick(schedule) orelse return;
    const connection = schedule.connections[index].?;
    // Mostly later than the one before, as with every message of a server.
    const timeout_ms = if (schedule.chance(10)) 0 else 1 + schedule.below(200);
    const now_ns = schedule.kernel.clock.now;
    const generation = connection.generation;
    const outcome = calls.connection_timeout(schedule.engine, index, generation, timeout_ms);
    // Its descriptor is being closed, or it only connects.
    if (outcome == errno.noent or outcome == errno.notconn) return;
    if (outcome < 0) return schedule.verdict.violation("timeout gave {d}", .{outcome});
    connection.timeout_sequence +%= 1;
    const due_ns = now_ns + @as(u64, timeout_ms) * std.time.ns_per_ms;
    connection.timeout_due_ns = if (timeout_ms == 0) null else due_ns;
}

fn pause(schedule: *Schedule) void {
    const index = pick(schedule) orelse return;
    pause_one(schedule, index, schedule.connections[index].?, schedule.chance(40));
}

fn local(port: u32) abi.Address {
    var address: abi.Address = .{ .family = .ipv4, .port = port, .text_len = 9, .text = @splat(0) };
    @memcpy(address.text[0..9], "127.0.0.1");
    return address;
}

/// A connected descriptor from elsewhere is handed over.
fn adopt(schedule: *Schedule) Error!void {
    const network = &schedule.kernel.network;
    const made = network.pipe() orelse return;
    network.sockets[network.find(made.fd).?].is_pipe = false;
    try schedule.kernel.connected.append(schedule.kernel.allocator, made.peer);
    const index = opening.connection_adopt(schedule.engine, made.fd);
    if (index < 0) {
        // No slot, or no answer about its address: it is still the caller's.
        if (network.close(made.fd) != errno.badf) return;
        return schedule.verdict.violation("a refused descriptor was closed", .{});
    }
    const connection = try add(schedule, @intCast(index), schedule.engine.control.generation);
    connection.stage = .connecting;
}

fn connect(schedule: *Schedule) Error!void {
    if (schedule.chance(15)) return adopt(schedule);
    const address = local(1 + schedule.below(1000));
    const limit_ms = if (schedule.chance(30)) 1 + schedule.below(100) else 0;
    const index = opening.connect(schedule.engine, &address, null, 0, limit_ms);
    if (index < 0) {
        if (index == errno.mfile or index == errno.nomem or index == errno.nfile) return;
        return schedule.verdict.violation("connect gave {d}", .{index});
    }
    const connection = try add(schedule, @intCast(index), schedule.engine.control.generation);
    connection.stage = .connecting;
    connection.connect_limited = limit_ms > 0;
}

fn add(schedule: *Schedule, index: u32, generation: u32) Error!*model.Connection {
    if (schedule.connections[index]) |before| if (before.is_live()) {
        return schedule.verdict.violation("a slot in use was given out", .{});
    };
    const connection = try schedule.arena.create(model.Connection);
    connection.* = .{ .generation = generation, .stream = .{ .key = schedule.prng.next() } };
    schedule.connections[index] = connection;
    try schedule.all.append(schedule.arena, connection);
    return connection;
}

fn listener_open(schedule: *Schedule) Error!void {
    const address = local(0);
    const index = opening.listener_open(schedule.engine, &address, 16, 0);
    if (index < 0) return; // shortage, or a fault of bind, listen or the options
    const listener = &schedule.listeners[@intCast(index)];
    if (listener.open) return schedule.verdict.violation("a listener in use was given out", .{});
    listener.* = .{ .open = true, .generation = schedule.engine.control.generation };
}

fn listener_stop(schedule: *Schedule) void {
    const index = schedule.below(schedule.engine.config.listeners);
    const listener = &schedule.listeners[index];
    if (!listener.open) return;
    _ = calls.listener_stop(schedule.engine, index, listener.generation);
    listener.stopped = true;
}

fn peer_connect(schedule: *Schedule) Error!void {
    const index = schedule.below(schedule.engine.config.listeners);
    const listener = &schedule.listeners[index];
    if (!listener.open or listener.stopped) return;
    var address: abi.Address = undefined;
    if (calls.listener_address(schedule.engine, index, listener.generation, &address) < 0) return;
    const target = seam.SocketAddress.parse(&address) catch
        return schedule.verdict.violation("a listener's address is odd", .{});
    try peer_side.connect(schedule, &target);
}

fn start(schedule: *Schedule) Error!void {
    const is_timeout = schedule.chance(60);
    const index = if (is_timeout)
        calls.timer_start(schedule.engine, @floatFromInt(schedule.below(200)), -1, 0)
    else
        calls.nop(schedule.engine);
    if (index == errno.nomem or index == errno.again) return;
    if (index < 0) return schedule.verdict.violation("an operation gave {d}", .{index});
    const operation = &schedule.operations[@intCast(index)];
    if (operation.pending) return schedule.verdict.violation("an operation in use", .{});
    operation.* = .{
        .pending = true,
        .is_timeout = is_timeout,
        .generation = schedule.engine.control.generation,
    };
}

fn cancel(schedule: *Schedule) void {
    const index = schedule.below(schedule.engine.config.operations);
    const operation = &schedule.operations[index];
    if (!operation.pending) return;
    _ = calls.cancel(schedule.engine, index, operation.generation);
    operation.cancelled = true;
    if (operation.send) |self| self.connection.stream.cancel(self.chunk);
}

/// Handles of slots that are over, or never were, are refused and change nothing.
fn use_stale_handles(schedule: *Schedule) Error!void {
    const index = schedule.below(schedule.engine.config.connections + 2);
    var generation: u32 = 0; // no slot ever has it
    if (index < schedule.connections.len) if (schedule.connections[index]) |connection| {
        // A failed connect's slot lives on until its descriptor is closed.
        if (connection.is_live() or !connection.was_open) return;
        generation = connection.generation;
    };
    const engine = schedule.engine;
    if (calls.connection_write(engine, index, generation, "x", 1) != errno.noent or
        calls.connection_shut(engine, index, generation, 0, 0) != errno.noent or
        calls.connection_timeout(engine, index, generation, 1) != errno.noent or
        calls.connection_pause(engine, index, generation, 1) != errno.noent)
    {
        return schedule.verdict.violation("a stale handle was taken", .{});
    }
}

// The end --------------------------------------------------------------------------------------

pub fn pause_all(schedule: *Schedule, paused: bool) void {
    for (schedule.connections, 0..) |entry, index| {
        const connection = entry orelse continue;
        if (connection.is_live()) pause_one(schedule, @intCast(index), connection, paused);
    }
}

fn pause_one(
    schedule: *Schedule,
    index: u32,
    connection: *model.Connection,
    paused: bool,
) void {
    connection.pause(paused, schedule.engine.kernel.now_ns());
    connection.silent = false;
    const word = @intFromBool(paused);
    _ = calls.connection_pause(schedule.engine, index, connection.generation, word);
}

/// Whether every connection is paused and no receive of it is left anywhere.
pub fn all_silent(schedule: *Schedule) bool {
    const kernel = schedule.kernel;
    if (kernel.ready() or kernel.queued() > 0) return false;
    for (kernel.pending.items) |operation| switch (operation.row) {
        .receive_selected, .receive_multishot, .connect, .close => return false,
        else => {},
    };
    for (schedule.connections) |entry| {
        const connection = entry orelse continue;
        if (connection.stage == .connecting) return false;
        connection.silent = connection.is_live() and connection.paused;
    }
    return true;
}

/// Whether a writer that was refused still waits to be told of room.
pub fn is_waiting(schedule: *Schedule) bool {
    for (schedule.connections) |entry| {
        const connection = entry orelse continue;
        if (connection.awaits_time()) return true;
        if (!connection.is_live() or connection.breaking) continue;
        if (connection.shut != null) continue;
        if (connection.refused_first != null) return true;
    }
    return false;
}

pub fn end_all(schedule: *Schedule) Error!void {
    for (schedule.connections, 0..) |entry, index| {
        const connection = entry orelse continue;
        if (!connection.is_live() or connection.shut != null) continue;
        const hows = [_]abi.Shut{ .end, .end, .end, .close, .terminate };
        try shut_one(schedule, @intCast(index), hows[schedule.below(hows.len)]);
    }
    for (&schedule.listeners, 0..) |*listener, index| {
        if (!listener.open) continue;
        _ = calls.listener_stop(schedule.engine, @intCast(index), listener.generation);
        listener.stopped = true;
    }
    for (&schedule.operations, 0..) |*operation, index| {
        // Sends go before the end of their connection.
        if (!operation.pending or operation.send != null) continue;
        _ = calls.cancel(schedule.engine, @intCast(index), operation.generation);
        operation.cancelled = true;
    }
}

// Records --------------------------------------------------------------------------------------

pub fn on_record(schedule: *Schedule, record: *const abi.Record, peer: ?*model.Peer) Error!void {
    const verdict = &schedule.verdict;
    switch (record.event) {
        .completion => {
            const operation = &schedule.operations[record.index];
            if (operation.generation != record.generation) {
                return verdict.violation("a completion of another generation", .{});
            }
            if (operation.send != null) {
                try sends.on_completion(schedule, operation, record.index, record.result);
            }
            try operation.on_completion(verdict, record.result);
        },
        .listener_closed => {
            const listener = &schedule.listeners[record.index];
            if (!listener.open or listener.generation != record.generation) {
                return verdict.violation("a listener closed twice", .{});
            }
            if (!listener.stopped) return verdict.violation("a listener closed by itself", .{});
            listener.open = false;
        },
        .open => try on_open(schedule, record, peer),
        .post, .post_block => try posters.on_record(schedule, record),
        .data => {
            const connection = try find(schedule, record);
            const len = std.math.cast(u32, record.result) orelse
                return verdict.violation("data of {d} bytes", .{record.result});
            try connection.on_data(verdict, schedule.engine.slab[record.offset..][0..len]);
            try loans.lend(schedule, record, connection);
        },
        .drain => try (try find(schedule, record)).on_drain(verdict, schedule.turns),
        .end => try (try find(schedule, record)).on_end(verdict),
        .descriptors => return verdict.violation("no descriptors are passed here", .{}),
        .forwarded => return verdict.violation("nothing is forwarded here", .{}),
        .timeout => try (try find(schedule, record)).on_timeout(
            verdict,
            record.extra,
            schedule.kernel.clock.now,
        ),
        .close => try peer_side.on_close(schedule, try find(schedule, record), record.result),
        .connect_failed => {
            const connection = try find(schedule, record);
            if (connection.stage != .connecting) {
                return verdict.violation("connect_failed while {t}", .{connection.stage});
            }
            if (record.result == errno.canceled and connection.shut != .terminate) {
                return verdict.violation("connect given up before an orderly end", .{});
            }
            connection.stage = .over;
        },
        .datagram, .datagram_drain, .datagram_error, .datagram_closed => {
            return verdict.violation("a datagram record without a datagram socket", .{});
        },
    }
}

fn on_open(schedule: *Schedule, record: *const abi.Record, peer: ?*model.Peer) Error!void {
    const verdict = &schedule.verdict;
    const connection = if (record.extra == abi.no_listener)
        try find(schedule, record)
    else
        try add(schedule, record.index, record.generation);
    const expected: model.Stage = if (record.extra == abi.no_listener) .connecting else .none;
    if (connection.stage != expected) {
        return verdict.violation("open of a connection that is {t}", .{connection.stage});
    }
    connection.stage = .open;
    connection.was_open = true;
    connection.peer = peer orelse return verdict.violation("open without a peer", .{});
    // A resting ring sleeps on, unless the handler asks for something.
    if (schedule.pausing) pause_one(schedule, record.index, connection, true);
    if (peer.?.connection != null) return verdict.violation("one peer for two", .{});
    peer.?.connection = connection;
}

/// After the records of a turn were read: nobody that a call took for over is still there.
pub fn expect_gone(schedule: *Schedule) Error!void {
    for (schedule.connections) |entry| {
        const connection = entry orelse continue;
        if (connection.gone and connection.is_live()) {
            return schedule.verdict.violation("ENOENT of a connection that is {t}", .{
                connection.stage,
            });
        }
    }
}

fn find(schedule: *Schedule, record: *const abi.Record) Error!*model.Connection {
    const connection = schedule.connections[record.index] orelse
        return schedule.verdict.violation("{t} of a slot that was never used", .{record.event});
    if (connection.generation != record.generation) {
        return schedule.verdict.violation("{t} of another generation", .{record.event});
    }
    return connection;
}

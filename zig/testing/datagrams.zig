//! Random runs of datagram sockets on the simulated kernel, checked against a model.
//!
//! A seed decides everything. The user opens sockets, sends, closes; letters arrive. What must
//! hold: each datagram that was taken leaves once at most, whole, to where it was sent, and on a
//! Unix socket in order; it is missing only if an error was told; each letter that found room is
//! delivered once, in order, with its sender; a refused sender is told of room; in the end nothing
//! is left. `datagram_schedules.zig` makes many runs.

const std = @import("std");
const abi = @import("../abi.zig");
const calls = @import("../datagram_calls.zig");
const seam = @import("../kernel.zig");
const memory = @import("../memory.zig");
const features = @import("../features.zig");
const teardown = @import("../teardown.zig");
const simulated = @import("../kernel/simulated.zig");
const letters = @import("../kernel/simulated/datagrams.zig");
const model = @import("model.zig");
const pattern = @import("pattern.zig");
const stepping = @import("steps.zig");
const Engine = @import("../engine.zig").Engine;
const errno = seam.errno;

const Error = error{ Violation, OutOfMemory };

const sockets_max = 6;
const senders_max = 8;

/// One datagram: its bytes follow from its number.
const Datagram = struct { number: u32, size: u32, to: u32 };

const Socket = struct {
    open: bool = false,
    closing: bool = false,
    generation: u32 = 0,
    fd: i32 = -1,
    box: u32 = 0,
    unix: bool = false,
    connected: bool = false,
    /// Taken and not seen to leave, oldest first.
    taken: std.ArrayList(Datagram) = .empty,
    taken_next: u32 = 0,
    /// Letters that found room, and how many of them were delivered.
    arrived: std.ArrayList(Datagram) = .empty,
    delivered: usize = 0,
    errors: u32 = 0,
    /// Turns of the oldest and the latest refusal that no drain has answered.
    refused: ?u64 = null,
    refused_last: u64 = 0,
    /// The number of the last one that left.
    last: u32 = 0,
};

pub const Run = struct {
    verdict: model.Verdict = .{},
    prng: std.Random.SplitMix64,
    arena: std.mem.Allocator,
    kernel: *simulated.Simulated,
    engine: *Engine,
    steps: stepping.Steps,
    sockets: [sockets_max]Socket = @splat(.{}),
    turns: u64 = 0,
    next_number: u32 = 1,
    events: u64 = 0,
    calm: bool = false,

    pub fn create(arena: std.mem.Allocator, seed: u64, plan: ?*stepping.Plan) Error!*Run {
        const run = try arena.create(Run);
        run.* = .{
            .prng = .init(seed),
            .arena = arena,
            .kernel = undefined,
            .engine = undefined,
            .steps = undefined,
        };
        var options = std.mem.zeroes(abi.RingOptions);
        options.high_water_mark = run.one_of(&.{ 1, 4096, 256 * 1024 });
        var config = memory.Config.from(&options) catch unreachable; // defaults are sound
        config.entries = run.one_of(&.{ 1, 2, 8, 64 });
        config.cq_entries = run.one_of(&.{ 2, 16, 256 });
        config.receive_buffers = 8;
        config.connections = 4;
        config.staging_blocks = 4;
        var faults_wanted = run.faults();
        if (plan) |wanted| wanted.clear(&faults_wanted);
        run.kernel = try .create(arena, .{
            .seed = run.prng.next(),
            .entries = config.entries,
            .cq_entries = config.cq_entries,
            .limits = .{ .descriptors = 24, .peers = 1, .stream_bytes = 64 },
            .faults = faults_wanted,
        });
        var set: features.Set = .initFull();
        for ([_]abi.Feature{ .multishot_recvmsg, .udp_gro, .udp_gso }) |feature| {
            if (run.chance(40)) set.remove(feature);
        }
        run.engine = Engine.create(.{ .simulated = run.kernel }, set, &config) catch
            return error.OutOfMemory;
        run.steps = .{ .seed = seed, .dice = &run.prng, .kernel = run.kernel, .plan = plan };
        run.steps.watch();
        return run;
    }

    pub fn destroy(run: *Run) void {
        run.engine.destroy();
        run.kernel.destroy();
    }

    fn faults(run: *Run) simulated.Faults {
        if (run.chance(20)) return .{};
        return .{
            .enter_busy = run.permille(&.{ 0, 30 }),
            .enter_again = run.permille(&.{ 0, 30 }),
            .enter_partial = run.permille(&.{ 0, 200 }),
            .delayed = run.permille(&.{ 0, 100, 500 }),
            .multishot_ends = run.permille(&.{ 0, 100 }),
            .cancel_already = run.permille(&.{ 0, 300 }),
            .cancel_late = run.permille(&.{ 0, 500 }),
            .close = run.permille(&.{ 0, 100 }),
            .socket = run.permille(&.{ 0, 30 }),
            .bind = run.permille(&.{ 0, 30 }),
            .connect = run.permille(&.{ 0, 30 }),
            .option = run.permille(&.{ 0, 100 }),
            .datagram_full = run.permille(&.{ 0, 50, 500 }),
            .datagram_refused = run.permille(&.{ 0, 50 }),
            .datagram_whole = run.permille(&.{ 0, 100, 500 }),
            .datagram_answered = run.permille(&.{ 0, 100 }),
        };
    }

    fn chance(run: *Run, percent: u32) bool {
        return run.below(100) < percent;
    }

    fn below(run: *Run, limit: u32) u32 {
        return @intCast((run.prng.next() >> 32) * limit >> 32);
    }

    fn one_of(run: *Run, choices: []const u32) u32 {
        return choices[run.below(@intCast(choices.len))];
    }

    fn permille(run: *Run, choices: []const u16) u16 {
        return choices[run.below(@intCast(choices.len))];
    }

    // The run ----------------------------------------------------------------------------------

    pub fn perform(run: *Run, events: u64) Error!void {
        while (run.kernel.events < events and !run.steps.is_enough()) {
            for (0..run.below(12)) |_| try run.act();
            try run.turn();
        }
        run.events = run.kernel.events;
        run.calm = true;
        run.kernel.fate.faults = .{};
        try run.until(is_settled, "what was taken does not leave, or a sender is not told");
        for (&run.sockets) |*socket| try run.expect_left(socket);
        if (run.chance(30)) return run.tear_down();
        for (&run.sockets, 0..) |*socket, index| {
            if (socket.open and !socket.closing) try run.close(@intCast(index));
        }
        try run.until(is_over, "sockets do not close");
        for (0..2) |_| try run.turn(); // the last records' buffers go back
        try run.expect_nothing_left();
        run.engine.kernel.close();
    }

    const turns_max = 20_000;

    fn until(run: *Run, condition: *const fn (*Run) bool, message: []const u8) Error!void {
        for (0..turns_max) |_| {
            if (condition(run)) return;
            run.kernel.go_on();
            try run.turn();
        }
        return run.verdict.violation("{s}", .{message});
    }

    fn is_settled(run: *Run) bool {
        for (&run.sockets, 0..) |*socket, index| {
            if (!socket.open) continue;
            if (socket.refused != null) return false;
            if (socket.delivered < socket.arrived.items.len and !socket.closing) return false;
            const own = run.engine.datagrams.sockets.at(@intCast(index));
            if (own.outgoing.waiting > 0 or own.outgoing.in_flight > 0) return false;
        }
        return true;
    }

    fn is_over(run: *Run) bool {
        return run.engine.datagrams.sockets.claimed_count == 0 and
            run.kernel.pending.items.len == 0 and !run.kernel.ready() and
            run.kernel.queued() == 0;
    }

    fn tear_down(run: *Run) Error!void {
        const held = teardown.cancel_everything(run.engine, 100_000);
        if (held > 0) return run.verdict.violation("torn down with {d} held", .{held});
        run.engine.kernel.close();
        try run.expect_sound();
        const open = run.kernel.network.open_descriptors();
        if (open > 0) return run.verdict.violation("{d} descriptors after a teardown", .{open});
    }

    fn expect_nothing_left(run: *Run) Error!void {
        const datagrams = &run.engine.datagrams;
        const pool = if (datagrams.mapping == null) 0 else datagrams.buffers.states.len;
        for ([_]struct { []const u8, u64 }{
            .{ "descriptors", run.kernel.network.open_descriptors() },
            .{ "descriptors closed under an operation", run.kernel.network.closed_under_operation },
            .{ "uses of closed descriptors", run.kernel.network.bad_descriptors },
            .{ "batches", datagrams.batches.claimed_count },
            .{ "blocks", run.engine.transfers.used },
            .{ "receive buffers in use", pool - datagrams.buffers.available() },
            .{ "parked sockets", datagrams.parked.count },
            .{ "marked sockets", datagrams.dirty.count },
        }) |item| if (item[1] > 0) {
            return run.verdict.violation("left at the end: {d} {s}", .{ item[1], item[0] });
        };
    }

    fn expect_sound(run: *Run) Error!void {
        if (run.kernel.violation) |message| return run.verdict.violation("{s}", .{message});
    }

    // The user ---------------------------------------------------------------------------------

    const Action = enum { open_one, close, send, letter_arrives };

    fn act(run: *Run) Error!void {
        if (!run.steps.begin()) return;
        defer run.steps.end();
        const index = run.below(sockets_max);
        const socket = &run.sockets[index];
        const action: Action = switch (run.below(100)) {
            0...4 => .open_one,
            5...5 => .close,
            6...55 => .send,
            else => .letter_arrives,
        };
        if (action != .open_one and (!socket.open or socket.closing)) return;
        run.steps.tell("  {t} {d}", .{ action, index });
        switch (action) {
            .open_one => try run.open_one(),
            .close => try run.close(index),
            .send => try run.send(index),
            .letter_arrives => try run.letter_arrives(socket),
        }
    }

    fn open_one(run: *Run) Error!void {
        const unix = run.chance(40);
        const connected = run.chance(50);
        var local = text_of(if (unix) .unix else .ipv4, if (unix) "/s" else "127.0.0.1", 0);
        var remote = text_of(if (unix) .unix else .ipv4, if (unix) "/p" else "127.0.0.9", 9);
        const fds_before = run.kernel.network.open_descriptors();
        const outcome = calls.open(
            run.engine,
            &local,
            if (connected) &remote else null,
            0,
        );
        if (outcome < 0) {
            if (run.kernel.network.open_descriptors() != fds_before) {
                return run.verdict.violation("a socket that was refused keeps a descriptor", .{});
            }
            return;
        }
        const buffers = &run.engine.datagrams.buffers;
        // A ring that is kept short runs empty while buffers are idle.
        if (run.engine.datagrams.sockets.claimed_count == 1) {
            buffers.target = run.one_of(&.{ 1, 8, 64 });
        }
        const index: u32 = @intCast(outcome);
        if (index >= sockets_max) { // more than the model follows
            _ = calls.close(run.engine, index, run.engine.control.generation);
            return;
        }
        const socket = &run.sockets[index];
        if (socket.open) return run.verdict.violation("a slot is given out twice", .{});
        socket.* = .{
            .open = true,
            .generation = run.engine.control.generation,
            .fd = run.engine.datagrams.sockets.at(index).fd,
            .unix = unix,
            .connected = connected,
        };
        socket.box = letters.box_id(run.kernel, socket.fd);
    }

    fn text_of(family: abi.Family, text: []const u8, port: u32) abi.Address {
        var address: abi.Address = .{
            .family = family,
            .port = port,
            .text_len = @intCast(text.len),
            .text = @splat(0),
        };
        @memcpy(address.text[0..text.len], text);
        return address;
    }

    fn close(run: *Run, index: u32) Error!void {
        const socket = &run.sockets[index];
        if (calls.close(run.engine, index, socket.generation) != 0) {
            return run.verdict.violation("close is refused", .{});
        }
        socket.closing = true;
        socket.refused = null;
    }

    fn send(run: *Run, index: u32) Error!void {
        const socket = &run.sockets[index];
        const to = run.below(2);
        const datagram: Datagram = .{
            .number = run.next_number,
            .size = run.one_of(&.{ 0, 5, 64, 64, 64, 64, 700, 1400, 40_000 }),
            .to = if (socket.connected) 9 else to,
        };
        var address = if (socket.unix)
            text_of(.unix, if (to == 0) "/0" else "/1", 0)
        else
            text_of(.ipv4, "127.0.0.9", 100 + to);
        const outcome = calls.send(
            run.engine,
            index,
            socket.generation,
            pattern.bytes(datagram.number, 0, datagram.size).ptr,
            datagram.size,
            if (socket.connected) null else &address,
        );
        if (outcome == errno.noent) return; // it has failed, and its last record is on its way
        if (outcome < 0) return run.verdict.violation("send failed with {d}", .{outcome});
        if (outcome == 0) {
            if (socket.refused == null) socket.refused = run.turns;
            socket.refused_last = run.turns;
            return;
        }
        run.next_number += 1;
        try socket.taken.append(run.arena, datagram);
    }

    fn letter_arrives(run: *Run, socket: *Socket) Error!void {
        // Mostly one sender after the other, in one size, as a network puts them together.
        const letter: Datagram = .{
            .number = run.next_number,
            .size = run.one_of(&.{ 0, 10, 100, 100, 100, 100, 9000, 65_536 }),
            .to = if (run.chance(70)) 1 else run.below(senders_max),
        };
        run.next_number += 1;
        const from = sender(letter.to);
        const bytes = pattern.bytes(letter.number, 0, letter.size);
        if (!letters.deliver(run.kernel, socket.fd, &from, bytes)) return;
        try socket.arrived.append(run.arena, letter);
    }

    fn sender(number: u32) seam.SocketAddress {
        var text = text_of(.ipv4, "10.0.0.1", 1000 + number);
        return seam.SocketAddress.from_boundary(&text).?;
    }

    // What comes back --------------------------------------------------------------------------

    fn turn(run: *Run) Error!void {
        if (!run.steps.begin_turn()) return;
        run.turns += 1;
        const count = run.engine.turn(if (run.chance(50)) 0 else run.below(20));
        if (count < 0) return run.verdict.violation("turn gave {d}", .{count});
        try run.collect(); // before anything new is opened
        for (run.engine.records[0..@intCast(count)]) |*record| {
            if (!run.calm and run.chance(10)) try run.act();
            try run.on_record(record);
        }
        try run.expect_sound();
    }

    fn on_record(run: *Run, record: *const abi.Record) Error!void {
        if (record.index >= sockets_max) return;
        const socket = &run.sockets[record.index];
        if (!socket.open or socket.generation != record.generation) {
            return run.verdict.violation("a record of a socket that is gone", .{});
        }
        switch (record.event) {
            .datagram => if (!socket.closing) try run.on_letters(socket, record),
            .datagram_drain => {
                const refused = socket.refused orelse run.turns;
                if (refused >= run.turns and !socket.closing) {
                    return run.verdict.violation("drain without a refusal", .{});
                }
                // A refusal of this turn comes after the record.
                socket.refused = if (socket.refused_last < run.turns) null else run.turns;
            },
            .datagram_error => socket.errors += 1,
            .datagram_closed => {
                // By itself it ends only for what this kernel never says.
                if (!socket.closing) return run.verdict.violation("closed unasked", .{});
                socket.open = false;
            },
            else => return run.verdict.violation("a record of something else", .{}),
        }
    }

    fn on_letters(run: *Run, socket: *Socket, record: *const abi.Record) Error!void {
        const engine = run.engine;
        const size: u32 = @intCast(record.result);
        const segment = record.extra >> 16;
        const flags = record.extra >> 8 & 0xff;
        const bytes = engine.datagrams.buffers.bytes(@intCast(record.extra & 0xff));
        const payload = bytes[record.offset..][0..size];
        var at: u32 = 0;
        while (true) {
            if (socket.delivered == socket.arrived.items.len) {
                return run.verdict.violation("a letter that did not arrive", .{});
            }
            const letter = socket.arrived.items[socket.delivered];
            socket.delivered += 1;
            const len = if (segment == 0) size else @min(segment, size - at);
            if (len != letter.size or !pattern.matches(letter.number, 0, payload[at..][0..len])) {
                return run.verdict.violation("a letter of {d} bytes comes with {d}", .{
                    letter.size, len,
                });
            }
            const expected = @as(f64, 0x0a00_0001) * 65536 + @as(f64, @floatFromInt(
                1000 + letter.to,
            ));
            const ipv4 = flags >> @intFromEnum(abi.DatagramFlag.ipv4) & 1 != 0;
            if (!ipv4 or record.data != expected) {
                return run.verdict.violation("a letter has another's sender", .{});
            }
            at += len;
            if (segment == 0 or at == size) return;
        }
    }

    /// What left since the last time.
    fn collect(run: *Run) Error!void {
        const sent = &run.kernel.post_office.sent;
        for (sent.items) |one| {
            const socket = for (&run.sockets) |*socket| {
                if (socket.open and socket.box == one.box) break socket;
            } else continue; // one that the model does not follow
            try run.leave(socket, &one.letter);
        }
        for (sent.items) |one| run.kernel.allocator.free(one.letter.bytes);
        sent.clearRetainingCapacity();
    }

    fn leave(run: *Run, socket: *Socket, letter: *const letters.Letter) Error!void {
        for (socket.taken.items, 0..) |datagram, place| {
            if (datagram.size != letter.bytes.len) continue;
            if (!pattern.matches(datagram.number, 0, letter.bytes)) continue;
            if (datagram.size == 0 and !reaches(letter, &datagram)) continue; // all look alike
            if (!reaches(letter, &datagram)) {
                return run.verdict.violation("a datagram leaves for somebody else", .{});
            }
            if (socket.unix and datagram.size > 0) {
                if (datagram.number < socket.last) {
                    return run.verdict.violation("a datagram was overtaken", .{});
                }
                socket.last = datagram.number;
            }
            _ = socket.taken.orderedRemove(place);
            return;
        }
        return run.verdict.violation("a datagram of {d} bytes that was not sent, or twice", .{
            letter.bytes.len,
        });
    }

    fn reaches(letter: *const letters.Letter, datagram: *const Datagram) bool {
        if (letter.address.is_unix()) {
            const path: u8 = if (datagram.to == 9) 'p' else '0' + @as(u8, @intCast(datagram.to));
            return letter.address.bytes[3] == path;
        }
        const ipv4 = seam.SocketAddress.ipv4_of(letter.address.bytes[0..letter.address.len]).?;
        return ipv4.port == if (datagram.to == 9) 9 else 100 + datagram.to;
    }

    /// At rest nothing that was taken is missing unless an error was told.
    fn expect_left(run: *Run, socket: *Socket) Error!void {
        if (!socket.open or socket.closing) return;
        // A message of many that is refused as a whole is one error.
        const most = @as(usize, socket.errors) * 64;
        if (socket.taken.items.len > most) {
            return run.verdict.violation("{d} datagrams never left, {d} errors were told", .{
                socket.taken.items.len, socket.errors,
            });
        }
    }
};

//! Connections behind a proxy on the simulated kernel: random runs against a plan for each peer.
//!
//! A peer sends a header, whole or not, sound or not, cut anywhere, and what it has to say behind
//! it. What must hold: a connection is told only when its header has come, with the address in it
//! and every byte behind it; the others are never heard of, only counted, each once; and when the
//! listener has stopped nothing is left.

const std = @import("std");
const abi = @import("../abi.zig");
const calls = @import("../calls.zig");
const simulated = @import("../kernel/simulated.zig");
const pattern = @import("pattern.zig");
const Scene = @import("scene.zig").Scene;
const peers = simulated.peers;
const expect = std.testing.expect;
const expectEqual = std.testing.expectEqual;

const signature = "\r\n\r\n\x00\r\nQUIT\n";
const timeout_ms = 60_000;

const Plan = enum {
    line,
    binary,
    long_binary,
    /// The proxy speaks for itself.
    local,
    malformed,
    absent,
    /// It ends before its header does.
    cut,
    /// It never ends.
    silent,

    fn is_sound(plan: Plan) bool {
        return @intFromEnum(plan) <= @intFromEnum(Plan.local);
    }
};

const Peer = struct {
    id: u32,
    plan: Plan,
    header: [400]u8 = undefined,
    header_len: usize = 0,
    payload_len: usize,
    sent: usize = 0,
    half_closed: bool = false,
    index: u32 = std.math.maxInt(u32),
    opened: bool = false,
    received: usize = 0,
    ended: bool = false,
    closed: bool = false,

    fn total(peer: *const Peer) usize {
        return peer.header_len + peer.payload_len;
    }

    /// A piece of what is still to be sent.
    fn advance(peer: *Peer, run: *Run) void {
        const network = &run.scene.kernel.network;
        const rest = peer.total() - peer.sent;
        if (rest == 0) {
            if (peer.half_closed or peer.plan == .silent) return;
            peer.half_closed = true;
            return peers.half_close(network, peer.id);
        }
        const want = @min(rest, 1 + run.below(if (run.below(3) == 0) 3 else 700));
        const bytes = if (peer.sent < peer.header_len)
            peer.header[peer.sent..@min(peer.header_len, peer.sent + want)]
        else
            pattern.bytes(peer.id, peer.sent - peer.header_len, want);
        peer.sent += peers.send(network, peer.id, bytes);
    }
};

const peers_max = 24;

const Run = struct {
    scene: *Scene,
    prng: std.Random.DefaultPrng,
    listener: @import("scene.zig").Handle,
    fd: i32,
    all: [peers_max]Peer = undefined,
    count: u32 = 0,
    faulty: bool,
    stopped: bool = false,

    fn below(run: *Run, limit: usize) usize {
        return run.prng.random().uintLessThan(usize, limit);
    }

    fn open(scene: *Scene, seed: u64, faulty: bool) !Run {
        const listener = try scene.listen();
        const engine = scene.engine;
        const outcome =
            calls.listener_proxy(engine, listener.index, listener.generation, timeout_ms);
        try expectEqual(0, outcome);
        return .{
            .scene = scene,
            .prng = .init(seed),
            .listener = listener,
            .fd = scene.listener_fd(listener),
            .faulty = faulty,
        };
    }

    fn knock(run: *Run) void {
        const id = run.scene.knock(run.fd) catch return; // the backlog is full
        const peer = &run.all[run.count];
        const plan: Plan = @enumFromInt(run.below(std.meta.fields(Plan).len));
        peer.* = .{ .id = id, .plan = plan, .payload_len = run.below(2000) };
        run.count += 1;
        run.write_header(peer);
    }

    fn write_header(run: *Run, peer: *Peer) void {
        const out = &peer.header;
        peer.header_len = switch (peer.plan) {
            .line, .silent, .cut => line(out, peer.id),
            .binary => binary(out, peer.id, 0),
            .long_binary => binary(out, peer.id, 1 + run.below(300)),
            .local => write(out, signature ++ "\x20\x00\x00\x04abcd"),
            .malformed => write(out, "PROXY TCP4 nobody nowhere 1 2\r\n"),
            .absent => write(out, "GET / HTTP/1.1\r\n"),
        };
        switch (peer.plan) {
            .cut, .silent => {
                peer.header_len = run.below(peer.header_len);
                peer.payload_len = 0;
            },
            else => {},
        }
    }

    fn write(out: []u8, bytes: []const u8) usize {
        @memcpy(out[0..bytes.len], bytes);
        return bytes.len;
    }

    fn line(out: []u8, id: u32) usize {
        const text = "PROXY TCP4 192.0.2.7 198.51.100.1 {d} 443\r\n";
        return (std.fmt.bufPrint(out, text, .{port_of(id)}) catch unreachable).len;
    }

    fn binary(out: []u8, id: u32, extra: usize) usize {
        const start = signature ++ "\x21\x11\x00\x00" ++ "\xc0\x00\x02\x07" ++ "\xc6\x33\x64\x01";
        @memcpy(out[0..start.len], start);
        std.mem.writeInt(u16, out[14..16], @intCast(12 + extra), .big);
        std.mem.writeInt(u16, out[24..26], port_of(id), .big);
        std.mem.writeInt(u16, out[26..28], 443, .big);
        @memset(out[28..][0..extra], 0xee);
        return 28 + extra;
    }

    fn port_of(id: u32) u16 {
        return @intCast(1 + id % 60_000);
    }

    fn turn(run: *Run) !void {
        const scene = run.scene;
        for (run.all[0..run.count]) |*peer| {
            if (run.below(3) > 0 and !peer.closed) peer.advance(run);
        }
        try scene.turn(@intCast(run.below(20)));
        for (scene.records[0..scene.count]) |*record| try run.on_record(record);
        scene.count = 0;
        try run.expect_counted();
    }

    fn on_record(run: *Run, record: *const abi.Record) !void {
        const scene = run.scene;
        const engine = scene.engine;
        switch (record.event) {
            .open => {
                const fd = calls.connection_fd(engine, record.index, record.generation);
                const id = peers.of_descriptor(&scene.kernel.network, fd);
                for (run.all[0..run.count]) |*peer| {
                    if (id != peer.id) continue;
                    try expect(!peer.opened);
                    try expect(peer.plan.is_sound() and peer.sent >= peer.header_len);
                    try expect(!run.stopped);
                    peer.opened = true;
                    peer.index = record.index;
                    return run.expect_address(peer, record);
                }
                // The descriptor is shut already: its peer cannot be told from here.
                try expect(run.faulty);
                _ = calls.connection_shut(engine, record.index, record.generation, 2, 0);
            },
            .data => {
                const peer = run.find(record.index) orelse return;
                const len: usize = @intCast(record.result);
                const bytes = engine.slab[record.offset..][0..len];
                try expect(len > 0 and !peer.ended);
                try expect(pattern.matches(peer.id, peer.received, bytes));
                peer.received += len;
            },
            .end => {
                const peer = run.find(record.index) orelse return;
                peer.ended = true;
                if (!run.faulty) try expectEqual(peer.payload_len, peer.received);
                _ = calls.connection_shut(engine, record.index, record.generation, 1, 0);
            },
            .close => {
                const peer = run.find(record.index) orelse return;
                peer.closed = true;
                peer.index = std.math.maxInt(u32);
                if (!run.faulty) try expect(peer.ended);
            },
            .listener_closed => try expect(run.stopped),
            else => return error.UnexpectedRecord,
        }
    }

    fn find(run: *Run, index: u32) ?*Peer {
        for (run.all[0..run.count]) |*peer| if (peer.index == index) return peer;
        return null;
    }

    fn expect_address(run: *Run, peer: *Peer, record: *const abi.Record) !void {
        const engine = run.scene.engine;
        var out: abi.Address = undefined;
        const end = @intFromEnum(abi.End.remote);
        const outcome =
            calls.connection_address(engine, record.index, record.generation, end, &out);
        // A socket that broke in the meantime has no name of its own any more.
        if (peer.plan == .local and run.faulty and outcome != 0) return;
        try expectEqual(0, outcome);
        const host = out.text[0..out.text_len];
        if (peer.plan == .local) return expect(!std.mem.eql(u8, host, "192.0.2.7"));
        try std.testing.expectEqualStrings("192.0.2.7", host);
        try expectEqual(port_of(peer.id), out.port);
    }

    /// The listener knows how many wait.
    fn expect_counted(run: *Run) !void {
        const engine = run.scene.engine;
        var awaiting: u32 = 0;
        for (0..engine.connections.fresh) |index| {
            if (!engine.connections.is_claimed(@intCast(index))) continue;
            const connection = engine.connections.at(@intCast(index));
            if (connection.proxy != .awaited) continue;
            awaiting += 1;
            if (run.stopped) try expect(!connection.is_sound());
        }
        const listener = engine.listeners.find(run.listener.index, run.listener.generation) orelse
            return expectEqual(0, awaiting);
        try expectEqual(awaiting, listener.awaiting);
    }

    fn stop(run: *Run) void {
        run.stopped = true;
        const listener = run.listener;
        _ = calls.listener_stop(run.scene.engine, listener.index, listener.generation);
    }

    fn refused(run: *Run) [4]u64 {
        const counters = &run.scene.engine.counters;
        return .{
            counters.proxy_incomplete,
            counters.proxy_absent,
            counters.proxy_malformed,
            counters.proxy_late,
        };
    }

    fn planned(run: *Run) [4]u64 {
        var counts: [4]u64 = @splat(0);
        for (run.all[0..run.count]) |*peer| switch (peer.plan) {
            .cut => counts[0] += 1,
            .absent => counts[1] += 1,
            .malformed => counts[2] += 1,
            .silent => counts[3] += 1,
            else => {},
        };
        return counts;
    }

    fn is_over(run: *Run) bool {
        const engine = run.scene.engine;
        return engine.connections.claimed_count == 0 and engine.listeners.claimed_count == 0;
    }
};

test "who speaks through a proxy is heard, whole and by name; nobody else is" {
    for (0..150) |round| {
        const seed = std.testing.random_seed +% round;
        errdefer std.debug.print("proxied: seed {d}\n", .{seed});
        var scene: Scene = try .open(.{ .seed = seed, .connections = peers_max });
        var run: Run = try .open(&scene, seed, false);
        const wanted = 1 + run.below(peers_max);
        for (0..30_000) |_| {
            if (run.count < wanted and run.below(4) == 0) run.knock();
            try run.turn();
            if (run.count == wanted and scene.engine.connections.claimed_count == 0) {
                if (std.mem.eql(u64, &run.refused(), &run.planned()) and all_closed(&run)) break;
            }
        }
        try expectEqual(run.planned(), run.refused());
        for (run.all[0..run.count]) |*peer| try expectEqual(peer.plan.is_sound(), peer.closed);
        run.stop();
        for (0..1000) |_| if (!run.is_over()) try run.turn();
        try expect(run.is_over());
        try scene.close();
    }
}

fn all_closed(run: *Run) bool {
    for (run.all[0..run.count]) |*peer| {
        if (peer.plan.is_sound() and !peer.closed) return false;
    }
    return true;
}

test "whatever breaks, each is refused once at most, and a listener that stops leaves nobody" {
    for (0..300) |round| {
        const seed = std.testing.random_seed +% round;
        errdefer std.debug.print("proxied, with faults: seed {d}\n", .{seed});
        var scene: Scene = try .open(.{ .seed = seed, .connections = 6 });
        var run: Run = try .open(&scene, seed, true);
        scene.kernel.fate.faults = .{
            .enter_partial = 100,
            .delayed = 200,
            .accept = 50,
            .multishot_ends = 100,
            .broken = 20,
            .shutdown = 50,
            .close = 50,
            .cancel_already = 300,
            .cancel_late = 300,
            .option = 100,
        };
        const turns = run.below(400);
        for (0..turns) |_| {
            if (run.count < peers_max and run.below(6) == 0) run.knock();
            if (run.count > 0 and run.below(40) == 0) {
                const peer = &run.all[run.below(run.count)];
                if (!peer.closed and !peer.half_closed) {
                    peers.reset(&scene.kernel.network, peer.id);
                    peer.half_closed = true;
                    peer.sent = peer.total();
                }
            }
            try run.turn();
        }
        run.stop();
        for (0..3000) |_| if (!run.is_over()) try run.turn();
        try expect(run.is_over());
        const planned = run.planned();
        const refused = run.refused();
        try expect(refused[1] <= planned[1] and refused[2] <= planned[2]);
        try expect(refused[0] + refused[1] + refused[2] + refused[3] <= run.count);
        try scene.close();
    }
}

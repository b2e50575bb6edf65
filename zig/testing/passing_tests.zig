//! Descriptors that travel with a connection's bytes, on the simulated kernel.
//!
//! Files are known by numbers, so that a test sees which one arrived and where in the stream. At
//! the end of each, the descriptors of the process are counted: none is lost, none left behind.

const std = @import("std");
const abi = @import("../abi.zig");
const calls = @import("../calls.zig");
const opening = @import("../opening.zig");
const seam = @import("../kernel.zig");
const simulated = @import("../kernel/simulated.zig");
const Handle = @import("scene.zig").Handle;
const Scene = @import("scene.zig").Scene;
const peers = simulated.peers;
const expect = std.testing.expect;
const expectEqual = std.testing.expectEqual;
const errno = seam.errno;

const stream_max = 1 << 16;

/// What one side has seen of a stream: bytes, and files with the range of bytes they came in.
const Seen = struct {
    bytes: [stream_max]u8 = undefined,
    len: usize = 0,
    files: [512]struct { number: u64, from: usize, to: usize } = undefined,
    count: usize = 0,

    fn add_file(seen: *Seen, number: u64, from: usize, to: usize) void {
        seen.files[seen.count] = .{ .number = number, .from = from, .to = to };
        seen.count += 1;
    }

    /// All files of the plan, in order, each with the first byte that it was sent with.
    fn check(seen: *const Seen, plan: *const Plan) !void {
        try std.testing.expectEqualSlices(u8, plan.bytes[0..plan.len], seen.bytes[0..seen.len]);
        try expectEqual(plan.count, seen.count);
        for (plan.files[0..plan.count], seen.files[0..seen.count]) |expected, file| {
            try expectEqual(expected.number, file.number);
            try expect(file.from <= expected.at and expected.at < file.to);
        }
    }
};

const Plan = struct {
    bytes: [stream_max]u8 = undefined,
    len: usize = 0,
    files: [512]struct { number: u64, at: usize } = undefined,
    count: usize = 0,

    fn add(plan: *Plan, bytes: []const u8, numbers: []const u64) void {
        for (numbers) |number| {
            plan.files[plan.count] = .{ .number = number, .at = plan.len };
            plan.count += 1;
        }
        @memcpy(plan.bytes[plan.len..][0..bytes.len], bytes);
        plan.len += bytes.len;
    }
};

const Pair = struct {
    scene: *Scene,
    connection: Scene.Connection,
    /// Records that were read.
    read: usize = 0,
    seen: Seen = .{},
    takes: bool = true,

    fn open(scene: *Scene) !Pair {
        const connection = try unix_connection(scene);
        return .{ .scene = scene, .connection = connection, .read = scene.count };
    }

    /// One turn; reads what it brought, as JavaScript does before the next.
    fn turn(pair: *Pair) !void {
        const scene = pair.scene;
        try scene.turn(5);
        const seen = &pair.seen;
        var came: [abi.descriptors_max]i32 = undefined;
        var count: usize = 0;
        for (scene.records[pair.read..scene.count]) |*record| switch (record.event) {
            .descriptors => if (pair.takes) {
                count = try pair.take(&came, @intCast(record.result));
            },
            .data => {
                const len: usize = @intCast(record.result);
                const bytes = scene.engine.slab[record.offset..][0..len];
                @memcpy(seen.bytes[seen.len..][0..len], bytes);
                for (came[0..count]) |fd| {
                    seen.add_file(file_of(scene, fd), seen.len, seen.len + len);
                    scene.engine.kernel.close_fd(fd);
                }
                count = 0;
                seen.len += len;
            },
            else => {},
        };
        try expectEqual(@as(usize, 0), count); // the bytes are in the same turn
        scene.count = 0;
        pair.read = 0;
    }

    fn take(pair: *Pair, out: []i32, told: u32) !usize {
        const handle = pair.connection.handle;
        const engine = pair.scene.engine;
        const call = calls.connection_descriptors;
        const few = call(engine, handle.index, handle.generation, out.ptr, told - 1);
        try expectEqual(errno.inval, few); // no room for all: none is taken
        const room: u32 = @intCast(out.len);
        const count = call(engine, handle.index, handle.generation, out.ptr, room);
        try expectEqual(@as(i32, @intCast(told)), count);
        const again = call(engine, handle.index, handle.generation, out.ptr, room);
        try expectEqual(@as(i32, 0), again);
        return told;
    }

    /// Sends bytes of the test's own with descriptors that are closed at once.
    fn send(pair: *Pair, bytes: []const u8, numbers: []const u64) !void {
        var descriptors: [simulated_max]i32 = undefined;
        for (numbers, 0..) |number, i| descriptors[i] = open_file(pair.scene, number);
        const handle = pair.connection.handle;
        const outcome = try_send(pair.scene, handle, bytes, descriptors[0..numbers.len]);
        for (descriptors[0..numbers.len]) |fd| pair.scene.engine.kernel.close_fd(fd);
        try expect(outcome >= 0);
    }
};

const simulated_max = 8;

fn try_send(
    scene: *Scene,
    to: Handle,
    bytes: []const u8,
    descriptors: []const i32,
) i32 {
    const arguments = scene.engine.arguments;
    arguments.* = std.mem.zeroes(abi.Arguments);
    arguments.options = Scene.option(.native_memory);
    arguments.address = @floatFromInt(@intFromPtr(bytes.ptr));
    arguments.length = @intCast(bytes.len);
    arguments.mode = @intCast(descriptors.len);
    const input = std.mem.sliceAsBytes(descriptors);
    const len: u32 = @intCast(input.len);
    return calls.connection_send(scene.engine, to.index, to.generation, input.ptr, len);
}

fn open_file(scene: *Scene, number: u64) i32 {
    const network = &scene.kernel.network;
    const fd = switch (network.open()) {
        .fd => |fd| fd,
        .refused => unreachable, // there are enough
    };
    network.sockets[network.find(fd).?].position = number;
    return fd;
}

fn file_of(scene: *Scene, fd: i32) u64 {
    const network = &scene.kernel.network;
    return network.sockets[network.find(fd).?].position;
}

fn unix_connection(scene: *Scene) !Scene.Connection {
    var address: abi.Address = .{ .family = .unix, .port = 0, .text_len = 5, .text = @splat(0) };
    @memcpy(address.text[0..5], "/tmp/");
    const listener = try scene.handle(opening.listener_open(scene.engine, &address, 8, 0));
    const peer = try scene.knock(scene.listener_fd(listener));
    for (0..100) |_| {
        if (scene.seen(.open) > 0) break;
        try scene.turn(10);
    }
    const record = scene.last(.open) orelse return error.NeverOpens;
    // Before the first receive is armed, as `attach` does.
    try expectEqual(errno.inval, set_option(scene, record, 0));
    try expectEqual(@as(i32, 0), set_option(scene, record, 1));
    _ = calls.listener_stop(scene.engine, listener.index, listener.generation);
    for (0..100) |_| {
        if (scene.seen(.listener_closed) > 0) break;
        try scene.turn(10);
    }
    return .{
        .handle = .{ .index = record.index, .generation = record.generation },
        .peer = peer,
    };
}

fn set_option(scene: *Scene, record: *const abi.Record, value: u32) i32 {
    const option = @intFromEnum(abi.SocketOption.descriptors);
    const call = calls.connection_option;
    return call(scene.engine, record.index, record.generation, option, value);
}

fn numbers_of(random: std.Random, next: *u64, out: *[simulated_max]u64) []const u64 {
    const count = if (random.boolean()) 0 else random.uintAtMost(usize, simulated_max);
    for (out[0..count]) |*number| {
        number.* = next.*;
        next.* += 1;
    }
    return out[0..count];
}

test "what a peer sends arrives in order with its bytes, and nothing is left open" {
    for (0..60) |round| {
        const seed = std.testing.random_seed +% round;
        var prng: std.Random.DefaultPrng = .init(seed);
        const random = prng.random();
        var scene: Scene = try .open(.{
            .seed = seed,
            .faults = .{ .delayed = 200, .slow = 10, .cancel_late = 100 },
        });
        var pair: Pair = try .open(&scene);
        const network = &scene.kernel.network;
        const before = network.open_descriptors();
        var plan: Plan = .{};
        var next: u64 = 1;
        var text: [900]u8 = undefined;
        for (0..100) |_| {
            random.bytes(&text);
            const bytes = text[0 .. 1 + random.uintLessThan(usize, text.len)];
            const was = next;
            var numbers: [simulated_max]u64 = undefined;
            const passed = numbers_of(random, &next, &numbers);
            const sent = peers.send_with(network, pair.connection.peer, bytes, passed);
            if (sent == 0) next = was;
            plan.add(bytes[0..sent], if (sent == 0) &.{} else passed);
            if (random.boolean()) try pair.turn();
            if (plan.count > 400) break;
        }
        for (0..2000) |_| {
            if (pair.seen.len == plan.len) break;
            try pair.turn();
        }
        try pair.seen.check(&plan);
        try expectEqual(before, network.open_descriptors());
        try scene.close();
    }
}

test "what is sent arrives in order with its bytes, whatever the kernel takes at a time" {
    for (0..60) |round| {
        const seed = std.testing.random_seed +% round;
        var prng: std.Random.DefaultPrng = .init(seed);
        const random = prng.random();
        var scene: Scene = try .open(.{
            .seed = seed,
            .operations = 128,
            .zero_copy_min = if (random.boolean()) 100 else std.math.maxInt(u32),
            .faults = .{ .delayed = 200, .gives_up = 100, .enter_busy = 50, .slow = 10 },
        });
        var pair: Pair = try .open(&scene);
        const network = &scene.kernel.network;
        const peer = pair.connection.peer;
        const before = network.open_descriptors();
        var plan: Plan = .{};
        var seen: Seen = .{};
        var next: u64 = 1;
        for (0..60) |_| {
            // Memory that stays: what lies in the plan.
            const from = plan.len;
            var text: [700]u8 = undefined;
            random.bytes(&text);
            var numbers: [simulated_max]u64 = undefined;
            const passed = numbers_of(random, &next, &numbers);
            plan.add(text[0 .. 1 + random.uintLessThan(usize, text.len)], passed);
            try pair.send(plan.bytes[from..plan.len], passed);
            for (0..40) |_| {
                try pair.turn();
                receive(network, peer, &seen);
                if (seen.len == plan.len or random.uintLessThan(u32, 4) == 0) break;
            }
        }
        for (0..5000) |_| {
            if (seen.len == plan.len and scene.engine.segments.claimed_count == 0) break;
            try pair.turn();
            receive(network, peer, &seen);
        }
        try seen.check(&plan);
        try expectEqual(before, network.open_descriptors());
        try scene.close();
    }
}

/// A byte at a time, so that each file's place shows.
fn receive(network: anytype, peer: u32, seen: *Seen) void {
    while (peers.receive(network, peer, seen.bytes[seen.len..][0..1]) > 0) {
        if (peers.files(network, peer)) |parcel| {
            for (parcel.files[0..parcel.count]) |number| {
                seen.add_file(number, seen.len, seen.len + 1);
            }
        }
        seen.len += 1;
    }
}

test "what nobody takes is closed with the next turn, and counted" {
    for (0..20) |round| {
        var scene: Scene = try .open(.{ .seed = std.testing.random_seed +% round });
        var pair: Pair = try .open(&scene);
        pair.takes = false;
        const network = &scene.kernel.network;
        const before = network.open_descriptors();
        _ = peers.send_with(network, pair.connection.peer, "one", &.{ 7, 8, 9 });
        for (0..200) |_| {
            try pair.turn();
            if (pair.seen.len == 3) break;
        }
        try expectEqual(@as(usize, 3), pair.seen.len);
        try pair.turn();
        try expectEqual(@as(u64, 3), scene.engine.counters.descriptors_dropped);
        try expectEqual(before, network.open_descriptors());
        // It goes on.
        _ = peers.send_with(network, pair.connection.peer, "two", &.{});
        for (0..200) |_| try pair.turn();
        try expectEqual(@as(usize, 6), pair.seen.len);
        // Told and not taken when the ring ends.
        _ = peers.send_with(network, pair.connection.peer, "x", &.{ 1, 2 });
        for (0..200) |_| {
            try scene.turn(5);
            if (scene.seen(.descriptors) > 0) break;
        }
        try scene.close();
    }
}

test "one that finds no place breaks the connection, and those with it are closed" {
    for (0..20) |round| {
        var scene: Scene = try .open(.{ .seed = std.testing.random_seed +% round });
        const pair: Pair = try .open(&scene);
        const network = &scene.kernel.network;
        const before = network.open_descriptors();
        scene.kernel.fate.faults.passing = 400;
        var rounds: u32 = 0;
        while (scene.seen(.close) == 0) : (rounds += 1) {
            try expect(rounds < 1000);
            _ = peers.send_with(network, pair.connection.peer, "x", &.{ 1, 2, 3, 4 });
            try scene.turn(5);
            var out: [8]i32 = undefined;
            const handle = pair.connection.handle;
            const call = calls.connection_descriptors;
            const count = call(scene.engine, handle.index, handle.generation, &out, 8);
            for (out[0..@intCast(@max(count, 0))]) |fd| scene.engine.kernel.close_fd(fd);
        }
        try expectEqual(errno.mfile, scene.last(.close).?.result);
        try expectEqual(@as(u64, 1), scene.engine.counters.descriptors_truncated);
        try expectEqual(before - 1, network.open_descriptors());
        try scene.close();
    }
}

test "what cannot be sent is refused, and leaves nothing open" {
    var scene: Scene = try .open(.{});
    var pair: Pair = try .open(&scene);
    const network = &scene.kernel.network;
    const handle = pair.connection.handle;
    const tcp = try scene.connection();
    for (0..50) |_| try pair.turn(); // its listener closes
    const fd = open_file(&scene, 5);
    const before = network.open_descriptors();
    try expectEqual(errno.badf, try_send(&scene, handle, "x", &.{ fd, 99 }));
    try expectEqual(errno.inval, try_send(&scene, handle, "", &.{fd}));
    try expectEqual(errno.inval, try_send(&scene, handle, "x", &@as([254]i32, @splat(fd))));
    try expectEqual(errno.notsup, try_send(&scene, tcp.handle, "x", &.{fd}));
    try expectEqual(before, network.open_descriptors());
    // Too many for the kernel: this send alone fails, and those behind it go.
    const refused = try scene.handle(try_send(&scene, handle, "no", &@as([9]i32, @splat(fd))));
    try pair.send("yes", &.{6});
    var seen: Seen = .{};
    for (0..500) |_| {
        try scene.turn(5);
        receive(network, pair.connection.peer, &seen);
        if (seen.len == 3) break;
    }
    try std.testing.expectEqualStrings("yes", seen.bytes[0..seen.len]);
    try expectEqual(@as(u64, 6), seen.files[0].number);
    try scene.expect_outcome(refused, errno.toomanyrefs);
    scene.engine.kernel.close_fd(fd);
    try scene.close();
}

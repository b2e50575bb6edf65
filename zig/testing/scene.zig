//! A ring on the simulated kernel for tests that say step by step what happens.
//!
//! The schedules of `schedule.zig` and `operations.zig` go everywhere at random; a scene goes one
//! way on purpose. It keeps all records, and closing it expects that nothing is left.

const std = @import("std");
const abi = @import("../abi.zig");
const calls = @import("../calls.zig");
const opening = @import("../opening.zig");
const seam = @import("../kernel.zig");
const features = @import("../features.zig");
const teardown = @import("../teardown.zig");
const simulated = @import("../kernel/simulated.zig");
const peers = simulated.peers;
const Engine = @import("../engine.zig").Engine;
const expect = std.testing.expect;
const expectEqual = std.testing.expectEqual;

/// An operation or a connection.
pub const Handle = struct { index: u32, generation: u32 };

pub const Scene = struct {
    kernel: *simulated.Simulated,
    engine: *Engine,
    records: [256]abi.Record = undefined,
    count: usize = 0,

    pub const Config = struct {
        seed: u64 = 1,
        entries: u32 = 8,
        cq_entries: u32 = 64,
        operations: u32 = 16,
        connections: u32 = 8,
        zero_copy_min: u32 = std.math.maxInt(u32),
        splice_min: u32 = std.math.maxInt(u32),
        faults: simulated.Faults = .{},
        limits: @FieldType(simulated.Config, "limits") = .{},
    };

    pub fn open(config: Config) !Scene {
        const kernel = try simulated.Simulated.create(std.testing.allocator, .{
            .seed = config.seed,
            .entries = config.entries,
            .cq_entries = config.cq_entries,
            .limits = config.limits,
            .faults = config.faults,
        });
        const engine = try Engine.create(.{ .simulated = kernel }, features.Set.initFull(), &.{
            .entries = config.entries,
            .cq_entries = config.cq_entries,
            .receive_buffers = 8,
            .receive_buffer_size = 512,
            .connections = config.connections,
            .listeners = 2,
            .operations = config.operations,
            .staging_blocks = 8,
            .high_water_mark = 4096,
            .zero_copy_min = config.zero_copy_min,
            .splice_min = config.splice_min,
            .features_disabled = .initEmpty(),
            .operations_disabled = .initEmpty(),
        });
        return .{ .kernel = kernel, .engine = engine };
    }

    /// Nothing is left, and nothing went wrong below the seam.
    pub fn close(scene: *Scene) !void {
        scene.kernel.fate.faults = .{};
        const held = teardown.cancel_everything(scene.engine, 10_000);
        _ = scene.engine.turn(0); // the last blocks go back
        const blocks = scene.engine.transfers.used;
        scene.free();
        try expectEqual(@as(u32, 0), held);
        try expectEqual(@as(u32, 0), blocks);
    }

    /// Without a word about what is left.
    pub fn free(scene: *Scene) void {
        scene.engine.kernel.close();
        scene.engine.destroy();
        const violation = scene.kernel.violation;
        scene.kernel.destroy();
        if (violation) |message| std.debug.panic("scene: {s}", .{message});
    }

    pub fn turn(scene: *Scene, wait_ms: u32) !void {
        const count = scene.engine.turn(wait_ms);
        if (count < 0 and count != seam.errno.intr) return error.TurnFailed;
        for (scene.engine.records[0..@intCast(@max(count, 0))]) |*record| {
            scene.records[scene.count] = record.*;
            scene.count += 1;
        }
    }

    pub fn turns(scene: *Scene, count: usize) !void {
        for (0..count) |_| try scene.turn(1);
    }

    // Operations.

    pub const blank: abi.Arguments = blank: {
        var arguments = std.mem.zeroes(abi.Arguments);
        arguments.timeout_ms = -1;
        break :blank arguments;
    };

    pub fn option(comptime bit: abi.OperationOption) u32 {
        return 1 << @intFromEnum(bit);
    }

    /// What `start` answers: an index, or why not.
    pub fn ask(
        scene: *Scene,
        kind: abi.OperationKind,
        arguments: abi.Arguments,
        input: []const u8,
    ) i32 {
        scene.engine.arguments.* = arguments;
        const bytes: ?[*]const u8 = if (input.len > 0) input.ptr else null;
        return calls.start(scene.engine, @intFromEnum(kind), bytes, @intCast(input.len));
    }

    pub fn start(
        scene: *Scene,
        kind: abi.OperationKind,
        arguments: abi.Arguments,
        input: []const u8,
    ) !Handle {
        return scene.handle(scene.ask(kind, arguments, input));
    }

    pub fn handle(scene: *Scene, answer: i32) !Handle {
        if (answer < 0) return error.Refused;
        return .{ .index = @intCast(answer), .generation = scene.engine.control.generation };
    }

    pub fn cancel(scene: *Scene, operation: Handle) i32 {
        return calls.cancel(scene.engine, operation.index, operation.generation);
    }

    /// The one completion of an operation so far, or null.
    pub fn result(scene: *Scene, operation: Handle) !?i32 {
        var found: ?i32 = null;
        for (scene.records[0..scene.count]) |*record| {
            if (record.event != .completion or record.index != operation.index) continue;
            if (record.generation != operation.generation) continue;
            try expectEqual(@as(?i32, null), found); // a second one
            found = record.result;
        }
        return found;
    }

    /// Turns until the operation has ended.
    pub fn outcome(scene: *Scene, operation: Handle) !i32 {
        for (0..1000) |_| {
            if (try scene.result(operation)) |value| return value;
            try scene.turn(10);
        }
        return error.NeverEnds;
    }

    pub fn expect_outcome(scene: *Scene, operation: Handle, expected: i32) !void {
        try expectEqual(expected, try scene.outcome(operation));
    }

    /// How many records of this event there were.
    pub fn seen(scene: *const Scene, event: abi.Event) u32 {
        var found: u32 = 0;
        for (scene.records[0..scene.count]) |*record| found += @intFromBool(record.event == event);
        return found;
    }

    pub fn last(scene: *const Scene, event: abi.Event) ?*const abi.Record {
        var found: ?*const abi.Record = null;
        for (scene.records[0..scene.count]) |*record| {
            if (record.event == event) found = record;
        }
        return found;
    }

    // Files and sockets.

    pub fn open_file(scene: *Scene, path: []const u8) !i32 {
        var arguments = blank;
        arguments.fd = -100; // AT_FDCWD
        arguments.flags = 0o100; // O_CREAT
        const file = try scene.outcome(try scene.start(.openat, arguments, path));
        try expect(file >= 0);
        return file;
    }

    pub fn of_file(fd: i32, length: u32) abi.Arguments {
        var arguments = blank;
        arguments.fd = fd;
        arguments.length = length;
        return arguments;
    }

    /// Of a stream: at the position that it has.
    pub fn of_stream(fd: i32, length: u32) abi.Arguments {
        var arguments = of_file(fd, length);
        arguments.offset = -1;
        return arguments;
    }

    pub fn local(port: u32) abi.Address {
        var address: abi.Address = .{
            .family = .ipv4,
            .port = port,
            .text_len = 9,
            .text = @splat(0),
        };
        @memcpy(address.text[0..9], "127.0.0.1");
        return address;
    }

    pub fn listen(scene: *Scene) !Handle {
        return scene.handle(opening.listener_open(scene.engine, &local(0), 8, 0));
    }

    pub fn listener_fd(scene: *Scene, listener: Handle) i32 {
        return scene.engine.listeners.at(listener.index).fd;
    }

    /// A peer that asks to be accepted.
    pub fn knock(scene: *Scene, fd: i32) !u32 {
        var name: seam.SocketAddress = undefined;
        try expectEqual(@as(i32, 0), scene.kernel.network.name_of(fd, .local, &name));
        return peers.connect(&scene.kernel.network, &name) orelse error.BacklogFull;
    }

    pub const Connection = struct { handle: Handle, peer: u32 };

    /// Sends memory of the test's own from where it lies.
    pub fn lend(scene: *Scene, to: Handle, bytes: []const u8) !Handle {
        const arguments = scene.engine.arguments;
        arguments.* = std.mem.zeroes(abi.Arguments);
        arguments.options = option(.native_memory);
        arguments.address = @floatFromInt(@intFromPtr(bytes.ptr));
        arguments.length = @intCast(bytes.len);
        return scene.handle(calls.connection_send(scene.engine, to.index, to.generation, null, 0));
    }

    /// A connection accepted by a listener of its own, which is stopped again.
    pub fn connection(scene: *Scene) !Connection {
        const listener = try scene.listen();
        const peer = try scene.knock(scene.listener_fd(listener));
        const before = scene.seen(.open);
        for (0..100) |_| {
            if (scene.seen(.open) > before) break;
            try scene.turn(10);
        }
        const record = scene.last(.open) orelse return error.NeverOpens;
        _ = calls.listener_stop(scene.engine, listener.index, listener.generation);
        return .{
            .handle = .{ .index = record.index, .generation = record.generation },
            .peer = peer,
        };
    }
};

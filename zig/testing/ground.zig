//! A ring on a kernel that is there, for tests that say step by step what happens: what
//! `scene.zig` is for the simulated one.
//!
//! It keeps all records, and closing it expects that nothing is left: no operation, no block of
//! memory, no receive buffer, no descriptor. Where io_uring is refused, `each` says so once and
//! goes on with the twin.

const std = @import("std");
const abi = @import("../abi.zig");
const calls = @import("../calls.zig");
const opening = @import("../opening.zig");
const seam = @import("../kernel.zig");
const features = @import("../features.zig");
const faults = @import("faults.zig");
const teardown = @import("../teardown.zig");
const scenes = @import("scene.zig");
const Engine = @import("../engine.zig").Engine;
const expect = std.testing.expect;
const expectEqual = std.testing.expectEqual;
const linux = seam.linux;

const Handle = scenes.Handle;

pub const Ground = struct {
    engine: *Engine,
    records: [512]abi.Record = undefined,
    count: usize = 0,

    pub const Config = struct {
        backend: abi.Backend = .epoll,
        cq_entries: u32 = 64,
        operations: u32 = 64,
        zero_copy_min: u32 = std.math.maxInt(u32),
        disabled: features.Set = .initEmpty(),
    };

    pub fn open(config: Config) !Ground {
        const asked: @import("../memory.zig").Config = .{
            .entries = 32,
            .cq_entries = config.cq_entries,
            .receive_buffers = 8,
            .receive_buffer_size = 512,
            .connections = 64,
            .listeners = 32,
            .operations = config.operations,
            .staging_blocks = 8,
            .high_water_mark = 16384,
            .zero_copy_min = config.zero_copy_min,
            .features_disabled = config.disabled,
            .operations_disabled = .initEmpty(),
        };
        return switch (features.open(&asked, config.backend)) {
            .opened => |opened| .{
                .engine = try Engine.create(opened.kernel, opened.features, &asked),
            },
            .refused => error.NoSuchKernel,
        };
    }

    /// Runs a test on the ring and on its twin.
    pub fn each(config: Config, comptime script: fn (*Ground) anyerror!void) !void {
        for ([_]abi.Backend{ .uring, .epoll }) |backend| {
            var asked = config;
            asked.backend = backend;
            const before = count_descriptors();
            var ground = Ground.open(asked) catch |failure| {
                if (backend != .uring or failure != error.NoSuchKernel) return failure;
                std.debug.print("ground: no io_uring here, the twin ran alone\n", .{});
                continue;
            };
            errdefer _ = faults.clear();
            errdefer std.debug.print("ground: on {t}\n", .{backend});
            try script(&ground);
            expectEqual(0, faults.clear()) catch return error.RulesAreLeft;
            try ground.close();
            try expectEqual(before, count_descriptors());
        }
    }

    fn count_descriptors() u32 {
        var count: u32 = 0;
        for (0..512) |fd| count += @intFromBool(is_open(@intCast(fd)));
        return count;
    }

    /// Any kernel that is there asks the same of a descriptor.
    fn is_open(fd: i32) bool {
        const copy = linux.duplicate(fd);
        if (copy >= 0) linux.close(copy);
        return copy >= 0;
    }

    pub fn close(ground: *Ground) !void {
        const engine = ground.engine;
        const fatal = engine.fatal;
        const held = teardown.cancel_everything(engine, 2_000);
        _ = engine.turn(0); // the last blocks go back
        _ = engine.turn(0);
        const blocks = engine.transfers.used;
        const lost = engine.buffers.count() - engine.buffers.free - engine.buffers.idle_count;
        engine.kernel.close();
        engine.destroy();
        if (fatal != 0) return;
        try expectEqual(0, held);
        try expectEqual(0, blocks);
        try expectEqual(0, lost);
    }

    pub fn turn(ground: *Ground, wait_ms: u32) !void {
        const count = ground.engine.turn(wait_ms);
        if (count < 0 and count != seam.errno.intr) return error.TurnFailed;
        for (ground.engine.records[0..@intCast(@max(count, 0))]) |*record| {
            ground.records[ground.count] = record.*;
            ground.count += 1;
        }
    }

    pub fn turns(ground: *Ground, count: usize) !void {
        for (0..count) |_| try ground.turn(0);
    }

    // Rules.

    pub fn force(_: *Ground, rule: faults.Rule) !void {
        try expect(faults.add(rule));
    }

    /// So often did the rules strike; from here on there are none.
    pub fn struck(_: *Ground, count: u32) !void {
        try expectEqual(count, faults.clear());
    }

    // Operations.

    pub fn ask(
        ground: *Ground,
        kind: abi.OperationKind,
        arguments: abi.Arguments,
        input: []const u8,
    ) i32 {
        ground.engine.arguments.* = arguments;
        const bytes: ?[*]const u8 = if (input.len > 0) input.ptr else null;
        return calls.start(ground.engine, @intFromEnum(kind), bytes, @intCast(input.len));
    }

    pub fn start(
        ground: *Ground,
        kind: abi.OperationKind,
        arguments: abi.Arguments,
        input: []const u8,
    ) !Handle {
        return ground.handle(ground.ask(kind, arguments, input));
    }

    pub fn handle(ground: *Ground, answer: i32) !Handle {
        if (answer < 0) return error.Refused;
        return .{ .index = @intCast(answer), .generation = ground.engine.control.generation };
    }

    /// Turns until there is a record like this: it, and no second one.
    pub fn wait_for(ground: *Ground, event: abi.Event, of: Handle) !*const abi.Record {
        const deadline = linux.now_ns() + 5 * std.time.ns_per_s;
        while (linux.now_ns() < deadline) {
            if (try ground.find(event, of)) |found| return found;
            try ground.turn(10);
        }
        return error.NeverCame;
    }

    /// The last of them; an end may come once only (I2).
    pub fn find(ground: *const Ground, event: abi.Event, of: Handle) !?*const abi.Record {
        var found: ?*const abi.Record = null;
        for (ground.records[0..ground.count]) |*record| {
            if (record.event != event or record.index != of.index) continue;
            if (record.generation != of.generation) continue;
            if (is_end(event) and found != null and found.?.extra == 0) return error.EndedTwice;
            found = record;
        }
        return found;
    }

    fn is_end(event: abi.Event) bool {
        return event != .data and event != .datagram;
    }

    pub fn outcome(ground: *Ground, operation: Handle) !i32 {
        return (try ground.wait_for(.completion, operation)).result;
    }

    pub fn seen(ground: *const Ground, event: abi.Event) u32 {
        var found: u32 = 0;
        for (ground.records[0..ground.count]) |*record| {
            found += @intFromBool(record.event == event);
        }
        return found;
    }

    pub fn wait_until_seen(ground: *Ground, event: abi.Event, count: u32) !void {
        const deadline = linux.now_ns() + 5 * std.time.ns_per_s;
        while (ground.seen(event) < count) {
            if (linux.now_ns() > deadline) return error.NeverCame;
            try ground.turn(10);
        }
        try expectEqual(count, ground.seen(event));
    }

    /// Everything that was told is forgotten.
    pub fn forget(ground: *Ground) void {
        ground.count = 0;
    }

    // Connections.

    pub fn listen(ground: *Ground) !Handle {
        return ground.handle(opening.listener_open(ground.engine, &scenes.Scene.local(0), 8, 0));
    }

    /// A connection of the ring's own to a listener of its own.
    pub fn knock(ground: *Ground, listener: Handle) !Handle {
        var place: abi.Address = undefined;
        const engine = ground.engine;
        const index = listener.index;
        try expectEqual(0, calls.listener_address(engine, index, listener.generation, &place));
        return ground.handle(opening.connect(engine, &place, null, 0, 0));
    }

    pub const Pair = struct { handle: Handle, peer: i32 };

    /// One end is the ring's connection, the other a descriptor of the test's.
    pub fn pair(ground: *Ground) !Pair {
        var ends: [2]i32 = undefined;
        try expect(linux.socket_pair(&ends) >= 0);
        const made = try ground.handle(opening.connection_adopt(ground.engine, ends[0]));
        _ = try ground.wait_for(.open, made);
        return .{ .handle = made, .peer = ends[1] };
    }

    pub fn write(ground: *Ground, to: Handle, bytes: []const u8) !void {
        const len: u32 = @intCast(bytes.len);
        const engine = ground.engine;
        const taken = calls.connection_write(engine, to.index, to.generation, bytes.ptr, len);
        try expectEqual(@as(i32, @intCast(bytes.len)), taken);
    }

    pub fn shut(ground: *Ground, what: Handle, how: abi.Shut) !void {
        const number = @intFromEnum(how);
        try expectEqual(0, calls.connection_shut(
            ground.engine,
            what.index,
            what.generation,
            number,
            0,
        ));
    }

    /// Reads so many bytes at a descriptor of the test's, or to the end: their number.
    pub fn read(ground: *Ground, fd: i32, out: []u8) !usize {
        var done: usize = 0;
        while (done < out.len) {
            var arguments = scenes.Scene.of_stream(fd, @intCast(out.len - done));
            arguments.offset = 0;
            const receive = try ground.start(.recv, arguments, "");
            const got = try ground.outcome(receive);
            if (got <= 0) return done;
            const count: u32 = @intCast(got);
            const rest = out[done..].ptr;
            try expectEqual(0, calls.operation_read(ground.engine, receive.index, rest, count));
            done += count;
        }
        return done;
    }

    pub fn expect_read(ground: *Ground, fd: i32, expected: []const u8) !void {
        var buffer: [8192]u8 = undefined;
        const count = try ground.read(fd, buffer[0..expected.len]);
        try std.testing.expectEqualStrings(expected, buffer[0..count]);
    }

    /// What came to a connection in its last record of data.
    pub fn bytes_of(ground: *Ground, record: *const abi.Record) []const u8 {
        const len: usize = @intCast(record.result);
        return ground.engine.slab[record.offset..][0..len];
    }
};

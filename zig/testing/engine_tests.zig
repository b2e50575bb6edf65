//! Tests of the engine on the simulated kernel that leave nothing to chance: one situation each.
//!
//! What the random schedules reach by luck alone, or could not tell from something else, stands
//! here: a kernel that takes nothing more, totals beyond 32 bits. A bench keeps every outcome.

const std = @import("std");
const abi = @import("../abi.zig");
const calls = @import("../calls.zig");
const seam = @import("../kernel.zig");
const memory = @import("../memory.zig");
const features = @import("../features.zig");
const simulated = @import("../kernel/simulated.zig");
const Engine = @import("../engine.zig").Engine;
const errno = seam.errno;
const expectEqual = std.testing.expectEqual;

const entries = 4;

const Bench = struct {
    arena: std.heap.ArenaAllocator,
    kernel: *simulated.Simulated,
    engine: *Engine,

    fn open(bench: *Bench, cq_entries: u32, operations: u32) !void {
        bench.arena = .init(std.testing.allocator);
        bench.kernel = try .create(bench.arena.allocator(), .{
            .seed = std.testing.random_seed,
            .entries = entries,
            .cq_entries = cq_entries,
        });
        const config: memory.Config = .{
            .entries = entries,
            .cq_entries = cq_entries,
            .receive_buffers = 8,
            .receive_buffer_size = 64,
            .connections = 4,
            .listeners = 1,
            .operations = operations,
            .staging_blocks = 1,
            .high_water_mark = 4096,
            .features_disabled = .initEmpty(),
            .operations_disabled = .initEmpty(),
        };
        const set: features.Set = .initFull();
        bench.engine = try Engine.create(.{ .simulated = bench.kernel }, set, &config);
    }

    fn close(bench: *Bench) !void {
        const violation = bench.kernel.violation;
        bench.engine.destroy();
        bench.arena.deinit();
        try expectEqual(@as(?[]const u8, null), violation);
    }

    /// Turns until nothing is in flight: the number of operations that ended with 0.
    fn finish(bench: *Bench) !u32 {
        var ended: u32 = 0;
        for (0..10_000) |_| {
            if (bench.engine.operations.claimed_count == 0) return ended;
            const count = bench.engine.turn(0);
            for (bench.engine.records[0..@intCast(count)]) |record| {
                try expectEqual(@as(i32, 0), record.result);
                ended += 1;
            }
        }
        return error.NeverEnds;
    }

    /// A descriptor that is open.
    fn descriptor(bench: *Bench) i32 {
        return bench.kernel.network.pipe().?.fd;
    }

    fn start_close(bench: *Bench, fd: i32, options: u32) !void {
        var arguments = std.mem.zeroes(abi.Arguments);
        arguments.fd = fd;
        arguments.timeout_ms = -1;
        arguments.options = options;
        bench.engine.arguments.* = arguments;
        const kind = @intFromEnum(abi.OperationKind.close);
        try std.testing.expect(calls.start(bench.engine, kind, null, 0) >= 0);
    }

    /// NOPs until one is refused: how many were taken, and the refusal.
    fn overfill(bench: *Bench) struct { u32, i32 } {
        var taken: u32 = 0;
        while (true) : (taken += 1) {
            const outcome = calls.nop(bench.engine);
            if (outcome < 0) return .{ taken, outcome };
        }
    }
};

test "a kernel that pushes back: a full ring is EAGAIN, and what was taken ends" {
    var bench: Bench = undefined;
    try bench.open(64, 200);
    bench.kernel.fate.faults.enter_busy = 1000;
    const taken, const refusal = bench.overfill();
    try expectEqual(errno.again, refusal);
    try expectEqual(@as(u32, entries + 4 * entries), taken);
    // Nothing was lost or half begun, and what is refused costs no slot.
    try expectEqual(taken, bench.engine.operations.claimed_count);
    bench.kernel.fate.faults = .{};
    try expectEqual(taken, try bench.finish());
    try expectEqual(@as(i32, 0), @min(calls.nop(bench.engine), 0));
    _ = try bench.finish();
    try bench.close();
}

test "a completion queue that nobody empties is full: EAGAIN" {
    var bench: Bench = undefined;
    try bench.open(16, 200);
    const taken, const refusal = bench.overfill();
    try expectEqual(errno.again, refusal);
    try std.testing.expect(taken >= 5 * entries);
    try std.testing.expect(taken <= 16 + 24 + 5 * entries); // as many as one enter hands over
    try expectEqual(taken, try bench.finish());
    try bench.close();
}

test "a slot table that is full is ENOMEM" {
    var bench: Bench = undefined;
    try bench.open(64, 4);
    try expectEqual(.{ @as(u32, 4), errno.nomem }, bench.overfill());
    try expectEqual(@as(u32, 4), try bench.finish());
    try bench.close();
}

test "totals beyond 32 bits are told exactly" {
    var bench: Bench = undefined;
    try bench.open(16, 4);
    bench.engine.counters.bytes_sent = (1 << 40) + 1;
    bench.engine.counters.bytes_received = std.math.maxInt(u32) + 1;
    var stats: abi.Stats = undefined;
    try expectEqual(@as(i32, 0), calls.read_stats(bench.engine, &stats));
    try expectEqual(@as(f64, 1_099_511_627_777), stats.bytes_sent);
    try expectEqual(@as(f64, 4_294_967_296), stats.bytes_received);
    try bench.close();
}

test "a ring that is lost closes what was to be closed, but for what a chain had not come to" {
    var bench: Bench = undefined;
    try bench.open(64, 64);
    // More than the submission queue holds: some wait before it, some in it.
    bench.kernel.fate.faults.enter_busy = 1000;
    for (0..2 * entries) |_| try bench.start_close(bench.descriptor(), 0);
    const kept = bench.descriptor();
    const cancelled = bench.descriptor();
    try bench.start_close(cancelled, 0);
    const last = bench.engine.dirty_operations.tail;
    const generation = bench.engine.operations.generation(last);
    try expectEqual(@as(i32, 0), calls.cancel(bench.engine, last, generation));
    const link = @as(u32, 1) << @intFromEnum(abi.OperationOption.link);
    try expectEqual(@as(i32, 0), calls.batch_begin(bench.engine));
    try bench.start_close(bench.descriptor(), link);
    try bench.start_close(kept, 0);
    try expectEqual(@as(i32, 0), calls.batch_end(bench.engine));
    try expectEqual(@as(u32, 2 * entries + 3), bench.kernel.network.open_descriptors());
    bench.kernel.fate.faults = .{ .enter_lost = 1000 };
    try expectEqual(errno.badf, bench.engine.turn(0));
    try expectEqual(errno.badf, calls.nop(bench.engine));
    try expectEqual(@as(u32, 2), bench.kernel.network.open_descriptors());
    for ([_]i32{ kept, cancelled }) |fd| try std.testing.expect(bench.kernel.is_open(fd));
    try bench.close();
}

test "a lost ring leaves a chain in the submission queue alone as well" {
    var bench: Bench = undefined;
    try bench.open(64, 64);
    const kept = bench.descriptor();
    const link = @as(u32, 1) << @intFromEnum(abi.OperationOption.link);
    try expectEqual(@as(i32, 0), calls.batch_begin(bench.engine));
    try bench.start_close(bench.descriptor(), link);
    try bench.start_close(kept, 0);
    try expectEqual(@as(i32, 0), calls.batch_end(bench.engine));
    bench.kernel.fate.faults.enter_lost = 1000;
    try expectEqual(errno.badf, bench.engine.flush_only());
    try expectEqual(@as(u32, 1), bench.kernel.network.open_descriptors());
    try std.testing.expect(bench.kernel.is_open(kept));
    try bench.close();
}

test "another loop's descriptor ends a wait once, and is let go before the ring sleeps" {
    var bench: Bench = undefined;
    try bench.open(64, 4);
    const engine = bench.engine;
    const pipe = bench.kernel.network.pipe().?;
    try expectEqual(0, engine.companion.set(engine, pipe.fd));
    try expectEqual(0, engine.turn(0)); // which does not wait: nothing is armed
    try expectEqual(0, engine.companion.in_flight());
    const began = bench.kernel.clock.now;
    try expectEqual(0, engine.turn(20));
    try expectEqual(0, engine.control.companions);
    try std.testing.expect(bench.kernel.clock.now - began >= 20 * std.time.ns_per_ms);
    try expectEqual(1, simulated.peers.send(&bench.kernel.network, pipe.peer, "x"));
    try expectEqual(0, engine.turn(1000));
    try expectEqual(1, engine.control.companions);
    try std.testing.expect(bench.kernel.clock.now - began < 900 * std.time.ns_per_ms);
    bench.kernel.close_fd(pipe.fd);
    const other = bench.kernel.network.pipe().?;
    try expectEqual(0, engine.companion.set(engine, other.fd));
    try expectEqual(0, engine.turn(5));
    try expectEqual(1, engine.companion.in_flight());
    try expectEqual(0, engine.companion.set(engine, -1));
    try expectEqual(1, engine.arm()); // not yet
    for (0..50) |_| _ = engine.turn(0);
    try expectEqual(0, engine.companion.in_flight());
    try expectEqual(0, engine.arm());
    bench.kernel.close_fd(other.fd);
    try bench.close();
}

//! One random run of operations of every kind on the simulated kernel, checked against a model.
//!
//! A seed decides everything: sizes of queues and tables, faults, masked kinds, what is started,
//! linked, timed, cancelled and registered. A run has traffic, in which everything may happen, and
//! an end: all is cancelled and must come to rest, or the ring is torn down in the middle of it.
//! Afterwards nothing is left: no operation, no block, no descriptor, no registration. The first
//! violation ends the run. `operations/schedules.zig` makes many runs.

const std = @import("std");
const abi = @import("../abi.zig");
const seam = @import("../kernel.zig");
const memory = @import("../memory.zig");
const features = @import("../features.zig");
const slots = @import("../slots.zig");
const teardown = @import("../teardown.zig");
const simulated = @import("../kernel/simulated.zig");
const judging = @import("model.zig");
const model = @import("operations/model.zig");
const failing = @import("operations/failures.zig");
const user = @import("operations/user.zig");
const names = @import("operations/names.zig");
const settle = @import("operations/settle.zig");
const descriptors = @import("operations/descriptors.zig");
const registrations = @import("operations/registrations.zig");
const stepping = @import("steps.zig");
const Engine = @import("../engine.zig").Engine;
const Kind = @import("../operation.zig").Kind;
const errno = seam.errno;

pub const Error = error{ Violation, OutOfMemory };

pub const Run = struct {
    verdict: judging.Verdict = .{},
    prng: std.Random.SplitMix64,
    arena: std.mem.Allocator,
    kernel: *simulated.Simulated,
    engine: *Engine,
    steps: stepping.Steps,
    seen: model.Table = .{},
    failed: failing.Failures = .{},
    by_slot: []?*model.Operation,
    /// One that did not come to be.
    unused: ?*model.Operation = null,
    /// Operations without their last record.
    pending: u32 = 0,
    /// Slots that a refused start has taken out of this turn.
    spoilt: u32 = 0,
    names: names.Names = .{},
    descriptors: std.ArrayList(*descriptors.Descriptor) = .empty,
    descriptors_max: usize = 0,
    /// Peers that wait to be accepted.
    strangers: std.ArrayList(u32) = .empty,
    buffers: registrations.Registration = .{},
    files: registrations.Registration = .{},
    /// Memory that was read into and is the user's again; filled with `quiet`.
    retired: std.ArrayList([]u8) = .empty,
    /// Chances out of 100: that an operation has a time-out, that a peer reads.
    timeouts: u32 = 0,
    appetite: u32 = 0,
    /// Operations that ended, for the count of all runs.
    ended: u64 = 0,
    ending: bool = false,

    pub const quiet: u8 = 0x77;

    pub fn create(arena: std.mem.Allocator, seed: u64, plan: ?*stepping.Plan) Error!*Run {
        const run = try arena.create(Run);
        run.* = .{
            .prng = .init(seed),
            .arena = arena,
            .kernel = undefined,
            .engine = undefined,
            .steps = undefined,
            .by_slot = undefined,
        };
        const config = run.engine_config();
        run.by_slot = try arena.alloc(?*model.Operation, config.operations);
        @memset(run.by_slot, null);
        run.descriptors_max = run.one_of(&.{ 8, 16, 32 });
        run.timeouts = run.one_of(&.{ 20, 70, 95 });
        run.appetite = run.one_of(&.{ 5, 50, 90 });
        var faults_wanted = run.faults();
        if (plan) |wanted| wanted.clear(&faults_wanted);
        run.kernel = try .create(arena, .{
            .seed = run.prng.next(),
            .entries = config.entries,
            .cq_entries = config.cq_entries,
            .limits = .{
                .descriptors = run.one_of(&.{ 12, 96, 96 }),
                .peers = 40,
                .stream_bytes = run.one_of(&.{ 300, 2000, 16 * 1024 }),
            },
            .faults = faults_wanted,
            .chance = .{ .may_fail = is_users },
        });
        var set: features.Set = .initFull();
        if (run.chance(30)) set.remove(.registered_files);
        run.engine = Engine.create(.{ .simulated = run.kernel }, set, &config) catch
            return error.OutOfMemory;
        run.steps = .{ .seed = seed, .dice = &run.prng, .kernel = run.kernel, .plan = plan };
        run.steps.watch();
        return run;
    }

    pub fn destroy(run: *Run) void {
        run.engine.destroy();
    }

    fn is_users(user_data: u64) bool {
        const kind = @as(slots.UserData, @bitCast(user_data)).kind;
        return @intFromEnum(kind) >= @intFromEnum(Kind.user_first);
    }

    fn engine_config(run: *Run) memory.Config {
        var masked: @FieldType(memory.Config, "operations_disabled") = .initEmpty();
        if (run.chance(25)) for (0..masked.capacity()) |kind| {
            if (run.chance(30)) masked.set(kind);
        };
        return .{
            .entries = run.one_of(&.{ 2, 8, 16, 64 }),
            .cq_entries = run.one_of(&.{ 2, 16, 256, 4096 }),
            .receive_buffers = 8,
            .receive_buffer_size = 64,
            .connections = 64,
            .listeners = 1,
            .operations = run.one_of(&.{ 3, 16, 64, 200 }),
            .staging_blocks = 1,
            .high_water_mark = 4096,
            .features_disabled = .initEmpty(),
            .operations_disabled = masked,
        };
    }

    fn faults(run: *Run) simulated.Faults {
        if (run.chance(10)) return .{};
        return .{
            .enter_interrupted = run.permille(&.{ 0, 100 }),
            .enter_busy = run.permille(&.{ 0, 30 }),
            .enter_again = run.permille(&.{ 0, 30 }),
            .enter_partial = run.permille(&.{ 0, 200 }),
            .delayed = run.permille(&.{ 0, 100, 500, 900 }),
            .accept = run.permille(&.{ 0, 100 }),
            .multishot_ends = run.permille(&.{ 0, 100 }),
            .connect = run.permille(&.{ 0, 300 }),
            .broken = run.permille(&.{ 0, 4 }),
            .close = run.permille(&.{ 0, 200 }),
            .shutdown = run.permille(&.{ 0, 300 }),
            .cancel_already = run.permille(&.{ 0, 300 }),
            .cancel_late = run.permille(&.{ 0, 500 }),
            .slow = run.permille(&.{ 100, 500, 900 }),
            .call = run.permille(&.{ 0, 100, 400 }),
            .short = run.permille(&.{ 0, 200 }),
            .buffer_set = run.permille(&.{ 0, 100 }),
        };
    }

    // Dice.

    pub inline fn chance(run: *Run, percent: u32) bool {
        return run.below(100) < percent;
    }

    pub inline fn below(run: *Run, limit: u32) u32 {
        // The high half of a product: faster than std's exact way, and even enough.
        return @intCast((run.prng.next() >> 32) * limit >> 32);
    }

    pub fn one_of(run: *Run, choices: []const u32) u32 {
        return choices[run.below(@intCast(choices.len))];
    }

    fn permille(run: *Run, choices: []const u16) u16 {
        return choices[run.below(@intCast(choices.len))];
    }

    /// Fresh sockets are the rarest: left open mostly, for what only they can do.
    pub fn kinds_to_close(run: *Run) []const descriptors.Kind {
        if (run.chance(30)) return &.{ .file, .fresh, .bound, .listening, .stream, .dead };
        return &.{ .file, .listening, .stream, .dead };
    }

    pub fn expect_outcome(
        run: *Run,
        call: []const u8,
        expected: i32,
        outcome: i32,
    ) error{Violation}!void {
        if (outcome == expected) return;
        return run.verdict.violation("{s} gave {d} instead of {d}", .{ call, outcome, expected });
    }

    // The run.

    pub fn perform(run: *Run, operations: u64) Error!void {
        while (run.ended < operations and !run.steps.is_enough()) {
            if (run.chance(20)) try descriptors.add_sockets(run);
            for (0..run.below(16)) |_| try user.act(run);
            try run.turn(if (run.chance(25)) 0 else run.below(60));
        }
        run.ending = true;
        run.kernel.fate.faults = .{};
        if (run.chance(25)) return run.tear_down();
        try run.end();
    }

    fn turn(run: *Run, wait_ms: u32) Error!void {
        if (!run.steps.begin_turn()) return;
        run.spoilt = 0;
        const count = run.engine.turn(wait_ms);
        if (count < 0 and !(count == errno.intr and wait_ms > 0)) {
            return run.verdict.violation("turn gave {d}", .{count});
        }
        const records = run.engine.records[0..@intCast(@max(count, 0))];
        // The engine's counts have fallen already, before the first handler runs.
        for (records) |*record| try run.count_down(record);
        for (records) |*record| {
            if (run.chance(15)) try user.act(run);
            try settle.on_record(run, record);
        }
        try registrations.compare(run);
        if (run.chance(60)) try descriptors.act(run);
        try run.expect_quiet();
        try run.expect_sound();
    }

    fn count_down(run: *Run, record: *const abi.Record) Error!void {
        if (record.event != .completion or record.extra != 0) return;
        run.ended += 1;
        const operation = run.by_slot[record.index] orelse return;
        registrations.operation_done(run, operation);
    }

    fn expect_sound(run: *Run) Error!void {
        if (run.kernel.violation) |message| return run.verdict.violation("{s}", .{message});
    }

    /// Nobody writes to memory that an operation gave back.
    fn expect_quiet(run: *Run) Error!void {
        if (run.retired.items.len < 8) return; // some turns later is early enough
        for (run.retired.items) |bytes| {
            if (!std.mem.eql(u8, bytes, all_quiet[0..bytes.len])) {
                return run.verdict.violation("memory was written to after its operation", .{});
            }
        }
        run.retired.clearRetainingCapacity();
    }

    const all_quiet: [16 * 1024]u8 = @splat(quiet);

    const turns_max = 3000;

    fn end(run: *Run) Error!void {
        for (run.by_slot) |entry| if (entry) |operation| {
            if (!operation.cancelled) try user.cancel_one(run, operation);
        };
        for (0..turns_max) |_| {
            if (run.is_over()) break;
            try run.turn(20);
        } else return run.verdict.violation("{d} operations never end", .{run.pending});
        try registrations.unregister_all(run);
        while (run.descriptors.items.len > 0) {
            const descriptor = run.descriptors.items[0];
            run.kernel.close_fd(descriptor.fd);
            descriptors.remove(run, descriptor);
        }
        try run.turn(0); // the last blocks go back
        try run.expect_nothing_left("at the end");
        run.engine.kernel.close();
        try run.expect_sound();
    }

    fn is_over(run: *Run) bool {
        return run.pending == 0 and run.engine.pending_cancels == 0 and !run.kernel.ready() and
            run.kernel.queued() == 0 and run.kernel.pending.items.len == 0;
    }

    /// What closing a ring does: nobody reads the records.
    fn tear_down(run: *Run) Error!void {
        const held = teardown.cancel_everything(run.engine, 100_000);
        if (held > 0) return run.verdict.violation("torn down with {d} held", .{held});
        try registrations.unregister_torn_down(run);
        // Closes that nobody heard of have freed their numbers.
        for (run.descriptors.items) |descriptor| run.kernel.close_fd(descriptor.fd);
        _ = run.engine.turn(0);
        try run.expect_nothing_left("after the teardown");
        run.engine.kernel.close();
        try run.expect_sound();
    }

    fn expect_nothing_left(run: *Run, when: []const u8) Error!void {
        const engine = run.engine;
        const items = [_]struct { []const u8, u64 }{
            .{ "operations", engine.operations.claimed_count },
            .{ "blocks", engine.transfers.used },
            .{ "cancels", engine.pending_cancels },
            .{ "marked operations", engine.dirty_operations.count },
            .{ "pending kernel operations", run.kernel.pending.items.len },
            .{ "descriptors", run.kernel.network.open_descriptors() },
            .{ "registered files", run.kernel.registered.files_held() },
        };
        for (items) |item| if (item[1] > 0) {
            return run.verdict.violation("left {s}: {d} {s}", .{ when, item[1], item[0] });
        };
    }
};

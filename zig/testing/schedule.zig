//! One random run of the real engine on the simulated kernel, checked against the model.
//!
//! A seed decides everything: sizes of queues and pools, faults, what the user asks, what the peers
//! do. A run has three parts: traffic, in which everything may happen; rest, in which peers read
//! and every refused writer must be told; the end, after which nothing may be left. The end is
//! orderly, or the ring's own teardown. The first violation ends the run with its message.
//! `schedules.zig` makes many runs.

const std = @import("std");
const abi = @import("../abi.zig");
const calls = @import("../calls.zig");
const seam = @import("../kernel.zig");
const memory = @import("../memory.zig");
const features = @import("../features.zig");
const teardown = @import("../teardown.zig");
const simulated = @import("../kernel/simulated.zig");
const model = @import("model.zig");
const user = @import("user.zig");
const loans = @import("loans.zig");
const sends = @import("sends.zig");
const peer_side = @import("peer_side.zig");
const posters = @import("posters.zig");
const bells = @import("../kernel/simulated/bells.zig");
const shares = @import("shares.zig");
const stepping = @import("steps.zig");
const Engine = @import("../engine.zig").Engine;
const errno = seam.errno;

const Error = error{ Violation, OutOfMemory };

pub const connections_max = 64;
pub const listeners_max = 4;
pub const operations_max = 32;

pub const Schedule = struct {
    verdict: model.Verdict,
    /// Small and fast: it is asked more often than anything else.
    prng: std.Random.SplitMix64,
    arena: std.mem.Allocator,
    kernel: *simulated.Simulated,
    engine: *Engine,
    steps: stepping.Steps,
    connections: [connections_max]?*model.Connection,
    listeners: [listeners_max]model.Listener,
    operations: [operations_max]model.Operation,
    peers: std.ArrayList(*model.Peer),
    loans: std.ArrayList(loans.Loan),
    posters: posters.Posters,
    sends: sends.Sends,
    /// All connections of the run, for the last look.
    all: std.ArrayList(*model.Connection),
    /// Turns so far.
    turns: u64,
    /// Peers of the `open` records of this turn, by record.
    opened: [abi.records_max]?*model.Peer,
    /// This turn has a data record of a shared buffer; how many had one.
    serves: bool,
    turns_serving: u64,
    /// In some runs the peers hardly read, so that sends are stuck when they are cancelled.
    peers_idle: bool,
    /// In some they send all they can, to many connections with few buffers.
    peers_flood: bool,
    /// Much is sent from where it lies, without a copy.
    lends: bool = false,
    /// No new work; peers read, the ring turns only when something wakes it.
    resting: bool,
    /// All connections are paused.
    pausing: bool,
    /// The last turn of a resting ring found nothing, and it was armed.
    asleep: bool,
    ending: bool,

    pub fn create(arena: std.mem.Allocator, seed: u64, plan: ?*stepping.Plan) Error!*Schedule {
        const schedule = try arena.create(Schedule);
        schedule.* = .{
            .verdict = .{},
            .prng = .init(seed),
            .arena = arena,
            .kernel = undefined,
            .engine = undefined,
            .steps = undefined,
            .connections = @splat(null),
            .listeners = @splat(.{}),
            .operations = @splat(.{}),
            .peers = .empty,
            .loans = .empty,
            .posters = .{},
            .sends = try .init(arena),
            .all = .empty,
            .turns = 0,
            .opened = @splat(null),
            .serves = false,
            .turns_serving = 0,
            .peers_idle = false,
            .peers_flood = false,
            .resting = false,
            .pausing = false,
            .asleep = false,
            .ending = false,
        };
        schedule.peers_idle = schedule.chance(40);
        schedule.peers_flood = schedule.chance(3);
        schedule.lends = !schedule.peers_flood and schedule.chance(75);
        var config = schedule.engine_config();
        const flood = schedule.peers_flood;
        if (flood) {
            config.receive_buffers = 2;
            config.connections = connections_max;
        }
        var faults_wanted = schedule.faults();
        if (plan) |wanted| wanted.clear(&faults_wanted);
        schedule.kernel = try .create(arena, .{
            .seed = schedule.prng.next(),
            .entries = config.entries,
            .cq_entries = config.cq_entries,
            .limits = schedule.limits(),
            .faults = faults_wanted,
        });
        var set: features.Set = .initFull();
        if (schedule.chance(40)) set.remove(.multishot_receive);
        if (schedule.chance(40)) set.remove(.multishot_accept);
        if (schedule.chance(40)) set.remove(.doorbell);
        if (schedule.chance(10)) set.remove(.zero_copy_send);
        if (schedule.chance(40)) set.remove(.receive_limit);
        schedule.engine = Engine.create(.{ .simulated = schedule.kernel }, set, &config) catch
            return error.OutOfMemory;
        // A ring that is kept this short runs empty while buffers are idle.
        schedule.engine.buffers.target = schedule.one_of(&.{ 1, 8, 64 });
        schedule.steps = .{
            .seed = seed,
            .dice = &schedule.prng,
            .kernel = schedule.kernel,
            .plan = plan,
        };
        schedule.steps.watch();
        return schedule;
    }

    pub fn destroy(schedule: *Schedule) void {
        schedule.engine.destroy();
    }

    fn limits(schedule: *Schedule) simulated.Limits {
        const flood = schedule.peers_flood;
        return .{
            .descriptors = if (flood) 96 else schedule.one_of(&.{ 6, 24, 96 }),
            .peers = if (flood) 40 else schedule.one_of(&.{ 4, 40 }),
            .stream_bytes = if (schedule.lends)
                schedule.one_of(&.{ 200, 2000, 8 * 1024 })
            else
                schedule.one_of(&.{ 1000, 8 * 1024, 64 * 1024 }),
        };
    }

    fn engine_config(schedule: *Schedule) memory.Config {
        return .{
            .entries = schedule.one_of(&.{ 1, 2, 8, 64 }),
            .cq_entries = schedule.one_of(&.{ 2, 16, 256, 4096 }),
            .receive_buffers = schedule.one_of(&.{ 8, 16, 64, 256 }),
            .receive_buffer_size = schedule.one_of(&.{ 64, 512, 4096 }),
            .receive_blocks = schedule.one_of(&.{ 0, 1, 4 }),
            .receive_block_size = schedule.one_of(&.{ 4096, 64 * 1024 }),
            .hold_buffers = schedule.one_of(&.{ 1, 2, 8, 64 }),
            .hold_bytes = schedule.one_of(&.{ 100, 8 * 1024, 128 * 1024 }),
            .connections = schedule.one_of(&.{ 1, 4, 16, connections_max }),
            .listeners = schedule.one_of(&.{ 1, listeners_max }),
            .operations = if (schedule.lends)
                operations_max
            else
                schedule.one_of(&.{ 2, operations_max }),
            .staging_blocks = schedule.one_of(&.{ 1, 8, 64, 512 }),
            .high_water_mark = schedule.one_of(&.{ 1, 4096, 64 * 1024, 256 * 1024 }),
            .segments = if (schedule.lends) 64 else schedule.one_of(&.{ 1, 4, 64 }),
            .zero_copy_min = if (schedule.lends)
                1
            else
                schedule.one_of(&.{ 1, 200, 2000, std.math.maxInt(u32) }),
            .features_disabled = .initEmpty(),
            .operations_disabled = .initEmpty(),
            .posts = schedule.one_of(&.{ 2, 8, 1024 }),
        };
    }

    fn faults(schedule: *Schedule) simulated.Faults {
        if (schedule.chance(10)) return .{};
        return .{
            .enter_interrupted = schedule.permille(&.{ 0, 100 }),
            .enter_busy = schedule.permille(&.{ 0, 30 }),
            .enter_again = schedule.permille(&.{ 0, 30 }),
            .enter_partial = schedule.permille(&.{ 0, 200 }),
            .delayed = schedule.permille(&.{ 0, 100, 500, 900 }),
            .accept = schedule.permille(&.{ 0, 100 }),
            .multishot_ends = schedule.permille(&.{ 0, 100 }),
            .connect = schedule.permille(&.{ 0, 300 }),
            .broken = schedule.permille(&.{ 0, 4 }),
            .gives_up = schedule.permille(&.{ 0, 50 }),
            .zero_copy = schedule.permille(&.{ 0, 100, 300 }),
            .copied = schedule.permille(&.{ 0, 0, 20, 100 }),
            .notify_late = schedule.permille(&.{ 0, 500 }),
            .notify_stray = schedule.permille(&.{ 0, 100 }),
            .shutdown = schedule.permille(&.{ 0, 400 }),
            .close = schedule.permille(&.{ 0, 100 }),
            .cancel_already = schedule.permille(&.{ 0, 300 }),
            .cancel_late = schedule.permille(&.{ 0, 500 }),
            .socket = schedule.permille(&.{ 0, 30 }),
            .bind = schedule.permille(&.{ 0, 100 }),
            .listen = schedule.permille(&.{ 0, 100 }),
            .address = schedule.permille(&.{ 0, 30 }),
            .option = schedule.permille(&.{ 0, 30 }),
            .send_now = schedule.permille(&.{ 0, 400 }),
            .splice = schedule.permille(&.{ 0, 400 }),
            .pipe = schedule.permille(&.{ 0, 400 }),
        };
    }

    // Dice.

    pub fn chance(schedule: *Schedule, percent: u32) bool {
        return schedule.below(100) < percent;
    }

    pub fn below(schedule: *Schedule, limit: u32) u32 {
        // The high half of a product: faster than std's exact way, and even enough.
        return @intCast((schedule.prng.next() >> 32) * limit >> 32);
    }

    fn one_of(schedule: *Schedule, choices: []const u32) u32 {
        return choices[schedule.below(@intCast(choices.len))];
    }

    fn permille(schedule: *Schedule, choices: []const u16) u16 {
        return choices[schedule.below(@intCast(choices.len))];
    }

    // The run.

    pub fn run(schedule: *Schedule, events: u64) Error!void {
        posters.begin(schedule);
        // A flood has to last for the line to show that it moves.
        const most = if (schedule.peers_flood) events * 8 else events;
        while (schedule.kernel.events < most and !schedule.steps.is_enough()) {
            for (0..schedule.below(8)) |_| try user.act(schedule);
            try schedule.turn();
        }
        try schedule.rest();
        if (schedule.chance(25)) return schedule.tear_down();
        try schedule.end();
        schedule.engine.kernel.close();
        try schedule.expect_sound();
    }

    fn expect_sound(schedule: *Schedule) Error!void {
        if (schedule.kernel.violation) |message| {
            return schedule.verdict.violation("{s}", .{message});
        }
    }

    /// A turn as JavaScript makes it while it has nothing to ask for: it sleeps once a turn was
    /// empty and arming finds no work, and only a completion wakes it (I12).
    fn turn_if_awake(schedule: *Schedule) Error!void {
        schedule.kernel.go_on(); // whether or not anybody enters
        if (schedule.asleep) {
            if (!schedule.kernel.ready() and !bells.take_wake(schedule.kernel)) {
                try posters.act(schedule);
                return peer_side.act(schedule);
            }
            schedule.asleep = false;
            _ = schedule.engine.disarm();
        }
        const records = try schedule.turn_for(0);
        schedule.asleep = records == 0 and schedule.engine.arm() == 0;
    }

    fn turn(schedule: *Schedule) Error!void {
        _ = try schedule.turn_for(if (schedule.chance(50)) 0 else schedule.below(60));
    }

    fn turn_for(schedule: *Schedule, wait_ms: u32) Error!usize {
        if (!schedule.steps.begin_turn()) return 0;
        schedule.turns += 1;
        const count = schedule.engine.turn(wait_ms);
        if (count < 0 and !(count == errno.intr and wait_ms > 0)) {
            return schedule.verdict.violation("turn gave {d}", .{count});
        }
        try peer_side.meet(schedule);
        try shares.check(schedule);
        const records = schedule.engine.records[0..@intCast(@max(count, 0))];
        for (records, 0..) |*record, i| if (record.event == .open) {
            schedule.opened[i] = peer_side.behind(schedule, record.index);
        };
        for (records, 0..) |*record, i| {
            // Handlers ask for more while records are still to be read.
            if (schedule.chance(20)) try user.act(schedule);
            try user.on_record(schedule, record, schedule.opened[i]);
        }
        try user.expect_gone(schedule);
        try posters.act(schedule);
        try peer_side.act(schedule);
        try schedule.expect_sound();
        return records.len;
    }

    const turns_max = 20_000;

    fn rest(schedule: *Schedule) Error!void {
        schedule.resting = true;
        schedule.kernel.fate.faults = .{};
        try loans.give_back_all(schedule);
        sends.uncork_all(schedule);
        try schedule.pause();
        user.pause_all(schedule, false);
        schedule.asleep = false;
        for (0..turns_max) |_| {
            if (!user.is_waiting(schedule) and !posters.is_waiting(schedule)) return;
            try schedule.turn_if_awake();
        }
        const who = if (posters.is_waiting(schedule)) "post" else "refused writer";
        return schedule.verdict.violation("a {s} waits for ever", .{who});
    }

    /// Paused connections fall silent, whatever their peers send.
    fn pause(schedule: *Schedule) Error!void {
        schedule.pausing = true;
        defer schedule.pausing = false;
        user.pause_all(schedule, true);
        for (0..turns_max) |_| {
            if (user.all_silent(schedule)) break;
            try schedule.turn_if_awake();
        } else return schedule.verdict.violation("a paused connection still receives", .{});
        for (0..5) |_| try schedule.turn();
    }

    fn end(schedule: *Schedule) Error!void {
        schedule.ending = true;
        try user.end_all(schedule);
        schedule.engine.posts.shut();
        schedule.asleep = false;
        for (0..turns_max) |_| {
            if (schedule.is_over()) break;
            try schedule.turn_if_awake();
        }
        for (0..2) |_| try schedule.turn(); // the last records' buffers go back
        try posters.end(schedule);
        try schedule.expect_nothing_left();
    }

    /// What closing a ring does: no peer helps, and nobody reads the records.
    fn tear_down(schedule: *Schedule) Error!void {
        const held = teardown.cancel_everything(schedule.engine, 100_000);
        // Memory whose peer does not read stays the kernel's, with its operation, if it has one.
        const owed: u32 = @intCast(schedule.kernel.notifications.items.len);
        const orphans = schedule.engine.segments.claimed_count;
        if (held > 2 * orphans or orphans > owed) {
            return schedule.verdict.violation("torn down with {d} held", .{held});
        }
        try posters.end(schedule);
        schedule.engine.kernel.close();
        try schedule.expect_sound();
        try schedule.expect_none("after the teardown", &schedule.kernel_items());
    }

    fn is_over(schedule: *Schedule) bool {
        return schedule.engine.connections.claimed_count == 0 and
            schedule.engine.listeners.claimed_count == 0 and
            schedule.engine.operations.claimed_count == 0 and
            schedule.engine.segments.claimed_count == 0 and
            schedule.kernel.notifications.items.len == 0 and
            schedule.engine.pending_cancels == 0 and
            schedule.engine.deadlines.in_flight() == 0 and
            schedule.engine.posts.in_flight() == 0 and
            schedule.kernel.pending.items.len == 0 and !schedule.kernel.ready() and
            schedule.kernel.queued() == 0;
    }

    const Item = struct { []const u8, u64 };

    fn kernel_items(schedule: *Schedule) [6]Item {
        const kernel = schedule.kernel;
        const pipes = &schedule.engine.pipes;
        return .{
            .{ "pipes in use", pipes.count - pipes.idle_count },
            .{ "pending kernel operations", kernel.pending.items.len },
            .{ "staging blocks", schedule.engine.staging_pool.used },
            .{ "descriptors", kernel.network.open_descriptors() - 2 * pipes.idle_count },
            .{ "descriptors closed under an operation", kernel.network.closed_under_operation },
            .{ "uses of closed descriptors", kernel.network.bad_descriptors },
        };
    }

    fn expect_none(schedule: *Schedule, when: []const u8, items: []const Item) Error!void {
        for (items) |item| if (item[1] > 0) {
            return schedule.verdict.violation("left {s}: {d} {s}", .{ when, item[1], item[0] });
        };
    }

    fn expect_nothing_left(schedule: *Schedule) Error!void {
        const engine = schedule.engine;
        const kernel = schedule.kernel;
        const buffers = engine.buffers.count();
        const blocks = engine.blocks.count();
        try schedule.expect_none("at the end", &schedule.kernel_items());
        try schedule.expect_none("at the end", &.{
            .{ "connections", engine.connections.claimed_count },
            .{ "listeners", engine.listeners.claimed_count },
            .{ "operations", engine.operations.claimed_count },
            .{ "cancels", engine.pending_cancels },
            .{ "segments", engine.segments.claimed_count },
            .{ "blocks of memory", engine.transfers.used },
            .{ "receive buffers in use", buffers - engine.buffers.available() },
            .{ "receive buffers that the kernel lacks", engine.buffers.free -|
                kernel.provided.of(.stream).published },
            .{ "receive blocks in use", blocks - engine.blocks.available() },
            .{ "receive blocks that the kernel lacks", engine.blocks.free -|
                kernel.provided.of(.block).published },
            .{ "parked connections", engine.parked.count },
            .{ "deadlines", engine.deadlines.heap.count },
            .{ "connections that hold their share", engine.full_count },
            .{ "starved connections", engine.starved.count },
            .{ "marked connections", engine.dirty.count },
        });
        try sends.expect_over(schedule);
        for (schedule.all.items) |connection| if (connection.stage != .over) {
            return schedule.verdict.violation("left at the end: a connection that is {t}", .{
                connection.stage,
            });
        };
        for (&schedule.operations) |*operation| if (operation.pending) {
            return schedule.verdict.violation("an operation never completed", .{});
        };
        for (&schedule.listeners) |*listener| if (listener.open) {
            return schedule.verdict.violation("a listener never closed", .{});
        };
    }
};

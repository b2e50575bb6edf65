//! The engine: one ring's turn, and everything that a turn moves.
//!
//! A turn is begin → flush → enter → reap, in that order, for reasons given at each. JavaScript
//! makes one call for it and reads the records it wrote. The engine owns the tables and the pools
//! and is owned by one thread (I11). Steps 6, 8 and 10 of the straight line. It never waits on its
//! own, never calls back, and allocates nothing after `create`.

const std = @import("std");
const assert = std.debug.assert;
const abi = @import("abi.zig");
const seam = @import("kernel.zig");
const memory = @import("memory.zig");
const posts = @import("posts.zig");
const companion = @import("companion.zig");
const slots = @import("slots.zig");
const staging = @import("staging.zig");
const stats = @import("stats.zig");
const operation = @import("operation.zig");
const submission = @import("submission.zig");
const failure = @import("failure.zig");
const transfer = @import("transfer.zig");
const passing = @import("passing.zig");
const receiving = @import("receiving.zig");
const registration = @import("registration.zig");
const features = @import("features.zig");
const timers = @import("timers.zig");
const sleep = @import("sleep.zig");
const deadlines = @import("deadlines.zig");
const Connection = @import("connection.zig").Connection;
const Listener = @import("listen.zig").Listener;
const Segment = @import("segment.zig").Segment;
const Place = @import("send_chain.zig").Place;
const sending = @import("sending.zig");
const splicing = @import("splicing.zig");
const send_settling = @import("send_settling.zig");
const Datagrams = @import("datagrams.zig").Datagrams;
const proxied = @import("proxied.zig");
const Operation = operation.Operation;
const BufferRing = @import("buffer_ring.zig").BufferRing;
const faults = @import("testing/faults.zig");
const mutation = @import("testing/mutation.zig");
const errno = seam.errno;

pub const Engine = struct {
    kernel: seam.Kernel,
    features: features.Set,
    /// Connection slots below have a place among the kernel's registered files.
    registered_files: u32 = 0,
    /// A duplicate of the kernel's wake fd that lives as long as the memory: a deallocator on
    /// another thread may write to it while the ring is being closed.
    bell_fd: i32 = -1,
    ring_index: u32 = 0, // where `rings.zig` keeps this ring
    config: memory.Config,
    layout: memory.Layout,
    slab: memory.Mapping,
    private: memory.Mapping,
    control: *abi.Control,
    arguments: *abi.Arguments,
    records: []abi.Record,
    record_count: u32 = 0,
    connections: slots.Slots(Connection),
    listeners: slots.Slots(Listener),
    operations: slots.Slots(Operation),
    /// Memory in the send queues that is sent from where it is.
    segments: slots.Slots(Segment),
    datagrams: Datagrams = .{},
    proxied: proxied.Entries = .{},
    buffers: BufferRing,
    blocks: BufferRing,
    staging_pool: staging.Pool,
    high_water_mark: u32,
    deadlines: deadlines.Deadlines,
    timers: timers.Started = .{},
    /// Bytes from which on memory is sent without a copy.
    zero_copy_min: u32,
    transfers: transfer.Pool,
    settled: submission.Settled,
    counts: submission.Counts = .{},
    /// Something completed that may have used the wake fd up (`seam.Contract.arm`).
    wake_stale: bool = false,
    /// Kinds that are done by plain system calls: masked, or unknown to the ring.
    plain_kinds: memory.Kinds = .initEmpty(),
    registered_buffers: registration.Registration = .{},
    registered_user_files: registration.Registration = .{},
    /// Operations of the batch that is being put together; null when none is.
    batch: ?Batch = null,
    /// Mappings of buffer pools.
    mapped: ?*Mapped = null,
    /// The clock, asked once in each flush and each reap that has something to time.
    flush_ns: u64 = 0,
    reap_ns: u64 = 0,
    /// Slots whose state asks for a look at the next flush.
    dirty: slots.Queue(Connection, "dirty") = .{},
    dirty_listeners: slots.Queue(Listener, "dirty") = .{},
    dirty_operations: slots.Queue(Operation, "dirty") = .{},
    /// Segments whose owners are to be told of their end.
    finished: slots.Queue(Segment, "finished") = .{},
    /// Connections that wait for a receive buffer, for a staging block.
    parked: slots.Queue(Connection, "parked") = .{},
    starved: slots.Queue(Connection, "starved") = .{},
    laden: passing.Laden = .{},
    pipes: splicing.Pipes = .{},
    posts: posts.Posts = .{},
    companion: companion.Companion = .{},
    /// Connections stood in line for a receive buffer when the turn began.
    crowded: bool = false,
    /// Connections that hold their share of the receive buffers.
    full_count: u32 = 0,
    /// Listeners that wait for descriptors.
    backing_off: u32 = 0,
    /// Cancel requests whose CQEs are still to come.
    pending_cancels: u32 = 0,
    cqe_batch: [64]seam.Cqe = undefined,
    /// The latched fatal error, negative (I8).
    fatal: i32 = 0,
    counters: stats.Counters = .{},

    pub const Mapped = struct { next: ?*Mapped, size: usize };
    pub const Batch = struct { first: u32 = 0, last: u32 = 0, count: u32 = 0, sqes: u32 = 0 };

    // Life -------------------------------------------------------------------------------------

    /// Takes the kernel over, also on failure.
    pub fn create(
        kernel: seam.Kernel,
        kernel_features: features.Set,
        config: *const memory.Config,
    ) error{ OutOfMemory, BufferRingRefused }!*Engine {
        var opened = kernel;
        errdefer opened.close();
        const layout: memory.Layout = .of(config);
        const slab = try memory.map(layout.slab_size);
        errdefer memory.unmap(slab);
        const private = try memory.map(private_size(config));
        errdefer memory.unmap(private);
        const link_count = transfer.Pool.next_count();
        var bump: memory.Bump = .{ .memory = private };
        const engine = &bump.take(Engine, 1)[0];
        const records: [*]abi.Record = @ptrCast(@alignCast(slab.ptr + layout.records_offset));
        engine.* = .{
            .kernel = opened,
            .features = kernel_features,
            .config = config.*,
            .layout = layout,
            .slab = slab,
            .private = private,
            .control = @ptrCast(@alignCast(slab.ptr)),
            .records = records[0..abi.records_max],
            .connections = .init(bump.take(slots.Slots(Connection).Entry, config.connections)),
            .listeners = .init(bump.take(slots.Slots(Listener).Entry, config.listeners)),
            .operations = .init(bump.take(slots.Slots(Operation).Entry, config.operations)),
            .segments = .init(bump.take(slots.Slots(Segment).Entry, config.segments)),
            .buffers = .init(.shared(config, &layout), slab, &bump),
            .blocks = .init(.blocks(config, &layout), slab, &bump),
            .staging_pool = .init(
                slab[layout.staging_offset..][0 .. @as(usize, config.staging_blocks) *
                    staging.block_size],
                bump.take(u32, config.staging_blocks),
            ),
            .high_water_mark = config.high_water_mark,
            .deadlines = .init(config, &bump),
            .zero_copy_min = config.zero_copy_min,
            .arguments = @ptrCast(@alignCast(slab.ptr + layout.arguments_offset)),
            .transfers = try .init(bump.take(u32, link_count)),
            .settled = .{ .slots = bump.take(u32, abi.turn_cqes_max) },
        };
        errdefer engine.transfers.deinit();
        for ([_]*BufferRing{ &engine.buffers, &engine.blocks }) |ring| {
            if (ring.open(&engine.kernel, &bump) < 0) return error.BufferRingRefused;
        }
        if (engine.has(.registered_files)) registration.reserve(engine);
        const lends = engine.kernel.supports(.SEND_ZC) and engine.kernel.supports(.SENDMSG_ZC);
        if (!lends) engine.features.remove(.zero_copy_send);
        engine.plain_kinds = config.operations_disabled;
        return engine;
    }

    fn private_size(config: *const memory.Config) usize {
        const pages_of_alignment = 16 * memory.page_size;
        return @sizeOf(Engine) + pages_of_alignment +
            (transfer.Pool.next_count() + abi.turn_cqes_max) * @sizeOf(u32) +
            @as(usize, config.connections) * @sizeOf(slots.Slots(Connection).Entry) +
            deadlines.Deadlines.private_size(config) +
            @as(usize, config.listeners) * @sizeOf(slots.Slots(Listener).Entry) +
            @as(usize, config.operations) * @sizeOf(slots.Slots(Operation).Entry) +
            @as(usize, config.segments) * @sizeOf(slots.Slots(Segment).Entry) +
            BufferRing.private_size(config.receive_buffers) +
            BufferRing.private_size(config.receive_blocks) +
            @as(usize, config.staging_blocks) * @sizeOf(u32);
    }

    /// Frees the memory; the kernel is closed already. The engine is gone afterwards.
    pub fn destroy(engine: *Engine) void {
        const slab = engine.slab;
        const private = engine.private; // holds the engine itself
        engine.posts.close();
        if (engine.bell_fd >= 0) seam.linux.close(engine.bell_fd);
        engine.transfers.deinit();
        engine.datagrams.deinit();
        engine.proxied.deinit();
        while (engine.mapped) |mapped| {
            engine.mapped = mapped.next;
            const start: [*]align(std.heap.page_size_min) u8 = @ptrCast(@alignCast(mapped));
            memory.unmap(start[0..mapped.size]);
        }
        memory.unmap(slab);
        memory.unmap(private);
    }

    pub fn has(engine: *const Engine, feature: abi.Feature) bool {
        return engine.features.contains(feature);
    }

    // The turn ---------------------------------------------------------------------------------

    /// Rounds that one call makes while they yield no record: a re-arm alone needs a second enter.
    const rounds_max = 4;

    /// The number of records written, or the latched error.
    pub fn turn(engine: *Engine, wait_ms: u32) i32 {
        if (engine.fatal != 0) return engine.fatal;
        if (wait_ms > seam.wait_ms_max) return errno.inval;
        if (engine.batch != null) return errno.busy;
        engine.counters.turns += 1;
        engine.companion.waits = wait_ms > 0;
        engine.begin();
        var outcome: i32 = 0;
        for (0..rounds_max) |round| {
            engine.flush();
            const waits = wait_ms > 0 and round == 0 and engine.record_count == 0 and
                !engine.deadlines.due and !engine.posts.sleep(.waits);
            if (waits or engine.kernel.queued() > 0 or engine.kernel.ready()) {
                outcome = engine.enter(@intFromBool(waits), wait_ms);
            }
            engine.reap();
            engine.posts.collect(engine);
            engine.deadlines.expire(engine);
            if (outcome < 0) break;
            if (engine.record_count > 0 or !engine.has_work()) break;
        }
        engine.publish_control();
        if (mutation.is(.return_buffer_early)) receiving.give_back(engine);
        if (engine.record_count > 0) return @intCast(engine.record_count);
        if (engine.fatal != 0) return engine.fatal;
        return @min(outcome, 0); // an enter's success is the number that it submitted
    }

    /// Looks a while for completions when there is nothing else to do: what comes within it costs
    /// less than another turn of Bun's loop. About 15 ns a look.
    pub fn linger(engine: *Engine, looks: u32) void {
        if (looks == 0 or engine.has_work()) return;
        var left: u32 = @min(looks, looks_max);
        while (left > 0) : (left -|= engine.kernel.look_cost()) {
            if (engine.kernel.ready() or engine.posts.has_work()) return;
            std.atomic.spinLoopHint();
        }
    }

    const looks_max = 1000;

    /// First, because JavaScript has read the last turn's records by now: its slots and buffers are
    /// free, and the enter below can already use them.
    fn begin(engine: *Engine) void {
        engine.record_count = 0;
        engine.connections.recycle();
        engine.listeners.recycle();
        engine.settled.release(engine); // before its slots are anybody's again
        engine.operations.recycle();
        engine.segments.recycle();
        passing.drop_untaken(engine);
        receiving.give_back(engine);
        engine.datagrams.begin(engine);
        receiving.admit(engine);
        sending.feed(engine);
        engine.posts.begin(engine);
    }

    comptime {
        // A CQE makes one record, seldom two; the others in `begin` make their share (I9).
        const others = sending.turn_drains_max + deadlines.Deadlines.turn_max + posts.turn_max;
        assert(others + abi.turn_cqes_max <= abi.records_max);
    }

    /// Before the enter, so that one system call submits everything that the last round asked for.
    fn flush(engine: *Engine) void {
        engine.flush_ns = 0;
        timers.advance(engine);
        if (!engine.deadlines.advance(engine) or !engine.posts.advance(engine) or
            !engine.companion.advance(engine)) return;
        advance_marked(engine, &engine.dirty_operations, &engine.operations, submission.advance);
        advance_marked(engine, &engine.dirty_listeners, &engine.listeners, Listener.advance);
        advance_marked(engine, &engine.dirty, &engine.connections, Connection.advance);
        engine.datagrams.flush(engine);
    }

    pub fn advance_marked(engine: *Engine, queue: anytype, table: anytype, advance: anytype) void {
        if (engine.fatal != 0) return; // an entry would never be taken
        // Only those marked now: one that is marked again while it advances comes next turn.
        var left = queue.count;
        while (left > 0) : (left -= 1) {
            const index = queue.pop(table).?;
            if (!advance(table.at(index), engine, index)) {
                if (mutation.is(.lose_place)) {
                    queue.push(table, index);
                } else {
                    queue.push_front(table, index); // where it was: a batch keeps its order
                }
                if (engine.fatal != 0) failure.close_queued(engine);
                return; // the submission queue is full and the kernel takes no more (I8)
            }
        }
    }

    /// A submission entry. A full queue is handed to the kernel first; null means back-pressure.
    pub fn sqe(engine: *Engine) ?*seam.Sqe {
        const entry = engine.kernel.sqe() orelse full: {
            if (engine.hand_over() < 0) return null;
            break :full engine.kernel.sqe() orelse return null;
        };
        if (faults.present) faults.note(entry);
        engine.counters.sqes += 1;
        return entry;
    }

    /// Before one more operation is queued: at three quarters of the submission queue what waits
    /// is handed over. False if the kernel takes no more and the queue's bound is reached (I8).
    pub fn flush_early(engine: *Engine) bool {
        const waiting = engine.dirty_operations.count;
        if (engine.batch != null or waiting < engine.config.entries / 4 * 3) return true;
        engine.flush();
        if (engine.kernel.queued() > 0) _ = engine.hand_over();
        return engine.dirty_operations.count < engine.config.entries * 4;
    }

    /// True if so many SQEs can be had in one run.
    pub fn make_room(engine: *Engine, needed: u32) bool {
        if (engine.kernel.room() >= needed) return true;
        if (engine.hand_over() < 0) return false;
        return engine.kernel.room() >= needed;
    }

    /// Submits what is queued before the turn's own enter, if its completions have room: only a
    /// turn reaps, and in the kernel they would pile up without a bound (I9).
    fn hand_over(engine: *Engine) i32 {
        if (engine.kernel.cq_room() < engine.kernel.queued()) return 0;
        return engine.enter(0, 0);
    }

    pub fn flush_clock(engine: *Engine) u64 {
        if (engine.flush_ns == 0) engine.flush_ns = engine.kernel.now_ns();
        return engine.flush_ns;
    }

    pub fn reap_clock(engine: *Engine) u64 {
        if (engine.reap_ns == 0) engine.reap_ns = engine.kernel.now_ns();
        return engine.reap_ns;
    }

    /// ≥ 0, -EINTR of a wait, or the fatal error. Back-pressure is 0: what is queued stays queued.
    fn enter(engine: *Engine, min_complete: u32, wait_ms: u32) i32 {
        engine.counters.enters += 1;
        if (faults.present) faults.before_enter(&engine.kernel);
        const outcome = engine.kernel.enter(min_complete, wait_ms);
        if (outcome >= 0) return outcome;
        switch (outcome) {
            errno.busy, errno.again => return 0,
            errno.intr => return if (wait_ms > 0) errno.intr else 0,
            else => {
                failure.latch(engine, outcome);
                return outcome;
            },
        }
    }

    /// The head moves before anything is dispatched (I7): what a completion submits finds room.
    fn reap(engine: *Engine) void {
        var taken: u32 = 0;
        engine.reap_ns = 0;
        // Not on the stack, where each reap would fill it with a pattern first.
        const batch = &engine.cqe_batch;
        while (taken < abi.turn_cqes_max) {
            const run = engine.kernel.cqes();
            const count: u32 = @intCast(@min(run.len, batch.len, abi.turn_cqes_max - taken));
            if (count == 0) break;
            if (engine.record_count + 2 * count > engine.records.len) break;
            @memcpy(batch[0..count], run[0..count]);
            if (!mutation.is(.dispatch_first)) engine.kernel.advance(@intCast(count));
            const left = if (faults.present)
                faults.after_reap(&engine.kernel, batch[0..count])
            else
                count;
            for (batch[0..left]) |*cqe| operation.complete(engine, cqe);
            if (mutation.is(.dispatch_first)) engine.kernel.advance(@intCast(count));
            taken += @intCast(count);
        }
        engine.counters.cqes += taken;
        if (engine.finished.count > 0) send_settling.report(engine);
    }

    fn publish_control(engine: *Engine) void {
        engine.control.connections = engine.connections.claimed_count;
        engine.control.listeners = engine.listeners.claimed_count;
        engine.control.waiting = engine.parked.count + engine.full_count;
    }

    pub fn flush_only(engine: *Engine) i32 {
        if (engine.fatal != 0) return engine.fatal;
        if (engine.batch != null) return errno.busy;
        engine.flush();
        if (engine.kernel.queued() == 0) return 0;
        return @min(engine.hand_over(), 0);
    }

    const has_work = sleep.has_work;
    pub const arm = sleep.arm;
    pub const disarm = sleep.disarm;
    pub const wake = sleep.wake;

    // What completions call --------------------------------------------------------------------

    pub fn mark(engine: *Engine, index: u32) void {
        engine.dirty.push(&engine.connections, index);
    }

    pub fn mark_listener(engine: *Engine, index: u32) void {
        engine.dirty_listeners.push(&engine.listeners, index);
    }

    pub fn record(
        engine: *Engine,
        event: abi.Event,
        index: u32,
        result: i32,
        offset: u32,
        extra: u32,
    ) void {
        const generation = switch (event) {
            .completion => engine.operations.generation(index),
            .listener_closed => engine.listeners.generation(index),
            else => engine.connections.generation(index),
        };
        engine.records[engine.record_count] = .{
            .event = event,
            .index = index,
            .generation = generation,
            .result = result,
            .offset = offset,
            .extra = extra,
        };
        engine.record_count += 1;
    }

    /// A CQE without an operation: counted, otherwise ignored (I3).
    pub fn stale(engine: *Engine, _: *const seam.Cqe) void {
        engine.counters.cqes_stale += 1;
    }

    pub fn settle(engine: *Engine, user_data: slots.UserData, cqe: *const seam.Cqe) void {
        submission.settle(engine, user_data, cqe);
    }

    pub fn member_complete(
        engine: *Engine,
        user_data: slots.UserData,
        place: Place,
        cqe: *const seam.Cqe,
    ) void {
        send_settling.on_member(engine, user_data, place, cqe);
    }

    pub fn cancel_missed(engine: *Engine, user_data: slots.UserData) void {
        submission.cancel_missed(engine, user_data);
    }

    pub fn connection_gone(engine: *Engine, index: u32) void {
        engine.dirty.remove(&engine.connections, index);
        engine.connections.at(index).receiving.leave(engine);
        engine.parked.remove(&engine.connections, index);
        engine.starved.remove(&engine.connections, index);
        engine.deadlines.remove(engine, index);
        Listener.hasten(engine);
        if (!mutation.is(.lose_retirement)) engine.connections.retire(index);
    }
};

//! Every ring of the process: handles, owners, the end of a ring's memory.
//!
//! A ring belongs to the thread that opened it (I11). JavaScript names it by a handle: slot and
//! generation in a table that all threads share, so a stale or foreign handle is an errno and never
//! a pointer. Memory lives until the kernel is closed *and* the last ArrayBuffer over it is gone;
//! a terminated Worker runs no JavaScript, so its deallocators are also what closes its ring (I10).

const std = @import("std");
const assert = std.debug.assert;
const abi = @import("abi.zig");
const seam = @import("kernel.zig");
const memory = @import("memory.zig");
const features = @import("features.zig");
const receiving = @import("receiving.zig");
const registration = @import("registration.zig");
const teardown = @import("teardown.zig");
const Engine = @import("engine.zig").Engine;
const linux = seam.linux;
const errno = seam.errno;

/// free ──open──▶ open ──close──▶ closing ──last view──▶ free
///                  └─ deallocator on a foreign thread ─▶ orphaned ──later open──▶ free
/// After the last generation: spent instead of free.
const State = enum(u32) { free, claimed, open, closed, orphaned, spent };

const Ring = struct {
    /// Atomic: the word by which threads hand the entry to one another.
    state: State = .free,
    generation: u32 = 0,
    owner: usize = 0,
    owner_id: i32 = 0,
    engine: *Engine = undefined,
    /// ArrayBuffers over the slab: the slab's own and lent receive buffers. Atomic.
    views: u32 = 0,
    /// The memory of a view that is counted and that JavaScript is about to make; else 0. A thread
    /// that is terminated in between makes none, and no deallocator will ever tell. Atomic.
    crossing: usize = 0,
};

var table: [abi.rings_max]Ring = @splat(.{});
/// Holds 1 in this process and 0 in a forked child (I11). Null until the first open.
var fork_mark: ?*u8 = null;

const index_bits = std.math.log2_int(u32, abi.rings_max);
/// A handle stays below 2^31, so that it is a small integer in JavaScript and a positive result.
const generation_mask = (1 << (31 - index_bits)) - 1;

const Refused = error{ Stale, OtherThread, Forked };

pub fn of(handle: u32) Refused!*Engine {
    const ring = &table[handle % abi.rings_max];
    const mark = fork_mark orelse return error.Stale;
    if (@as(*volatile u8, mark).* != 1) return error.Forked;
    // Acquire: pairs with the release in `open`. Only the owner moves the state away from open.
    if (@atomicLoad(State, &ring.state, .acquire) != .open) return error.Stale;
    if (ring.generation != handle >> index_bits) return error.Stale;
    if (ring.owner != linux.thread_pointer()) return error.OtherThread;
    return ring.engine;
}

pub fn refuse(refused: Refused) i32 {
    return switch (refused) {
        error.Stale => errno.badf,
        error.OtherThread => errno.exist,
        error.Forked => errno.perm,
    };
}

// Opening --------------------------------------------------------------------------------------

pub fn open(options: *const abi.RingOptions, info: *abi.RingInfo) i32 {
    info.* = std.mem.zeroes(abi.RingInfo);
    // Read as a number first: JavaScript may have written anything.
    const asked: *const u32 = @ptrCast(&options.backend);
    const backend = std.enums.fromInt(abi.Backend, asked.*) orelse return errno.inval;
    if (backend == .simulated) return errno.notsup;
    const config = memory.Config.from(options) catch return errno.inval;
    if (is_forked()) return refuse_open(info, .setup_refused, errno.perm);
    if (!prepare_fork_mark()) return refuse_open(info, .out_of_memory, errno.nomem);
    _ = bury_orphans();
    const ring = claim() orelse return errno.mfile;
    const index = ring_index(ring);
    const opened = switch (features.open(&config, backend)) {
        .opened => |opened| opened,
        .refused => |refusal| {
            free(ring);
            return refuse_open(info, refusal.reason, refusal.code);
        },
    };
    const engine = Engine.create(opened.kernel, opened.features, &config) catch |failure| {
        free(ring);
        return switch (failure) {
            error.OutOfMemory => refuse_open(info, .out_of_memory, errno.nomem),
            error.BufferRingRefused => refuse_open(info, .buffer_ring_refused, errno.nomem),
        };
    };
    ring.generation += 1;
    ring.owner = linux.thread_pointer();
    ring.owner_id = linux.thread_id();
    ring.engine = engine;
    engine.ring_index = index;
    ring.views = 1; // the slab's
    ring.crossing = @intFromPtr(engine.slab.ptr);
    describe(engine, info);
    // Without a duplicate (EMFILE) a loan that ends elsewhere wakes nobody; the next turn sees it.
    engine.bell_fd = linux.duplicate(info.wake_fd);
    info.handle = ring.generation << index_bits | index;
    info.context = @floatFromInt(@intFromPtr(ring));
    info.backend = opened.backend;
    info.reason = opened.reason;
    info.reason_errno = @intCast(-opened.code);
    // Release: pairs with the acquire in `of`.
    @atomicStore(State, &ring.state, .open, .release);
    return 0;
}

fn describe(engine: *Engine, info: *abi.RingInfo) void {
    info.features = features.mask_of(engine.features);
    switch (engine.kernel) {
        .simulated => {},
        inline else => |*kernel| {
            info.sq_entries = kernel.*.sq_entries;
            info.cq_entries = kernel.*.cq_entries;
        },
    }
    info.wake_fd = engine.kernel.wake_fd();
    info.slab_address = @floatFromInt(@intFromPtr(engine.slab.ptr));
    info.slab_size = @floatFromInt(engine.slab.len);
    info.arguments_offset = engine.layout.arguments_offset;
    info.records_offset = engine.layout.records_offset;
    info.scratch_offset = engine.layout.scratch_offset;
    info.receive_offset = engine.layout.receive_offset;
    info.receive_buffer_size = engine.buffers.shape.size;
    info.receive_buffers = engine.buffers.count();
    info.high_water_mark = engine.high_water_mark;
}

fn refuse_open(info: *abi.RingInfo, reason: abi.Reason, code: i32) i32 {
    info.reason = reason;
    info.reason_errno = @intCast(-code);
    return if (code < 0) code else errno.notsup;
}

fn prepare_fork_mark() bool {
    if (@atomicLoad(?*u8, &fork_mark, .acquire) != null) return true;
    const page = linux.page_map(memory.page_size) catch return false;
    page[0] = 1;
    // Without MADV_WIPEONFORK (before 4.14) a child is not told apart; such kernels have no ring.
    _ = linux.page_wipe_on_fork(page);
    // Acquire/release: another thread may have been first, then its page serves and ours goes.
    if (@cmpxchgStrong(?*u8, &fork_mark, null, &page[0], .acq_rel, .acquire) != null) {
        linux.page_unmap(page);
    }
    return true;
}

/// A forked child owns nothing, and the rings' memory is not even mapped there.
pub fn is_forked() bool {
    const mark = fork_mark orelse return false;
    return @as(*volatile u8, mark).* != 1;
}

fn claim() ?*Ring {
    for (&table) |*ring| {
        // Acquire: pairs with the release in `free`.
        const seen = @cmpxchgStrong(State, &ring.state, .free, .claimed, .acquire, .monotonic);
        if (seen == null) return ring;
    }
    return null;
}

fn free(ring: *Ring) void {
    // A generation that began again would make old handles good once more (I3).
    const next: State = if (ring.generation == generation_mask) .spent else .free;
    // Release: the next owner sees the entry as we left it.
    @atomicStore(State, &ring.state, next, .release);
}

fn ring_index(ring: *const Ring) u32 {
    return @intCast((@intFromPtr(ring) - @intFromPtr(&table)) / @sizeOf(Ring));
}

// Closing --------------------------------------------------------------------------------------

/// Ends everything that is pending and closes the kernel's side. The number of operations that
/// the kernel still holds: then nothing is freed, ever (I1).
pub fn close(engine: *Engine, timeout_ms: u32) i32 {
    return shut(&table[engine.ring_index], timeout_ms);
}

fn shut(ring: *Ring, timeout_ms: u32) i32 {
    const held = teardown.cancel_everything(ring.engine, timeout_ms);
    // A view that outlives the ring keeps the memory; so does an operation that did not end.
    if (held > 0) _ = @atomicRmw(u32, &ring.views, .Add, 1, .monotonic);
    ring.engine.kernel.close();
    @atomicStore(State, &ring.state, .closed, .release);
    return @intCast(held);
}

// Views ----------------------------------------------------------------------------------------

/// JavaScript is about to make one more.
fn cross(ring: *Ring, address: usize) void {
    // Relaxed: the slab's own view is there, so the count cannot fall to 0 meanwhile.
    _ = @atomicRmw(u32, &ring.views, .Add, 1, .monotonic);
    // Release: pairs with the acquire of who buries it, when this thread is gone.
    @atomicStore(usize, &ring.crossing, address, .release);
}

/// The view that was counted last is there: its deallocator tells of its end.
pub fn view_made(engine: *Engine) i32 {
    @atomicStore(usize, &table[engine.ring_index].crossing, 0, .release);
    return 0;
}

/// A deallocator was called, for a view that nobody has said was made.
fn crossed(ring: *Ring, address: usize) void {
    _ = @cmpxchgStrong(usize, &ring.crossing, address, 0, .acq_rel, .monotonic);
}

/// One ArrayBuffer less; the last one frees the memory of a closed ring.
fn view_gone(ring: *Ring) void {
    // Acquire/release: whoever comes last sees what all the others did.
    if (@atomicRmw(u32, &ring.views, .Sub, 1, .acq_rel) != 1) return;
    if (@atomicLoad(State, &ring.state, .acquire) != .closed) return;
    ring.engine.destroy();
    free(ring);
}

/// Marks a delivered receive buffer as lent: one ArrayBuffer more, at this place of the slab.
pub fn buffer_lend(engine: *Engine, buffer: u32, offset: u32) i32 {
    const outcome = receiving.lend(engine, buffer);
    if (outcome < 0) return outcome;
    cross(&table[engine.ring_index], @intFromPtr(engine.slab.ptr) + offset);
    return 0;
}

pub fn buffer_released(bytes: ?*anyopaque, context: ?*anyopaque) void {
    if (is_forked()) return;
    const ring: *Ring = @ptrCast(@alignCast(context orelse return));
    const address = @intFromPtr(bytes orelse return);
    crossed(ring, address);
    receiving.release(ring.engine, address);
    // Somebody may wait for it while the loop sleeps; a wake too many costs little.
    const waiters = @atomicLoad(u32, &ring.engine.control.waiting, .seq_cst);
    if (waiters > 0) _ = ring.engine.wake();
    view_gone(ring);
}

/// How long a ring whose owner vanished may take to end its operations (I10).
const orphan_timeout_ms = 100;

pub fn slab_released(bytes: ?*anyopaque, context: ?*anyopaque) void {
    const ring: *Ring = @ptrCast(@alignCast(context orelse return));
    if (is_forked()) return;
    crossed(ring, @intFromPtr(bytes));
    if (@atomicLoad(State, &ring.state, .acquire) == .open) {
        // A thread pointer can be another thread's by now; its id tells them apart.
        const foreign = ring.owner != linux.thread_pointer() or
            ring.owner_id != linux.thread_id();
        if (foreign) {
            // Its owner may still be inside it: somebody buries it when that thread is gone. Nobody
            // posts to it meanwhile.
            ring.engine.posts.shut_foreign();
            @atomicStore(State, &ring.state, .orphaned, .release);
            return;
        }
        _ = shut(ring, orphan_timeout_ms);
    }
    view_gone(ring);
}

/// Rings whose slab was released on another thread, once their owner is gone: the kernel has ended
/// their operations with the thread, or does so when the fd is closed. The number of those whose
/// owner is still there.
pub fn bury_orphans() u32 {
    if (is_forked()) return 0;
    var left: u32 = 0;
    for (&table) |*ring| {
        forget_crossing(ring);
        if (@atomicLoad(State, &ring.state, .acquire) != .orphaned) continue;
        if (!linux.thread_is_gone(ring.owner_id)) {
            left += 1;
            continue;
        }
        // Acquire: two openers may come at once, one of them buries.
        const seen = @cmpxchgStrong(State, &ring.state, .orphaned, .claimed, .acquire, .monotonic);
        if (seen != null) continue;
        switch (ring.engine.kernel) {
            .uring => |*kernel| kernel.close_foreign(),
            .epoll => |kernel| kernel.close(),
            .simulated => {},
        }
        teardown.close_descriptors(ring.engine, null);
        ring.engine.posts.close();
        // The memory stays if anything was in flight: nobody can tell when the kernel is done.
        const held = teardown.in_flight(ring.engine);
        if (held > 0) _ = @atomicRmw(u32, &ring.views, .Add, 1, .monotonic);
        @atomicStore(State, &ring.state, .closed, .release);
        view_gone(ring);
    }
    return left;
}

/// A view that a thread has not lived to make: the ring is done with it, or with its slab's it is
/// an orphan.
fn forget_crossing(ring: *Ring) void {
    const address = @atomicLoad(usize, &ring.crossing, .acquire);
    if (address == 0) return;
    const state = @atomicLoad(State, &ring.state, .acquire);
    if (state != .open and state != .closed) return;
    // A living owner may end the engine at any moment: it is not looked at.
    if (!linux.thread_is_gone(ring.owner_id)) return;
    const of_slab = state == .open and address == @intFromPtr(ring.engine.slab.ptr);
    if (state == .open and !of_slab) return; // its deallocators are still running
    // Acquire: of two who come by, one does it.
    const seen = @cmpxchgStrong(usize, &ring.crossing, address, 0, .acq_rel, .monotonic);
    if (seen != null) return;
    if (!of_slab) return view_gone(ring);
    ring.engine.posts.shut_foreign();
    @atomicStore(State, &ring.state, .orphaned, .release);
}

// Memory of pools ------------------------------------------------------------------------------

/// It lives as long as the ring: an operation that names it may outlast the pool.
pub fn memory_map(engine: *Engine, size: f64) f64 {
    const bytes = registration.whole(size) orelse return 0;
    if (bytes == 0 or bytes > 1 << 34) return 0;
    const mapping = memory.map(bytes + memory.page_size) catch return 0;
    // The first page holds the link to the next mapping, the pages behind it are the user's.
    const header: *Engine.Mapped = @ptrCast(mapping.ptr);
    header.* = .{ .next = engine.mapped, .size = mapping.len };
    engine.mapped = header;
    return @floatFromInt(@intFromPtr(mapping.ptr) + memory.page_size);
}

pub fn memory_view(engine: *Engine, address: f64) i32 {
    const bytes = registration.whole(address) orelse return errno.inval;
    cross(&table[engine.ring_index], bytes);
    return 0;
}

pub fn memory_released(bytes: ?*anyopaque, context: ?*anyopaque) void {
    if (is_forked()) return;
    const ring: *Ring = @ptrCast(@alignCast(context orelse return));
    crossed(ring, @intFromPtr(bytes));
    view_gone(ring);
}

// Panic ----------------------------------------------------------------------------------------

/// One line, then abort: an assertion is our own bug, and going on would lose bytes.
pub const panic = std.debug.FullPanic(struct {
    fn fail(message: []const u8, address: ?usize) noreturn {
        _ = address;
        linux.stderr_write("bun-uring: internal error: ");
        linux.stderr_write(message);
        linux.stderr_write("\n");
        linux.abort();
    }
}.fail);

// Tests ----------------------------------------------------------------------------------------

const Simulated = @import("kernel/simulated.zig").Simulated;

/// A ring on a simulated kernel, in the state in which `open` leaves one.
fn open_simulated(kernel: *Simulated) !*Ring {
    const ring = claim().?;
    ring.engine = try Engine.create(.{ .simulated = kernel }, features.Set.initEmpty(), &.{
        .entries = 8,
        .cq_entries = 16,
        .receive_buffers = 8,
        .receive_buffer_size = 64,
        .connections = 1,
        .listeners = 1,
        .operations = 4,
        .staging_blocks = 1,
        .high_water_mark = 4096,
        .features_disabled = .initEmpty(),
        .operations_disabled = .initEmpty(),
    });
    ring.engine.ring_index = ring_index(ring);
    ring.views = 1;
    ring.state = .open;
    return ring;
}

test "an entry whose generations are used up leaves service" {
    const ring = claim().?;
    ring.generation = generation_mask;
    free(ring);
    const next = claim().?;
    free(next);
    try std.testing.expect(next != ring);
    ring.* = .{}; // for the other tests
}

test "the last view of a closed ring frees its memory, unless the kernel still holds some" {
    const peers = @import("kernel/simulated.zig").peers;
    const calls = @import("calls.zig");
    for ([_]bool{ false, true }) |held| {
        const kernel = try Simulated.create(std.testing.allocator, .{ .seed = 1 });
        defer kernel.destroy();
        const ring = try open_simulated(kernel);
        const engine = ring.engine;
        const pipe = kernel.network.pipe().?;
        if (held) {
            engine.arguments.* = std.mem.zeroes(abi.Arguments);
            engine.arguments.fd = pipe.fd;
            engine.arguments.offset = -1;
            engine.arguments.timeout_ms = -1;
            engine.arguments.length = 5;
            const read = @intFromEnum(abi.OperationKind.read);
            try std.testing.expectEqual(0, calls.start(engine, read, null, 0));
            try std.testing.expectEqual(0, engine.turn(0));
        }
        try std.testing.expectEqual(@as(i32, @intFromBool(held)), shut(ring, 0));
        view_gone(ring);
        try std.testing.expectEqual(if (held) State.closed else State.free, ring.state);
        if (!held) continue;
        // A late byte still has its place.
        try std.testing.expectEqual(5, peers.send(&kernel.network, pipe.peer, "later"));
        kernel.go_on();
        try std.testing.expectEqualStrings("later"[0..1], engine.operations.at(0).output()[0..1]);
        engine.destroy();
        free(ring);
    }
}

/// The id of a thread that is no more.
fn gone_thread() !i32 {
    const Short = struct {
        fn live(id: *i32) void {
            id.* = linux.thread_id();
        }
    };
    var id: i32 = 0;
    const thread = try std.Thread.spawn(.{}, Short.live, .{&id});
    thread.join();
    // It may live a moment longer than its function.
    for (0..100_000) |_| {
        if (linux.thread_is_gone(id)) return id;
        std.Thread.yield() catch continue;
    }
    return error.Alive;
}

test "a thread that dies before it has made a view leaves no memory behind" {
    const Place = enum { slab, lent };
    for ([_]Place{ .slab, .lent }) |place| for ([_]bool{ true, false }) |gone| {
        const kernel = try Simulated.create(std.testing.allocator, .{ .seed = 1 });
        defer kernel.destroy();
        const ring = try open_simulated(kernel);
        ring.owner_id = if (gone) try gone_thread() else linux.thread_id();
        const slab = @intFromPtr(ring.engine.slab.ptr);
        ring.crossing = slab;
        if (place == .lent) {
            cross(ring, slab + 64);
            _ = shut(ring, 0); // by the deallocator of the slab's view
            view_gone(ring);
        }
        _ = bury_orphans();
        const left: State = if (place == .slab) .open else .closed;
        try std.testing.expectEqual(if (gone) State.free else left, ring.state);
        if (gone) continue;
        ring.engine.destroy();
        ring.crossing = 0;
        free(ring);
    };
}

test "a view that was made, or whose deallocator has told, is not waited for" {
    const kernel = try Simulated.create(std.testing.allocator, .{ .seed = 1 });
    defer kernel.destroy();
    const ring = try open_simulated(kernel);
    ring.owner_id = try gone_thread();
    cross(ring, 4096);
    _ = view_made(ring.engine);
    cross(ring, 8192);
    memory_released(@ptrFromInt(8192), ring); // the garbage collector was fast
    try std.testing.expectEqual(2, ring.views);
    _ = shut(ring, 0);
    view_gone(ring); // the slab's
    _ = bury_orphans();
    try std.testing.expectEqual(State.closed, ring.state); // one is still somewhere
    memory_released(@ptrFromInt(4096), ring);
    try std.testing.expectEqual(State.free, ring.state);
}

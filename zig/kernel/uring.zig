//! The real ring: io_uring by raw system calls, no library between.
//!
//! Owns the ring fd, its mappings, the registered eventfd and the provided-buffer ring's tail.
//! Memory order: the kernel's side of every shared word is named at each atomic. Step 7 of the
//! straight line; called only through `kernel.zig`. It never decides which features to use: that is
//! `features.zig`, which passes them in.

const std = @import("std");
const linux = std.os.linux;
const assert = std.debug.assert;
const abi = @import("../abi.zig");
const system = @import("linux.zig");
const seam = @import("../kernel.zig");
const multicast = @import("multicast.zig");
const opcodes = @import("opcodes.zig");
const ProvidedRing = @import("provided_ring.zig").ProvidedRing;
const pipe = @import("pipe.zig");
const socket_call = @import("socket_call.zig");
const socket_option = @import("socket_option.zig");
const SocketAddress = @import("address.zig").SocketAddress;
const errno = system.errno;

pub const Config = struct {
    entries: u32,
    cq_entries: u32,
    features: std.EnumSet(abi.Feature),
};

pub const Uring = struct {
    fd: i32,
    /// What `enter` names: the registered index, or the fd itself.
    enter_fd: i32,
    enter_flags: u32,
    event_fd: i32,
    ring_memory: system.Mapping,
    sqe_memory: system.Mapping,
    sq_head: *u32,
    sq_tail: *u32,
    sq_flags: *u32,
    sq_mask: u32,
    sq_entries: u32,
    sqes: [*]Sqe,
    /// Entries handed out; the kernel sees them when `enter` stores this to `sq_tail`.
    sq_tail_local: u32,
    cq_head: *u32,
    cq_tail: *u32,
    cq_flags: *u32,
    /// Enters that found completions outside of the queue.
    overflows: u32,
    cq_mask: u32,
    cq_entries: u32,
    cqe_array: [*]Cqe,
    opcodes: opcodes.Set,
    provided: std.EnumArray(seam.BufferGroup, ProvidedRing),

    const Sqe = system.Sqe;
    const Cqe = system.Cqe;

    /// Sets a ring up with exactly these features; the negative errno of what was refused.
    pub fn open(config: Config) union(enum) { ring: Uring, refused: i32 } {
        assert(std.math.isPowerOfTwo(config.entries));
        var params = std.mem.zeroes(system.Params);
        params.flags = setup_flags(config.features) | opcodes.setup_flags() |
            linux.IORING_SETUP_CQSIZE | linux.IORING_SETUP_CLAMP;
        params.cq_entries = config.cq_entries;
        const fd = system.result(linux.io_uring_setup(config.entries, &params));
        if (fd < 0) return .{ .refused = fd };
        // The kernel keeps completions that overflow, and both rings lie in one mapping, since 5.5.
        const needed = linux.IORING_FEAT_SINGLE_MMAP | linux.IORING_FEAT_NODROP |
            linux.IORING_FEAT_EXT_ARG;
        if (params.features & needed != needed) {
            system.close(fd);
            return .{ .refused = errno.nosys };
        }
        var ring = map(fd, &params, config.features) catch {
            system.close(fd);
            return .{ .refused = errno.nomem };
        };
        const restricted = opcodes.restrict(fd);
        if (restricted < 0) return ring.abandon(restricted);
        ring.event_fd = system.eventfd();
        if (ring.event_fd < 0) return ring.abandon(ring.event_fd);
        const registered = ring.register(.REGISTER_EVENTFD, &ring.event_fd, 1);
        if (registered < 0) return ring.abandon(registered);
        ring.disarm();
        if (config.features.contains(.registered_ring_fd)) ring.register_ring_fd();
        ring.opcodes = opcodes.known(fd);
        return .{ .ring = ring };
    }

    fn abandon(ring: *Uring, refusal: i32) @TypeOf(open(undefined)) {
        ring.close();
        return .{ .refused = refusal };
    }

    fn setup_flags(features: std.EnumSet(abi.Feature)) u32 {
        var flags: u32 = 0;
        var iterator = features.iterator();
        while (iterator.next()) |feature| flags |= switch (feature) {
            .single_issuer => linux.IORING_SETUP_SINGLE_ISSUER,
            .defer_taskrun => linux.IORING_SETUP_DEFER_TASKRUN,
            .taskrun_flag => linux.IORING_SETUP_TASKRUN_FLAG,
            .coop_taskrun => linux.IORING_SETUP_COOP_TASKRUN,
            .submit_all => linux.IORING_SETUP_SUBMIT_ALL,
            .no_sqarray => linux.IORING_SETUP_NO_SQARRAY,
            else => 0, // not of the set-up
        };
        return flags;
    }

    fn map(fd: i32, params: *const system.Params, features: std.EnumSet(abi.Feature)) !Uring {
        const sq = params.sq_off;
        const cq = params.cq_off;
        const cq_end = cq.cqes + params.cq_entries * @sizeOf(Cqe);
        const sq_end = if (features.contains(.no_sqarray))
            cq_end
        else
            sq.array + params.sq_entries * @sizeOf(u32);
        const ring_memory = try system.ring_map(fd, linux.IORING_OFF_SQ_RING, @max(cq_end, sq_end));
        errdefer system.page_unmap(ring_memory);
        const sqe_memory = try system.ring_map(
            fd,
            linux.IORING_OFF_SQES,
            params.sq_entries * @sizeOf(Sqe),
        );
        // A forked child must not submit from the parent's ring (I11).
        system.page_keep_from_fork(ring_memory);
        system.page_keep_from_fork(sqe_memory);
        if (!features.contains(.no_sqarray)) {
            // Identity: entry i of the queue is always sqes[i], so the array is written once.
            const array = word_array(ring_memory, sq.array);
            for (0..params.sq_entries) |i| array[i] = @intCast(i);
        }
        return .{
            .fd = fd,
            .enter_fd = fd,
            .enter_flags = 0,
            .event_fd = -1,
            .ring_memory = ring_memory,
            .sqe_memory = sqe_memory,
            .sq_head = word(ring_memory, sq.head),
            .sq_tail = word(ring_memory, sq.tail),
            .sq_flags = word(ring_memory, sq.flags),
            .sq_mask = word(ring_memory, sq.ring_mask).*,
            .sq_entries = params.sq_entries,
            .sqes = @ptrCast(sqe_memory.ptr),
            .sq_tail_local = word(ring_memory, sq.tail).*,
            .cq_head = word(ring_memory, cq.head),
            .cq_tail = word(ring_memory, cq.tail),
            .cq_flags = word(ring_memory, cq.flags),
            .overflows = 0,
            .cq_mask = word(ring_memory, cq.ring_mask).*,
            .cq_entries = params.cq_entries,
            .cqe_array = @ptrCast(@alignCast(ring_memory.ptr + cq.cqes)),
            .opcodes = .initFull(),
            .provided = .initFill(.{}),
        };
    }

    fn word(memory: []u8, offset: u32) *u32 {
        return @ptrCast(@alignCast(memory[offset..].ptr));
    }

    fn word_array(memory: []u8, offset: u32) [*]u32 {
        return @ptrCast(@alignCast(memory[offset..].ptr));
    }

    fn register(ring: *Uring, opcode: system.Register, argument: ?*const anyopaque, n: u32) i32 {
        return system.result(linux.io_uring_register(ring.fd, opcode, argument, n));
    }

    /// Saves the fd lookup of each enter; a refusal leaves the plain fd in use.
    fn register_ring_fd(ring: *Uring) void {
        var update: linux.io_uring_rsrc_update = .{
            .offset = std.math.maxInt(u32), // any free index
            .resv = 0,
            .data = @intCast(ring.fd),
        };
        if (ring.register(.REGISTER_RING_FDS, &update, 1) != 1) return;
        ring.enter_fd = @intCast(update.offset);
        ring.enter_flags = linux.IORING_ENTER_REGISTERED_RING;
    }

    pub fn has_registered_fd(ring: *const Uring) bool {
        return ring.enter_flags & linux.IORING_ENTER_REGISTERED_RING != 0;
    }

    /// Must run on the owner's thread: a registered index belongs to the task, and as long as it
    /// stands the ring lives on though its fd is closed (I10).
    pub fn close(ring: *Uring) void {
        if (ring.has_registered_fd()) {
            var update: linux.io_uring_rsrc_update = .{
                .offset = @intCast(ring.enter_fd),
                .resv = 0,
                .data = 0,
            };
            _ = ring.register(.UNREGISTER_RING_FDS, &update, 1);
        }
        ring.close_foreign();
    }

    /// The same from another thread, once the owner is gone and its registered indices with it.
    pub fn close_foreign(ring: *Uring) void {
        system.page_unmap(ring.ring_memory);
        system.page_unmap(ring.sqe_memory);
        system.close(ring.fd);
        if (ring.event_fd >= 0) system.close(ring.event_fd);
        ring.* = undefined;
    }

    pub fn sqe(ring: *Uring) ?*Sqe {
        // Acquire: the kernel releases the head after it has read the entries before it.
        const head = @atomicLoad(u32, ring.sq_head, .acquire);
        if (ring.sq_tail_local -% head >= ring.sq_entries) return null;
        const entry = &ring.sqes[ring.sq_tail_local & ring.sq_mask];
        ring.sq_tail_local +%= 1;
        entry.* = std.mem.zeroes(Sqe);
        return entry;
    }

    pub fn take_back(ring: *Uring) ?*const Sqe {
        if (ring.queued() == 0) return null;
        ring.sq_tail_local -%= 1;
        // Nobody enters meanwhile: the kernel has no reason to look at it.
        @atomicStore(u32, ring.sq_tail, ring.sq_tail_local, .release);
        return &ring.sqes[ring.sq_tail_local & ring.sq_mask];
    }

    pub fn queued(ring: *const Uring) u32 {
        return ring.sq_tail_local -% @atomicLoad(u32, ring.sq_head, .acquire);
    }

    pub fn room(ring: *const Uring) u32 {
        return ring.sq_entries - ring.queued();
    }

    pub fn enter(ring: *Uring, min_complete: u32, wait_ms: u32) i32 {
        // Release: pairs with the kernel's acquire of the tail; the entries must be seen before it.
        @atomicStore(u32, ring.sq_tail, ring.sq_tail_local, .release);
        const waits = min_complete > 0 and wait_ms > 0;
        const timespec: system.Timespec = .{
            .sec = wait_ms / 1000,
            .nsec = @as(i64, wait_ms % 1000) * std.time.ns_per_ms,
        };
        const argument: linux.io_uring_getevents_arg = .{
            .sigmask = 0,
            .sigmask_sz = 0,
            .pad = 0,
            .ts = @intFromPtr(&timespec),
        };
        // The kernel's own counter tells of those that are lost, and none are (NODROP).
        const outside = @atomicLoad(u32, ring.sq_flags, .monotonic) & linux.IORING_SQ_CQ_OVERFLOW;
        if (outside != 0) ring.overflows +%= 1;
        // With DEFER_TASKRUN completions appear only in an enter that asks for events.
        var flags = ring.enter_flags | linux.IORING_ENTER_GETEVENTS;
        if (waits) flags |= linux.IORING_ENTER_EXT_ARG;
        var tries: u32 = 0;
        while (true) : (tries += 1) {
            const outcome = system.result(linux.syscall6(
                .io_uring_enter,
                @as(usize, @bitCast(@as(isize, ring.enter_fd))),
                ring.queued(),
                if (waits) min_complete else 0,
                flags,
                if (waits) @intFromPtr(&argument) else 0,
                if (waits) @sizeOf(linux.io_uring_getevents_arg) else 0,
            ));
            if (outcome == errno.time) return 0;
            // An enter that does not wait is interrupted only by a burst of signals (I8).
            if (outcome == errno.intr and !waits and tries < interrupted_tries_max) continue;
            return outcome;
        }
    }

    const interrupted_tries_max = 16;

    pub fn ready(ring: *const Uring) bool {
        const pending = linux.IORING_SQ_TASKRUN | linux.IORING_SQ_CQ_OVERFLOW;
        // Acquire on the tail: pairs with the kernel's release after it has written the entries.
        // Relaxed on the flags: an enter follows, which orders everything.
        return @atomicLoad(u32, ring.cq_tail, .acquire) != ring.cq_head.* or
            @atomicLoad(u32, ring.sq_flags, .monotonic) & pending != 0;
    }

    pub fn look_cost(_: *const Uring) u32 {
        return 1;
    }

    pub fn cqes(ring: *Uring) []const Cqe {
        const head = ring.cq_head.*; // only we write it
        const waiting = @atomicLoad(u32, ring.cq_tail, .acquire) -% head;
        const start = head & ring.cq_mask;
        return ring.cqe_array[start .. start + @min(waiting, ring.cq_entries - start)];
    }

    pub fn advance(ring: *Uring, count: u32) void {
        // Release: the kernel may overwrite the entries once it sees the head.
        @atomicStore(u32, ring.cq_head, ring.cq_head.* +% count, .release);
    }

    pub fn cq_queued(ring: *const Uring) u32 {
        return @atomicLoad(u32, ring.cq_tail, .acquire) -% ring.cq_head.*;
    }

    pub fn cq_room(ring: *const Uring) u32 {
        return ring.cq_entries - ring.cq_queued();
    }

    pub fn overflowed(ring: *const Uring) u32 {
        return ring.overflows;
    }

    pub fn buffer_ring_register(
        ring: *Uring,
        group: seam.BufferGroup,
        memory: []align(4096) u8,
        entries: u32,
    ) i32 {
        const registration = ProvidedRing.registration(group, memory, entries);
        const outcome = ring.register(.REGISTER_PBUF_RING, &registration, 1);
        if (outcome >= 0) ring.provided.set(group, .over(memory, entries));
        return @min(outcome, 0);
    }

    pub fn buffer_ring_add(ring: *Uring, group: seam.BufferGroup, bytes: []u8, id: u16) void {
        ring.provided.getPtr(group).add(bytes, id);
    }

    pub fn buffer_ring_publish(ring: *Uring, group: seam.BufferGroup) void {
        ring.provided.getPtr(group).publish();
    }

    pub fn files_register(ring: *Uring, count: u32) i32 {
        const registration: linux.io_uring_rsrc_register = .{
            .nr = count,
            .flags = linux.IORING_RSRC_REGISTER_SPARSE,
            .resv2 = 0,
            .data = 0,
            .tags = 0,
        };
        const size = @sizeOf(linux.io_uring_rsrc_register);
        return ring.register(.REGISTER_FILES2, &registration, size);
    }

    pub fn file_set(ring: *Uring, place: u32, fd: i32) i32 {
        const update: linux.io_uring_rsrc_update = .{
            .offset = place,
            .resv = 0,
            .data = @intFromPtr(&fd),
        };
        return @min(ring.register(.REGISTER_FILES_UPDATE, &update, 1), 0);
    }

    pub fn buffers_register(ring: *Uring, count: u32) i32 {
        const registration: linux.io_uring_rsrc_register = .{
            .nr = count,
            .flags = linux.IORING_RSRC_REGISTER_SPARSE,
            .resv2 = 0,
            .data = 0,
            .tags = 0,
        };
        const size = @sizeOf(linux.io_uring_rsrc_register);
        return ring.register(.REGISTER_BUFFERS2, &registration, size);
    }

    pub fn buffer_set(ring: *Uring, place: u32, bytes: []u8) i32 {
        const part: system.Iovec = .{ .base = bytes.ptr, .len = bytes.len };
        const update: linux.io_uring_rsrc_update2 = .{
            .offset = place,
            .resv = 0,
            .data = @intFromPtr(&part),
            .tags = 0,
            .nr = 1,
            .resv2 = 0,
        };
        const size = @sizeOf(linux.io_uring_rsrc_update2);
        return @min(ring.register(.REGISTER_BUFFERS_UPDATE, &update, size), 0);
    }

    pub fn buffers_unregister(ring: *Uring) void {
        _ = ring.register(.UNREGISTER_BUFFERS, null, 0);
    }

    pub fn supports(ring: *const Uring, opcode: system.Op) bool {
        return ring.opcodes.isSet(@intFromEnum(opcode));
    }

    pub fn plain(_: *Uring, entry: *const Sqe) i32 {
        return @import("plain.zig").perform_ready(entry);
    }

    pub fn arm(ring: *Uring, renew: bool) bool {
        // What completes inside of a write to an eventfd is signalled by a deferred call that one
        // registration gets once (the bit that says it is on its way is never cleared: Linux 6.18).
        if (renew and ring.renew_event_fd() < 0) return true; // nobody would be woken
        @atomicStore(u32, ring.cq_flags, 0, .monotonic);
        // Full barrier: the store above must be visible before the checks below are read, else a
        // completion could miss both (the kernel reads cq_flags after an atomic on its own list).
        system.full_fence();
        return ring.ready();
    }

    fn renew_event_fd(ring: *Uring) i32 {
        _ = ring.register(.UNREGISTER_EVENTFD, null, 0); // ENXIO after a failure of the next line
        return ring.register(.REGISTER_EVENTFD, &ring.event_fd, 1);
    }

    pub fn disarm(ring: *Uring) void {
        // Only a hint to the kernel: a signal that slips through is a spurious wake-up.
        @atomicStore(u32, ring.cq_flags, linux.IORING_CQ_EVENTFD_DISABLED, .monotonic);
    }

    pub fn wake_fd(ring: *const Uring) i32 {
        return ring.event_fd;
    }

    pub fn bell_open(ring: *Uring, by: seam.Bell.By, user_data: u64) seam.Bell.Opened {
        return seam.Bell.open(by, ring.event_fd, ring.fd, user_data);
    }

    pub fn now_ns(_: *const Uring) u64 {
        return system.now_ns();
    }

    /// The ring holds the file of each operation itself.
    pub fn own(_: *Uring, _: i32) void {}

    pub fn socket(_: *Uring, target: *const SocketAddress) i32 {
        const kind = linux.SOCK.STREAM | linux.SOCK.CLOEXEC;
        // Blocking: the ring arms a poll itself, and waits in a worker where it cannot.
        return system.result(linux.socket(target.family(), kind, 0));
    }

    pub fn bind(_: *Uring, fd: i32, target: *const SocketAddress) i32 {
        return socket_call.bind(fd, target);
    }

    pub fn listen(_: *Uring, fd: i32, backlog: u32) i32 {
        return socket_call.listen(fd, backlog);
    }

    pub fn shut(_: *Uring, fd: i32, side: seam.Side) void {
        socket_call.shut(fd, side);
    }

    pub fn address(_: *Uring, fd: i32, end: seam.End, out: *SocketAddress) i32 {
        return socket_call.address(fd, end, out);
    }

    pub fn set_option(_: *Uring, fd: i32, option: seam.Option, value: u32) i32 {
        return socket_option.set(fd, option, value);
    }

    pub fn get_option(_: *Uring, fd: i32, option: seam.Option) i32 {
        return socket_option.get(fd, option);
    }

    pub fn adopt(_: *Uring, fd: i32) i32 {
        return socket_option.adopt(fd);
    }

    pub fn membership(_: *Uring, fd: i32, change: *const seam.Membership) i32 {
        return multicast.change(fd, change);
    }

    pub fn send_now(_: *Uring, fd: i32, bytes: []const u8) i32 {
        return socket_call.send_now(fd, bytes);
    }

    pub const pipe_open = pipe.Calls(Uring).pipe_open;
    pub const pipe_fill = pipe.Calls(Uring).pipe_fill;
    pub const pipe_drain = pipe.Calls(Uring).pipe_drain;

    pub fn close_fd(_: *Uring, fd: i32) void {
        system.close(fd);
    }

    pub fn duplicate(_: *Uring, fd: i32) i32 {
        return system.duplicate(fd);
    }

    pub fn is_open(_: *Uring, fd: i32) bool {
        return socket_call.is_open(fd);
    }
};

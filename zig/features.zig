//! What the kernel can do: the ladder of ring flags, the functional probe, masks and the reason.
//!
//! It probes by doing and compares no versions. Refusals by policy or age mean the epoll twin, with
//! a reason that TypeScript turns into a sentence; shortage means smaller, then an error. A masked
//! feature is treated as refused. Called once per ring, before anything else.

const std = @import("std");
const assert = std.debug.assert;
const abi = @import("abi.zig");
const seam = @import("kernel.zig");
const memory = @import("memory.zig");
const opcodes = @import("kernel/opcodes.zig");
const uring = @import("kernel/uring.zig");
const slots = @import("slots.zig");
const socket = @import("operation/connection.zig");
const linux = seam.linux;
const errno = seam.errno;
const Uring = uring.Uring;
const Epoll = @import("kernel/epoll.zig").Epoll;
pub const Set = std.EnumSet(abi.Feature);

/// Bits at the features' own numbers; the set's are dense.
pub fn mask_of(set: Set) u32 {
    var mask: u32 = 0;
    var iterator = set.iterator();
    while (iterator.next()) |feature| mask |= @as(u32, 1) << @intCast(@intFromEnum(feature));
    return mask;
}

pub const Refusal = struct { reason: abi.Reason, code: i32 };
/// A kernel, what it offers, and why it is this one: the code is that of the refused ring, or 0.
pub const Opened = struct {
    kernel: seam.Kernel,
    backend: abi.Backend,
    features: Set,
    reason: abi.Reason,
    code: i32,
};
pub const Outcome = union(enum) { opened: Opened, refused: Refusal };
const Rung = union(enum) { ring: struct { kernel: Uring, features: Set }, refused: Refusal };

/// Best first; a rung that the kernel refuses with -EINVAL leads to the next (io_uring_setup(2)).
const ladder = [_]Set{
    // 6.6: completions run when we ask for them, and the submission array is gone.
    .initMany(&.{ .single_issuer, .defer_taskrun, .taskrun_flag, .submit_all, .no_sqarray }),
    // 6.1
    .initMany(&.{ .single_issuer, .defer_taskrun, .taskrun_flag, .submit_all }),
    // 5.19: task work waits for the next system call instead of interrupting.
    .initMany(&.{ .coop_taskrun, .taskrun_flag, .submit_all }),
    // 5.18
    .initMany(&.{.submit_all}),
    .initEmpty(),
};

/// What was asked for; `none` asks for the ring, and for its twin where the ring is refused.
pub fn open(config: *const memory.Config, asked: abi.Backend) Outcome {
    assert(asked != .simulated);
    const refusal: Refusal = switch (asked) {
        .epoll => .{ .reason = .requested, .code = 0 },
        else => switch (open_ring(config)) {
            .ring => |ring| return .{ .opened = .{
                .kernel = .{ .uring = ring.kernel },
                .backend = .uring,
                .features = ring.features,
                .reason = if (asked == .none) .probed else .requested,
                .code = 0,
            } },
            .refused => |refusal| refusal,
        },
    };
    if (asked == .uring or is_shortage(refusal.code)) return .{ .refused = refusal };
    return open_twin(config, refusal);
}

/// A lack that another kernel would have as well: it must not be hidden.
fn is_shortage(code: i32) bool {
    return switch (code) {
        errno.nomem, errno.mfile, errno.nfile => true,
        else => false,
    };
}

/// All that the twin has is emulated: what is masked is only not used.
const twin_features: Set = .initMany(&.{
    .buffer_ring, .multishot_receive, .multishot_accept, .multishot_recvmsg, .udp_gro, .udp_gso,
    .doorbell,    .receive_limit,     .splice_pipes,
});

fn open_twin(config: *const memory.Config, why: Refusal) Outcome {
    return switch (Epoll.open(.{
        .entries = config.entries,
        .cq_entries = config.cq_entries,
        .operations = operations_of(config),
    })) {
        .kernel => |kernel| .{ .opened = .{
            .kernel = .{ .epoll = kernel },
            .backend = .epoll,
            .features = twin_features.differenceWith(config.features_disabled),
            .reason = why.reason,
            .code = why.code,
        } },
        .refused => |code| .{ .refused = .{
            .reason = if (code == errno.nomem) .out_of_memory else .epoll_refused,
            .code = code,
        } },
    };
}

/// Everything that can be in flight: each connection in both directions with its cancels, each
/// operation with its time-out, and a queue of more. Untouched memory costs nothing.
fn operations_of(config: *const memory.Config) u32 {
    return config.entries +| 4 *| (config.connections +| config.listeners) +|
        3 *| config.operations;
}

fn open_ring(config: *const memory.Config) Rung {
    var refused: opcodes.Set = .initEmpty();
    var supported = switch (probe(config.features_disabled, &refused)) {
        .supported => |features| features,
        .refused => |refusal| return .{ .refused = refusal },
    };
    var entries = config.entries;
    var cq_entries = config.cq_entries;
    while (true) {
        switch (climb(supported, entries, cq_entries)) {
            .ring => |opened| {
                if (!opened.kernel.has_registered_fd()) supported.remove(.registered_ring_fd);
                const unused = setup_features.differenceWith(opened.features);
                var kernel = opened.kernel;
                kernel.opcodes = kernel.opcodes.differenceWith(refused);
                return .{ .ring = .{
                    .kernel = kernel,
                    .features = supported.differenceWith(unused),
                } };
            },
            .refused => |refusal| {
                // Shortage (RLIMIT_MEMLOCK on old kernels, memory): smaller, then an error.
                if (refusal.code != errno.nomem or entries <= 64) {
                    return .{ .refused = refusal };
                }
                entries /= 2;
                // The larger part of a ring's memory.
                cq_entries = @max(cq_entries / 2, 2 * entries);
            },
        }
    }
}

const setup_features: Set = .initMany(&.{
    .single_issuer, .defer_taskrun, .taskrun_flag, .coop_taskrun, .submit_all, .no_sqarray,
});

fn climb(supported: Set, entries: u32, cq_entries: u32) Rung {
    var last: i32 = errno.inval;
    for (ladder) |wanted| {
        // A rung with a masked flag is refused as a whole: so an older kernel does it.
        if (!supported.supersetOf(wanted)) continue;
        var features = wanted;
        if (supported.contains(.registered_ring_fd)) features.insert(.registered_ring_fd);
        const ring = Uring.open(.{
            .entries = entries,
            .cq_entries = cq_entries,
            .features = features,
        });
        switch (ring) {
            .ring => |kernel| return .{ .ring = .{ .kernel = kernel, .features = wanted } },
            .refused => |code| {
                last = code;
                if (code != errno.inval) break;
            },
        }
    }
    const reason: abi.Reason = if (last == errno.nomem) .out_of_memory else .setup_refused;
    return .{ .refused = .{ .reason = reason, .code = last } };
}

const Probed = union(enum) { supported: Set, refused: Refusal };

/// Tries what everything above relies on, on a small ring of its own: the opcodes, a
/// provided-buffer ring, and receives into it over a socket pair.
fn probe(disabled: Set, refused: *opcodes.Set) Probed {
    var supported = Set.initFull().differenceWith(disabled);
    var ring = switch (climb(supported, 8, 16)) {
        .ring => |opened| opened.kernel,
        .refused => |refusal| return .{ .refused = refusal },
    };
    defer ring.close();
    refused.* = opcodes.refused(&ring);
    for (opcodes.essential) |opcode| if (refused.isSet(@intFromEnum(opcode))) {
        return .{ .refused = .{ .reason = .opcode_refused, .code = errno.acces } };
    };
    const page = memory.map(2 * memory.page_size) catch
        return .{ .refused = .{ .reason = .out_of_memory, .code = errno.nomem } };
    defer memory.unmap(page);
    if (disabled.contains(.buffer_ring)) {
        return .{ .refused = .{ .reason = .buffer_ring_refused, .code = 0 } };
    }
    const registered = ring.buffer_ring_register(.stream, page[0..memory.page_size], 8);
    if (registered < 0) {
        return .{ .refused = .{ .reason = .buffer_ring_refused, .code = registered } };
    }
    for (0..8) |id| {
        const bytes = page[memory.page_size + 64 * id ..][0..64];
        ring.buffer_ring_add(.stream, bytes, @intCast(id));
    }
    ring.buffer_ring_publish(.stream);
    if (supported.contains(.msg_ring) and !try_message(&ring)) supported.remove(.msg_ring);
    if (supported.contains(.registered_files) and !try_file_release(&ring)) {
        supported.remove(.registered_files);
    }
    if (supported.contains(.multishot_receive)) {
        if (try_receive(&ring, .{ .multishot = true }, true) == 0) {
            const limited: socket.Receive.Form = .{ .multishot = true, .limit = "probe".len };
            if (supported.contains(.receive_limit) and try_receive(&ring, limited, false) != 0) {
                supported.remove(.receive_limit);
            }
            return .{ .supported = supported };
        }
        // Both came with 6.0. A multishot accept is as old as provided-buffer rings.
        supported.remove(.multishot_receive);
        supported.remove(.multishot_recvmsg);
    }
    supported.remove(.receive_limit);
    const code = try_receive(&ring, .{}, false);
    if (code == 0) return .{ .supported = supported };
    return .{ .refused = .{ .reason = .receive_refused, .code = code } };
}

/// 0 if two writes arrive in provided buffers, with one submission if it `lasts`, else with one
/// each; or the negative errno of what went wrong.
fn try_receive(ring: *Uring, form: socket.Receive.Form, lasts: bool) i32 {
    var pair: [2]i32 = undefined;
    const made = linux.socket_pair(&pair);
    if (made < 0) return made;
    defer linux.close(pair[0]);
    var writer_open = true;
    defer if (writer_open) linux.close(pair[1]);
    var armed = false;
    const outcome = receive_twice(ring, &pair, form, lasts, &armed);
    // The end of the stream ends an armed multishot, so that nothing names the probe's memory when
    // it is unmapped.
    linux.close(pair[1]);
    writer_open = false;
    if (armed) _ = receive_one(ring);
    return outcome;
}

fn receive_twice(
    ring: *Uring,
    pair: *const [2]i32,
    form: socket.Receive.Form,
    lasts: bool,
    armed: *bool,
) i32 {
    for (0..2) |_| {
        if (!armed.*) {
            const sqe = ring.sqe() orelse return errno.again;
            const user_data: slots.UserData = .{ .slot = 0, .kind = .receive, .generation = 0 };
            socket.Receive.prepare(sqe, .{ .number = pair[0] }, form, user_data);
            armed.* = true;
        }
        const wrote = linux.write(pair[1], "probe");
        if (wrote < 0) return wrote;
        const cqe = switch (receive_one(ring)) {
            .cqe => |cqe| cqe,
            .refused => |code| return code,
        };
        armed.* = cqe.flags & seam.cqe_flag.more != 0;
        if (cqe.res < 0) return cqe.res;
        const complete = cqe.res == "probe".len and cqe.flags & seam.cqe_flag.buffer != 0;
        if (!complete or armed.* != lasts) return errno.inval;
    }
    return 0;
}

/// Whether a registered file goes when its place is cleared. Before 6.13 it stays until all
/// operations on registered files that were started earlier are over: one idle connection would
/// keep open every socket that is closed after it, and no peer would hear of it.
fn try_file_release(ring: *Uring) bool {
    if (ring.files_register(2) < 0) return false;
    var waiting: [2]i32 = undefined;
    if (linux.socket_pair(&waiting) < 0) return false;
    defer linux.close(waiting[0]);
    var cleared: [2]i32 = undefined;
    if (linux.socket_pair(&cleared) < 0) {
        linux.close(waiting[1]);
        return false;
    }
    defer linux.close(cleared[1]);
    const placed = ring.file_set(0, waiting[0]) >= 0 and ring.file_set(1, cleared[0]) >= 0;
    const waits = placed and receive_registered(ring, 0);
    const emptied = placed and ring.file_set(1, -1) >= 0;
    linux.close(cleared[0]);
    const gone = ring.send_now(cleared[1], "probe") == errno.pipe;
    linux.close(waiting[1]); // the end of the stream ends the receive
    if (waits) _ = receive_one(ring);
    return waits and emptied and gone;
}

/// Starts a receive that waits on a registered file.
fn receive_registered(ring: *Uring, place: i32) bool {
    const sqe = ring.sqe() orelse return false;
    const user_data: slots.UserData = .{ .slot = 0, .kind = .receive, .generation = 0 };
    socket.Receive.prepare(sqe, .{ .number = place, .registered = true }, .{}, user_data);
    return ring.enter(0, 0) == 1;
}

/// Whether a message without a ring of its sender's arrives (6.13).
fn try_message(ring: *Uring) bool {
    const bell = switch (ring.bell_open(.message, message_probe)) {
        .bell => |bell| bell,
        .refused => return false,
    };
    defer bell.close();
    if (bell.ring(.waits) < 0) return false;
    return switch (receive_one(ring)) {
        .cqe => |cqe| cqe.user_data == message_probe,
        .refused => false,
    };
}

const message_probe = 0xbe11;

/// The next completion, within a second.
fn receive_one(ring: *Uring) union(enum) { cqe: linux.Cqe, refused: i32 } {
    for (0..10) |_| {
        const entered = ring.enter(1, 100);
        const run = ring.cqes();
        if (run.len > 0) {
            const cqe = run[0];
            ring.advance(1);
            return .{ .cqe = cqe };
        }
        if (entered < 0 and entered != errno.intr) return .{ .refused = entered };
    }
    return .{ .refused = errno.time };
}

//! Which opcodes a ring takes: those that the kernel knows, less those that a policy refuses.
//!
//! What is known is asked for (REGISTER_PROBE, 5.6). What is refused is found by doing, since no
//! policy tells: a ring's restrictions, or those that a process inherits, answer an entry with
//! -EACCES before anything of it is looked at. So each opcode is tried with a personality that
//! nobody has registered, which the kernel refuses in the next line, -EINVAL, whatever the opcode.

const std = @import("std");
const builtin = @import("builtin");
const linux = std.os.linux;
const system = @import("linux.zig");
const Uring = @import("uring.zig").Uring;
const errno = system.errno;

pub const Set = std.StaticBitSet(256);

/// A ring that refuses to say is taken to know everything.
pub fn known(fd: i32) Set {
    var probe = std.mem.zeroes(linux.io_uring_probe);
    const asked = linux.io_uring_register(fd, .REGISTER_PROBE, &probe, probe.ops.len);
    if (system.result(asked) < 0) return .initFull();
    var set: Set = .initEmpty();
    for (probe.ops[0..probe.ops_len], 0..) |operation, opcode| {
        if (operation.is_supported()) set.set(opcode);
    }
    return set;
}

/// All that this library submits.
const used = [_]system.Op{
    .NOP,       .ASYNC_CANCEL, .TIMEOUT,  .LINK_TIMEOUT,    .ACCEPT,  .CONNECT,
    .SEND,      .RECV,         .SENDMSG,  .RECVMSG,         .SEND_ZC, .SENDMSG_ZC,
    .SHUTDOWN,  .CLOSE,        .POLL_ADD, .READ,            .WRITE,   .READV,
    .WRITEV,    .READ_FIXED,   .FSYNC,    .WRITE_FIXED,     .OPENAT,  .STATX,
    .FALLOCATE, .FTRUNCATE,    .SPLICE,   .SYNC_FILE_RANGE, .SOCKET,  .BIND,
    .LISTEN,    .RENAMEAT,     .UNLINKAT, .MKDIRAT,         .LINKAT,  .SYMLINKAT,
};

/// No plain call stands for these, or one that may wait for ever: the twin does them better.
pub const essential = [_]system.Op{
    .NOP,   .ASYNC_CANCEL, .TIMEOUT, .LINK_TIMEOUT, .ACCEPT,      .CONNECT, .SEND,
    .RECV,  .SENDMSG,      .RECVMSG, .SHUTDOWN,     .POLL_ADD,    .CLOSE,   .READ,
    .WRITE, .READV,        .WRITEV,  .READ_FIXED,   .WRITE_FIXED, .OPENAT,  .SPLICE,
};

const no_personality = std.math.maxInt(u16);

/// Those of `used` that are refused; on a ring without anything in flight.
pub fn refused(ring: *Uring) Set {
    var set: Set = .initEmpty();
    for (used) |opcode| {
        const entry = ring.sqe() orelse return set;
        entry.opcode = opcode;
        entry.personality = no_personality;
        entry.fd = -1;
        // One by one: without SUBMIT_ALL the kernel stops at the first that it refuses.
        if (ring.enter(1, 100) < 0) return set;
        for (ring.cqes()) |cqe| {
            if (cqe.res == errno.acces or cqe.res == errno.perm) set.set(@intFromEnum(opcode));
        }
        ring.advance(@intCast(ring.cqes().len));
    }
    return set;
}

// A policy for tests ---------------------------------------------------------------------------

/// In test builds rings can be opened under restrictions: io_uring_register(2).
const is_tested = builtin.is_test or @hasDecl(@import("root"), "forces_results");

/// Opcodes that rings are opened without, from here on.
pub var forbidden: Set = .initEmpty();

pub fn setup_flags() u32 {
    if (!is_tested or forbidden.count() == 0) return 0;
    return linux.IORING_SETUP_R_DISABLED;
}

const Restriction = extern struct {
    what: u16,
    allowed: u8,
    resv: u8 = 0,
    resv2: [3]u32 = @splat(0),
};
const register_op = 0;
const sqe_op = 1;
const sqe_flags_allowed = 2;

/// 0 or an errno. Everything else is allowed.
pub fn restrict(fd: i32) i32 {
    if (!is_tested or forbidden.count() == 0) return 0;
    const permitted = known(fd).differenceWith(forbidden);
    var list: [512]Restriction = undefined;
    list[0] = .{ .what = sqe_flags_allowed, .allowed = 0xff };
    var count: u32 = 1;
    for (0..256) |opcode| if (permitted.isSet(opcode)) {
        list[count] = .{ .what = sqe_op, .allowed = @intCast(opcode) };
        count += 1;
    };
    const first = count;
    // As many calls to register as this kernel has: more are refused as a whole.
    var calls: u8 = 64;
    while (calls > 0) : (calls -= 1) {
        for (0..calls) |at| {
            list[first + at] = .{ .what = register_op, .allowed = @intCast(at) };
        }
        const raw = linux.io_uring_register(fd, .REGISTER_RESTRICTIONS, &list, first + calls);
        if (system.result(raw) >= 0) break;
    }
    return system.result(linux.io_uring_register(fd, .REGISTER_ENABLE_RINGS, null, 0));
}

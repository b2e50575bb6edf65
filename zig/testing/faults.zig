//! Fault rules: the n-th operation of a kind ends as a test wants it to, on whatever kernel runs.
//!
//! A hook for test builds: the unit tests, and the library of `exports_faults.zig`. Elsewhere
//! `present` is false at comptime and no code is left. A rule does not just write another number
//! into a completion: what it says has to be true of the rest of the world, or a test would look
//! for leaks that no kernel makes. `How` says what that means. Rules hold for all rings of the
//! process, which use them on one thread. Called by `engine.zig` where entries are handed out,
//! where the kernel is entered and where it is reaped.

const std = @import("std");
const assert = std.debug.assert;
const builtin = @import("builtin");
const abi = @import("../abi.zig");
const seam = @import("../kernel.zig");
const Kind = @import("../operation.zig").Kind;
const Uring = @import("../kernel/uring.zig").Uring;
const UserData = @import("../slots.zig").UserData;

pub const present = builtin.is_test or @hasDecl(@import("root"), "forces_results");

pub const How = enum(u32) {
    /// It does not happen, and its completion says `result`. Not for what has to happen even if it
    /// fails: a close, a cancel.
    instead = 0,
    /// It happens, and its completion says `result`: for closes and cancels, and for what leaves
    /// nothing behind that a failure would not.
    afterwards = 1,
    /// A multishot says `result` as its last, behind `nth` completions that it had: it is ended by
    /// a cancel, and what comes until then comes as it is.
    ending = 2,
    /// It moves at most `result` bytes.
    shortened = 3,
};

pub const Rule = struct {
    kind: Kind,
    how: How = .instead,
    /// The n-th from here on, counted from 1; then every so many again, 0 for never.
    nth: u32 = 1,
    every: u32 = 0,
    result: i32,
    seen: u32 = 0,
    struck: u32 = 0,

    fn is_about(rule: *const Rule, kind: Kind) bool {
        const member = @intFromEnum(Kind.of_member(0));
        return rule.kind == kind or @min(@intFromEnum(rule.kind), @intFromEnum(kind)) >= member;
    }

    fn is_due(rule: *Rule) bool {
        rule.seen += 1;
        if (rule.seen < rule.nth) return false;
        const beyond = rule.seen - rule.nth;
        return if (rule.every == 0) beyond == 0 else beyond % rule.every == 0;
    }
};

/// A completion that is to say something else than the kernel does.
const Promise = struct { user_data: u64, how: How, result: i32, asked: bool = true };

var rules: [8]Rule = undefined;
var rule_count: u32 = 0;
var promises: [64]Promise = undefined;
var promise_count: u32 = 0;
/// Entries that were handed out since the last enter. The largest submission queue has so many.
var handed_out: [32768]*seam.Sqe = undefined;
var handed_count: u32 = 0;

/// The cancel requests of this file: nobody else's, for the kind is none.
const own_tag: u64 = @bitCast(UserData{ .slot = 0xfa17, .kind = .none, .generation = 0 });

/// False if the kind cannot end like this, or there are too many rules.
pub fn add(rule: Rule) bool {
    if (!is_sound(rule) or rule_count == rules.len) return false;
    rules[rule_count] = rule;
    rule_count += 1;
    return true;
}

/// No rules any more: how often they struck.
pub fn clear() u32 {
    var struck: u32 = 0;
    for (rules[0..rule_count]) |*rule| struck += rule.struck;
    rule_count = 0;
    promise_count = 0;
    handed_count = 0;
    return struck;
}

/// By its name, as `Kind` and, behind "ring.", `abi.OperationKind` have it; "member" is any member
/// of a chain of sends.
pub fn kind_of(name: []const u8) ?Kind {
    const prefix = "ring.";
    if (std.mem.startsWith(u8, name, prefix)) {
        const user = std.meta.stringToEnum(abi.OperationKind, name[prefix.len..]);
        return .of(user orelse return null);
    }
    if (std.mem.eql(u8, name, "member")) return .of_member(0);
    const kind = std.meta.stringToEnum(Kind, name) orelse return null;
    return if (kind == .none or kind == .user_first) null else kind;
}

fn user_kind(kind: Kind) ?abi.OperationKind {
    const number = @intFromEnum(kind);
    if (number < @intFromEnum(Kind.user_first) or number >= Kind.member_first) return null;
    return std.enums.fromInt(abi.OperationKind, number - @intFromEnum(Kind.user_first));
}

fn is_sound(rule: Rule) bool {
    if (rule.nth == 0) return false;
    const user = user_kind(rule.kind);
    const must_happen = switch (rule.kind) {
        .close, .listener_close, .datagram_close => true,
        .cancel, .receive_cancel, .send_cancel, .connect_cancel, .listener_cancel => true,
        .deadline_cancel, .bell_cancel, .companion_cancel, .datagram_cancel => true,
        .link_timeout, .time_limit => true, // they belong to what they end
        else => user == .close,
    };
    return switch (rule.how) {
        .instead => !must_happen,
        .afterwards => must_happen or rule.kind == .shutdown or
            user == .fsync or user == .datasync or user == .sync_file_range or user == .shutdown,
        .ending => rule.result < 0 and (rule.kind == .accept or rule.kind == .receive or
            rule.kind == .datagram_receive or user == .poll),
        .shortened => rule.result > 0,
    };
}

// The way in -----------------------------------------------------------------------------------

/// An entry that is filled before the next enter.
pub fn note(entry: *seam.Sqe) void {
    if (rule_count == 0) return;
    assert(handed_count < handed_out.len);
    handed_out[handed_count] = entry;
    handed_count += 1;
}

pub fn before_enter(kernel: *seam.Kernel) void {
    for (handed_out[0..handed_count]) |entry| examine(kernel, entry);
    handed_count = 0;
    ask_for_ends(kernel);
}

fn examine(kernel: *seam.Kernel, entry: *seam.Sqe) void {
    const user_data: UserData = @bitCast(entry.user_data);
    var striking: ?*Rule = null;
    for (rules[0..rule_count]) |*rule| {
        if (!rule.is_about(user_data.kind) or rule.how == .ending) continue;
        if (rule.how == .shortened and !has_length(entry)) continue;
        // All of them count, the first of them strikes.
        if (rule.is_due() and striking == null) striking = rule;
    }
    const rule = striking orelse return;
    rule.struck += 1;
    switch (rule.how) {
        .instead => replace(kernel, entry, rule.result),
        .afterwards => promise(entry.user_data, .afterwards, rule.result),
        .shortened => {
            const limit: u32 = @intCast(rule.result);
            entry.len = if (entry.len == 0) limit else @min(entry.len, limit);
        },
        .ending => unreachable, // left out above
    }
}

fn has_length(entry: *const seam.Sqe) bool {
    return switch (entry.opcode) {
        .READ, .WRITE, .READ_FIXED, .WRITE_FIXED, .SEND, .SEND_ZC, .SPLICE => true,
        .RECV => entry.ioprio & seam.sqe_flag.receive_multishot == 0,
        else => false,
    };
}

/// A NOP that says the result where the kernel lets it; else a NOP, or a cancel of nothing, which
/// breaks a chain as a failure does, and the result is put in later.
fn replace(kernel: *seam.Kernel, entry: *seam.Sqe, result: i32) void {
    const user_data = entry.user_data;
    const links = entry.flags & (seam.sqe_flag.io_link | seam.sqe_flag.io_hardlink);
    entry.* = std.mem.zeroes(seam.Sqe);
    entry.user_data = user_data;
    entry.flags = links;
    entry.fd = -1;
    if (kernel.* == .uring and injects()) {
        prepare_injected(entry, result);
        return;
    }
    promise(user_data, .instead, result);
    entry.opcode = if (result < 0) .ASYNC_CANCEL else .NOP;
    if (result < 0) entry.addr = std.math.maxInt(u64); // no operation has this `user_data`
}

/// IORING_NOP_INJECT_RESULT (6.11): a NOP whose completion says `len`.
pub fn prepare_injected(entry: *seam.Sqe, result: i32) void {
    entry.opcode = .NOP;
    entry.rw_flags = 1 << 0;
    entry.len = @bitCast(result);
}

var injects_known: ?bool = null;

/// For tests of the other way.
pub fn set_injects(value: bool) void {
    injects_known = value;
}

/// Whether the kernel has it, by doing: others ignore the flag, or refuse it with -EINVAL.
pub fn injects() bool {
    if (injects_known) |known| return known;
    injects_known = false;
    var ring = switch (Uring.open(.{ .entries = 2, .cq_entries = 4, .features = .initEmpty() })) {
        .ring => |ring| ring,
        .refused => return false,
    };
    defer ring.close();
    prepare_injected(ring.sqe().?, seam.errno.io);
    _ = ring.enter(1, 1000);
    const run = ring.cqes();
    injects_known = run.len == 1 and run[0].res == seam.errno.io;
    return injects_known.?;
}

fn promise(user_data: u64, how: How, result: i32) void {
    if (promise_count == promises.len) return; // then it ends as it does
    promises[promise_count] = .{ .user_data = user_data, .how = how, .result = result };
    promise_count += 1;
}

fn ask_for_ends(kernel: *seam.Kernel) void {
    for (promises[0..promise_count]) |*one| {
        if (one.asked) continue;
        const entry = kernel.sqe() orelse return; // at the next enter
        entry.opcode = .ASYNC_CANCEL;
        entry.fd = -1;
        entry.addr = one.user_data;
        entry.user_data = own_tag;
        one.asked = true;
    }
}

// The way out ----------------------------------------------------------------------------------

/// Makes completions say what was promised: those that are left, at the front of `batch`.
pub fn after_reap(kernel: *seam.Kernel, batch: []seam.Cqe) u32 {
    if (rule_count == 0 and promise_count == 0) return @intCast(batch.len);
    var kept: u32 = 0;
    for (batch) |cqe| {
        if (cqe.user_data == own_tag) continue;
        batch[kept] = cqe;
        if (cqe.flags & seam.cqe_flag.more != 0) {
            went_on(cqe.user_data);
        } else {
            keep_promise(&batch[kept]);
        }
        kept += 1;
    }
    ask_for_ends(kernel);
    return kept;
}

/// A multishot, which may have come to its end.
fn went_on(number: u64) void {
    const user_data: UserData = @bitCast(number);
    for (rules[0..rule_count]) |*rule| {
        if (rule.kind != user_data.kind or rule.how != .ending or !rule.is_due()) continue;
        const before = promise_count;
        promise(number, .ending, rule.result);
        if (promise_count > before) promises[before].asked = false;
        return;
    }
}

fn keep_promise(cqe: *seam.Cqe) void {
    for (promises[0..promise_count], 0..) |one, at| {
        if (one.user_data != cqe.user_data) continue;
        promise_count -= 1;
        promises[at] = promises[promise_count];
        // It may have ended by itself meanwhile.
        if (one.how == .ending) {
            if (cqe.res != seam.errno.canceled) return;
            count_ending(cqe.user_data);
        }
        cqe.res = one.result;
        return;
    }
}

fn count_ending(number: u64) void {
    const user_data: UserData = @bitCast(number);
    for (rules[0..rule_count]) |*rule| {
        if (rule.kind == user_data.kind and rule.how == .ending) rule.struck += 1;
    }
}

test "a rule strikes at its place, and again if it is to" {
    var once: Rule = .{ .kind = .send, .nth = 3, .result = seam.errno.io };
    var often: Rule = .{ .kind = .send, .nth = 2, .every = 3, .result = seam.errno.io };
    var strikes: [2]u32 = .{ 0, 0 };
    for (1..12) |n| {
        if (once.is_due()) strikes[0] |= @as(u32, 1) << @intCast(n);
        if (often.is_due()) strikes[1] |= @as(u32, 1) << @intCast(n);
    }
    try std.testing.expectEqual([2]u32{ 1 << 3, 1 << 2 | 1 << 5 | 1 << 8 | 1 << 11 }, strikes);
}

test "a rule whose result would be a lie is refused" {
    const io = seam.errno.io;
    // A descriptor would stay open; another one would be lost.
    try std.testing.expect(!add(.{ .kind = .close, .result = io }));
    try std.testing.expect(!add(.{ .kind = .accept, .how = .afterwards, .result = io }));
    try std.testing.expect(!add(.{ .kind = .of(.openat), .how = .afterwards, .result = io }));
    // What was to be cancelled would go on for ever.
    try std.testing.expect(!add(.{ .kind = .cancel, .result = seam.errno.already }));
    try std.testing.expect(!add(.{ .kind = .accept, .how = .ending, .result = 1 }));
    try std.testing.expect(!add(.{ .kind = .send, .nth = 0, .result = io }));
    try std.testing.expectEqual(0, clear());
    try std.testing.expectEqual(null, kind_of("none"));
    try std.testing.expectEqual(null, kind_of("ring.nothing"));
    try std.testing.expectEqual(Kind.of(.read), kind_of("ring.read"));
    try std.testing.expectEqual(Kind.receive_cancel, kind_of("receive_cancel"));
}

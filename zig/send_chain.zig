//! Send chains: what became of the members of a linked send, and when its memory is free.
//!
//! Pure accounting: CQEs in, events out. Members are sends that the kernel runs in order (IO_LINK).
//! With MSG_WAITALL on each of them a chain breaks at the first that is not whole, so what was sent
//! is a prefix of what was asked, and the remainder is known to the byte (K2, K3). Members go in
//! windows: a chain that the submission queue cannot hold, or a remainder, is pushed as a further
//! one. A member is known by its place, which its `user_data` carries, because a zero-copy send has
//! two CQEs and the second one may also come unpromised (K6, K7). Called by `send_queue.zig`.

const std = @import("std");
const assert = std.debug.assert;
const seam = @import("kernel.zig");
const mutation = @import("testing/mutation.zig");
const errno = seam.errno;

/// The number of a member modulo 128: what is left of `user_data`'s kinds holds it.
pub const Place = u7;

/// Members in one window: half of the places, so that two windows that follow each other, and
/// whatever the first one left behind, are told apart.
pub const window_max = 64;

/// pending ──last result──▶ all_operations_complete ──last notification──▶ complete
///    └───────────── last result, nothing promised ─────────────────────────▲
pub const Event = enum {
    pending,
    /// The stream may go on; the memory is still the kernel's.
    all_operations_complete,
    complete,
};

/// Why not everything was sent.
pub const Cause = union(enum) {
    none,
    /// A member was short without saying why: cancelled half-way, or the peer is gone, which the
    /// next send hears (K3).
    short,
    /// The first member that was not whole failed with this; never a consequence's -ECANCELED.
    code: i32,
};

/// The end of a chain.
pub const Outcome = struct { bytes_sent: u64, bytes_total: u64, cause: Cause };

pub const Chain = struct {
    active: bool = false,
    /// The first place of the window, and how many members it has.
    first: Place = 0,
    members: u8 = 0,
    /// Of the window, the first member that was not whole and the last one that sent anything.
    broken_at: u8 = none,
    sent_at: u8 = 0,
    /// Its own result, if it is negative.
    code: i32 = 0,
    /// Notifications and results that nobody waits for.
    strays: u32 = 0,
    bytes_submitted: u64 = 0,
    bytes_sent: u64 = 0,
    /// One bit a place: results and notifications that are to come.
    awaited: u128 = 0,
    promised: u128 = 0,

    const none = std.math.maxInt(u8);

    /// The first window: `members` sends of `bytes` together. Returns the place of the first.
    pub fn start(chain: *Chain, members: u32, bytes: u64) Place {
        assert(!chain.active); // one chain at a time (I5)
        const strays = chain.strays;
        chain.* = .{ .active = true, .strays = strays };
        return chain.push(members, bytes);
    }

    /// A further window: more members, or the remainder of a broken one.
    pub fn extend(chain: *Chain, members: u32, bytes: u64) Place {
        assert(chain.active and chain.awaited == 0);
        chain.first +%= @intCast(chain.members);
        return chain.push(members, bytes);
    }

    fn push(chain: *Chain, members: u32, bytes: u64) Place {
        assert(members > 0 and members <= window_max);
        chain.members = @intCast(members);
        chain.broken_at = none;
        chain.sent_at = 0;
        chain.code = 0;
        // What is sent again after a break counts once.
        chain.bytes_submitted = chain.bytes_sent + bytes;
        for (0..members) |position| chain.awaited |= bit(chain.place_of(@intCast(position)));
        return chain.first;
    }

    fn bit(place: Place) u128 {
        return @as(u128, 1) << place;
    }

    pub fn place_of(chain: *const Chain, position: u8) Place {
        return chain.first +% @as(Place, @intCast(position));
    }

    pub fn position_of(chain: *const Chain, place: Place) u8 {
        return place -% chain.first;
    }

    pub fn is_active(chain: *const Chain) bool {
        return chain.active;
    }

    /// Whether a member at this place may be a zero-copy send: two notifications of one place
    /// could not be told apart.
    pub fn may_promise(chain: *const Chain, place: Place) bool {
        return chain.promised & bit(place) == 0;
    }

    /// The place of the member that the kernel runs, which a cancel must name (K4); null if none.
    pub fn running(chain: *const Chain) ?Place {
        for (0..chain.members) |position| {
            const place = chain.place_of(@intCast(position));
            if (chain.awaited & bit(place) != 0) return place;
        }
        return null;
    }

    /// A member's own CQE; `asked` is the member's length, `more` says that a notification is to
    /// come (K6).
    pub fn on_operation(
        chain: *Chain,
        place: Place,
        asked: u64,
        result: i32,
        more: bool,
    ) Event {
        if (!chain.active) return .pending;
        if (chain.awaited & bit(place) == 0) {
            chain.strays += 1;
            return .pending;
        }
        chain.awaited &= ~bit(place);
        if (more) chain.promised |= bit(place);
        const position = chain.position_of(place);
        const sent: u64 = @min(asked, @as(u64, @intCast(@max(result, 0))));
        chain.bytes_sent += sent;
        if (sent > 0) chain.sent_at = @max(chain.sent_at, position);
        if (sent < asked and position < chain.broken_at) {
            chain.broken_at = position;
            chain.code = @min(result, 0);
        }
        return chain.event();
    }

    /// A zero-copy member's second CQE. One that was not promised is counted and makes no event
    /// (K7).
    pub fn on_notification(chain: *Chain, place: Place) Event {
        if (mutation.is(.take_any_notification) and chain.promised != 0) {
            chain.promised &= chain.promised - 1;
            return chain.event();
        }
        if (chain.promised & bit(place) == 0) {
            chain.strays += 1;
            return .pending;
        }
        chain.promised &= ~bit(place);
        return chain.event();
    }

    fn event(chain: *const Chain) Event {
        if (chain.awaited != 0) return .pending;
        return if (chain.promised != 0) .all_operations_complete else .complete;
    }

    /// Why the window did not send everything; meaningful once all its operations are complete.
    pub fn cause(chain: *const Chain) Cause {
        if (chain.broken_at == none) return .none;
        return if (chain.code < 0) .{ .code = chain.code } else .short;
    }

    /// Bytes went out behind a member that was not whole: the stream has a hole (K1). It cannot be
    /// with MSG_WAITALL on every member; a kernel that does it all the same ends the connection.
    pub fn has_hole(chain: *const Chain) bool {
        return chain.broken_at != none and chain.sent_at > chain.broken_at;
    }

    pub fn notifications_pending(chain: *const Chain) u32 {
        return @popCount(chain.promised);
    }

    /// The outcome, and the end of the chain; null if none is active.
    pub fn take(chain: *Chain) ?Outcome {
        if (!chain.active) return null;
        chain.active = false;
        return .{
            .bytes_sent = chain.bytes_sent,
            .bytes_total = chain.bytes_submitted,
            .cause = chain.cause(),
        };
    }

    /// Ends a chain by force: the bytes that were submitted, and those of them that were sent as
    /// far as it is known. Null if none is active.
    pub fn cancel(chain: *Chain) ?struct { submitted: u64, sent: u64 } {
        const outcome = chain.take() orelse return null;
        chain.awaited = 0;
        return .{ .submitted = outcome.bytes_total, .sent = outcome.bytes_sent };
    }
};

const expectEqual = std.testing.expectEqual;
const failed: i32 = errno.io;

test "single_sqe_chain" {
    var chain: Chain = .{};
    const place = chain.start(1, 100);
    try expectEqual(true, chain.is_active());
    try expectEqual(Event.complete, chain.on_operation(place, 100, 100, false));
    // The state stays until it is taken.
    try expectEqual(true, chain.is_active());
    const outcome = chain.take().?;
    try expectEqual(Outcome{ .bytes_sent = 100, .bytes_total = 100, .cause = .none }, outcome);
    try expectEqual(false, chain.is_active());
}

test "multi_sqe_chain_success" {
    var chain: Chain = .{};
    const first = chain.start(3, 300);
    try expectEqual(Event.pending, chain.on_operation(first, 100, 100, false));
    try expectEqual(Event.pending, chain.on_operation(first + 1, 100, 100, false));
    try expectEqual(Event.complete, chain.on_operation(first + 2, 100, 100, false));
    try expectEqual(@as(u64, 300), chain.take().?.bytes_sent);
}

test "chain_with_error_and_cancel" {
    var chain: Chain = .{};
    const first = chain.start(3, 300);
    try expectEqual(Event.pending, chain.on_operation(first, 100, 100, false));
    try expectEqual(Event.pending, chain.on_operation(first + 1, 100, failed, false));
    const last = chain.on_operation(first + 2, 100, errno.canceled, false);
    try expectEqual(Event.complete, last);
    const outcome = chain.take().?;
    try expectEqual(@as(u64, 100), outcome.bytes_sent);
    try expectEqual(Cause{ .code = failed }, outcome.cause);
}

test "chain_with_zc_notifs" {
    var chain: Chain = .{};
    const first = chain.start(2, 200);
    try expectEqual(Event.pending, chain.on_operation(first, 100, 100, true));
    const second = chain.on_operation(first + 1, 100, 100, false);
    try expectEqual(Event.all_operations_complete, second);
    try expectEqual(@as(u32, 1), chain.notifications_pending());
    try expectEqual(Event.complete, chain.on_notification(first));
    try expectEqual(@as(u64, 200), chain.take().?.bytes_sent);
}

test "cancel_active_chain" {
    var chain: Chain = .{};
    const first = chain.start(5, 500);
    _ = chain.on_operation(first, 100, 100, false);
    const cancelled = chain.cancel().?;
    try expectEqual(@as(u64, 500), cancelled.submitted);
    try expectEqual(@as(u64, 100), cancelled.sent);
    try expectEqual(false, chain.is_active());
}

test "cancel_no_chain" {
    var chain: Chain = .{};
    try expectEqual(null, chain.cancel());
    try expectEqual(null, chain.take());
}

test "inactive_connection" {
    var chain: Chain = .{};
    try expectEqual(false, chain.is_active());
    // CQEs of no chain are pending, and change nothing.
    try expectEqual(Event.pending, chain.on_operation(0, 100, 100, true));
    try expectEqual(Event.pending, chain.on_notification(0));
    try expectEqual(false, chain.is_active());
    try expectEqual(null, chain.running());
}

fn start_twice(chain: *Chain) u8 {
    @import("root").panics_quietly = true;
    _ = chain.start(1, 100);
    return 0;
}

test "starting while one is active asserts" {
    const fork = @import("kernel/fork.zig");
    var chain: Chain = .{};
    try expectEqual(fork.End{ .returned = 0 }, try fork.run(10, &chain, start_twice));
    _ = chain.start(1, 100);
    try expectEqual(fork.End.died, try fork.run(10, &chain, start_twice));
}

test "K1: bytes behind a short member are a hole, whatever the order of the CQEs" {
    for ([_][2]u8{ .{ 0, 1 }, .{ 1, 0 } }) |order| {
        var chain: Chain = .{};
        const first = chain.start(2, 2000);
        const results = [2]i32{ 600, 1000 };
        for (order) |position| {
            _ = chain.on_operation(first + @as(Place, @intCast(position)), 1000, //
                results[position], false);
        }
        try expectEqual(true, chain.has_hole());
    }
    var whole: Chain = .{};
    const first = whole.start(2, 2000);
    _ = whole.on_operation(first, 1000, 1000, false);
    _ = whole.on_operation(first + 1, 1000, 600, false);
    try expectEqual(false, whole.has_hole());
}

test "K2: a short head is the cause, and the cancelled tail its consequence" {
    var chain: Chain = .{};
    const first = chain.start(3, 3000);
    _ = chain.on_operation(first, 1000, 400, false);
    _ = chain.on_operation(first + 1, 1000, errno.canceled, false);
    const last = chain.on_operation(first + 2, 1000, errno.canceled, false);
    try expectEqual(Event.complete, last);
    try expectEqual(Cause.short, chain.cause());
    try expectEqual(false, chain.has_hole());
    const outcome = chain.take().?;
    try expectEqual(@as(u64, 2600), outcome.bytes_total - outcome.bytes_sent);
}

test "K3: a stalled head that is cancelled says exactly what it sent, one that sent nothing why" {
    var chain: Chain = .{};
    const first = chain.start(2, 2000);
    _ = chain.on_operation(first, 1000, 127, false);
    _ = chain.on_operation(first + 1, 1000, errno.canceled, false);
    const outcome = chain.take().?;
    try expectEqual(@as(u64, 127), outcome.bytes_sent);
    try expectEqual(Cause.short, outcome.cause);
    // The first member that was not whole was itself cancelled: then that is the cause.
    const second = chain.start(2, 2000);
    _ = chain.on_operation(second, 1000, errno.canceled, false);
    _ = chain.on_operation(second + 1, 1000, errno.canceled, false);
    try expectEqual(Cause{ .code = errno.canceled }, chain.take().?.cause);
}

test "K4: what runs is the first member without a result, and only that can be cancelled" {
    var chain: Chain = .{};
    const first = chain.start(3, 300);
    try expectEqual(first, chain.running().?);
    _ = chain.on_operation(first, 100, 100, true);
    try expectEqual(first + 1, chain.running().?);
    _ = chain.on_notification(first);
    _ = chain.on_operation(first + 1, 100, 100, false);
    _ = chain.on_operation(first + 2, 100, 100, false);
    try expectEqual(null, chain.running());
}

test "K5: a chain of a descriptor that is closed stays active: only its CQEs end it" {
    var chain: Chain = .{};
    const first = chain.start(2, 200);
    try expectEqual(Event.pending, chain.on_operation(first, 100, errno.canceled, false));
    try expectEqual(true, chain.is_active());
    const last = chain.on_operation(first + 1, 100, errno.canceled, false);
    try expectEqual(Event.complete, last);
}

test "K6: a zero-copy send that failed has promised a notification all the same" {
    for ([_]i32{ errno.pipe, errno.connreset, errno.badf, 0 }) |result| {
        var chain: Chain = .{};
        const place = chain.start(1, 100);
        const event = chain.on_operation(place, 100, result, true);
        try expectEqual(Event.all_operations_complete, event);
        try expectEqual(Event.complete, chain.on_notification(place));
    }
}

test "K7: a notification that nobody promised is counted and takes nobody else's place" {
    var chain: Chain = .{};
    const first = chain.start(2, 200);
    _ = chain.on_operation(first, 100, 60, true);
    const last = chain.on_operation(first + 1, 100, errno.canceled, false);
    try expectEqual(Event.all_operations_complete, last);
    try expectEqual(Event.pending, chain.on_notification(first + 1));
    try expectEqual(@as(u32, 1), chain.strays);
    try expectEqual(@as(u32, 1), chain.notifications_pending());
    try expectEqual(Event.complete, chain.on_notification(first));
    try expectEqual(Event.pending, chain.on_notification(first));
    try expectEqual(@as(u32, 2), chain.strays);
}

test "K8: the memory is the kernel's until the peer has drained, beyond remainder and outcome" {
    var chain: Chain = .{};
    const first = chain.start(1, 1000);
    const partly = chain.on_operation(first, 1000, 400, true);
    try expectEqual(Event.all_operations_complete, partly);
    // The remainder goes on; the first notification still belongs to the first window.
    const second = chain.extend(1, 600);
    try std.testing.expect(first != second);
    const rest = chain.on_operation(second, 600, 600, false);
    try expectEqual(Event.all_operations_complete, rest);
    const outcome = chain.take().?;
    try expectEqual(@as(u64, 1000), outcome.bytes_sent);
    try expectEqual(@as(u64, 1000), outcome.bytes_total);
    try expectEqual(@as(u32, 1), chain.notifications_pending());
    try expectEqual(Event.complete, chain.on_notification(first));
}

test "windows follow each other in places of their own, and totals exceed 32 bits" {
    var chain: Chain = .{};
    const length: u64 = 1 << 30;
    var place = chain.start(window_max, length * window_max);
    for (0..10) |window| {
        for (0..window_max) |_| {
            const event = chain.on_operation(place, length, 1 << 30, false);
            try expectEqual(chain.running() == null, event == .complete);
            place +%= 1;
        }
        if (window < 9) try expectEqual(place, chain.extend(window_max, length * window_max));
    }
    const outcome = chain.take().?;
    try expectEqual(length * window_max * 10, outcome.bytes_sent);
    try expectEqual(outcome.bytes_total, outcome.bytes_sent);
}

test "a place whose notification is still to come promises no second one" {
    var chain: Chain = .{};
    const first = chain.start(window_max, window_max);
    for (0..window_max) |position| {
        _ = chain.on_operation(chain.place_of(@intCast(position)), 1, 1, position == 0);
    }
    try expectEqual(false, chain.may_promise(first));
    _ = chain.extend(window_max, window_max);
    for (0..window_max) |position| {
        const place = chain.place_of(@intCast(position));
        try expectEqual(true, chain.may_promise(place));
        _ = chain.on_operation(place, 1, 1, false);
    }
    // Round the corner: the same place again.
    const again = chain.extend(1, 1);
    try expectEqual(first, again);
    try expectEqual(false, chain.may_promise(again));
    try expectEqual(Event.all_operations_complete, chain.on_operation(again, 1, 1, false));
    try expectEqual(Event.complete, chain.on_notification(again));
}

test "a result that comes twice, or is longer than what was asked, changes no count" {
    var chain: Chain = .{};
    const first = chain.start(2, 200);
    _ = chain.on_operation(first, 100, 150, false);
    try expectEqual(Event.pending, chain.on_operation(first, 100, 100, false));
    try expectEqual(@as(u32, 1), chain.strays);
    _ = chain.on_operation(first + 1, 100, 100, false);
    try expectEqual(@as(u64, 200), chain.take().?.bytes_sent);
}

test "any order of results and notifications ends in one complete, with the bytes of the prefix" {
    var prng: std.Random.DefaultPrng = .init(std.testing.random_seed);
    const random = prng.random();
    for (0..2000) |_| {
        var chain: Chain = .{};
        const members = random.intRangeAtMost(u8, 1, window_max);
        const broken_at = random.uintAtMost(u8, members);
        const first = chain.start(members, @as(u64, members) * 10);
        var due: [3 * window_max]struct { place: Place, notification: bool } = undefined;
        var count: usize = 0;
        for (0..members) |position| {
            due[count] = .{ .place = chain.place_of(@intCast(position)), .notification = false };
            count += 1;
        }
        var completes: u32 = 0;
        while (count > 0) {
            const at = random.uintLessThan(usize, count);
            const one = due[at];
            count -= 1;
            due[at] = due[count];
            if (one.notification) {
                completes += @intFromBool(chain.on_notification(one.place) == .complete);
                continue;
            }
            const position = chain.position_of(one.place);
            const result: i32 = if (position < broken_at) 10 else if (position == broken_at)
                3
            else
                errno.canceled;
            const more = random.boolean();
            // What is promised comes later; now and then something comes unpromised (K7).
            if (more) {
                due[count] = .{ .place = one.place, .notification = true };
                count += 1;
            }
            completes += @intFromBool(
                chain.on_operation(one.place, 10, result, more) == .complete,
            );
        }
        try expectEqual(@as(u32, 1), completes);
        try expectEqual(first, chain.first);
        const expected = @as(u64, broken_at) * 10 + @as(u64, if (broken_at < members) 3 else 0);
        const outcome = chain.take().?;
        try expectEqual(expected, outcome.bytes_sent);
        try expectEqual(broken_at < members, outcome.cause != .none);
    }
}

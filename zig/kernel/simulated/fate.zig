//! The seeded dice of a simulated kernel, and how likely each fault is.
//!
//! Everything that the simulated kernel decides is decided here, from one generator: the same seed
//! and the same calls give the same run, to the last byte.

const std = @import("std");
const outcomes = @import("outcomes.zig");

/// Likelihoods out of 1000 at each opportunity; all 0 is a kernel that only ever does well.
pub const Faults = struct {
    /// -EBADF: the ring is lost.
    enter_lost: u16 = 0,
    /// -EINTR from a wait in which nothing completed.
    enter_interrupted: u16 = 0,
    /// -EBUSY: completions overflow and must be reaped first.
    enter_busy: u16 = 0,
    /// -EAGAIN: no memory for the requests.
    enter_again: u16 = 0,
    /// Only a part of the queue is taken, and nothing is waited for.
    enter_partial: u16 = 0,
    /// An operation that could go on is left for a later enter.
    delayed: u16 = 0,
    /// ACCEPT fails though a connection waits (-EMFILE, -ENFILE, -ECONNABORTED).
    accept: u16 = 0,
    /// A multishot ends with a success that says nothing of more.
    multishot_ends: u16 = 0,
    connect: u16 = 0,
    /// A receive or send fails by itself (-ECONNRESET, -ETIMEDOUT): the connection breaks.
    broken: u16 = 0,
    /// A send that was to be whole is short all the same (K2).
    gives_up: u16 = 0,
    shutdown: u16 = 0,
    close: u16 = 0,
    /// A cancel finds its target running: -EALREADY, and the target ends either way.
    cancel_already: u16 = 0,
    /// The target of a successful cancel completes only in a later enter.
    cancel_late: u16 = 0,
    socket: u16 = 0,
    bind: u16 = 0,
    listen: u16 = 0,
    address: u16 = 0,
    option: u16 = 0,
    send_now: u16 = 0,
    /// An operation fails as its man page lists (`failures.zig`), before it has done anything but
    /// a close; a plain call with -EIO. See `simulated.Config.may_fail`.
    call: u16 = 0,
    /// A read or write moves less than it could.
    short: u16 = 0,
    /// An operation has nothing to say for up to a tenth of a second.
    slow: u16 = 0,
    /// A zero-copy send is refused (-EOPNOTSUPP, -ENOBUFS): the socket cannot, or no memory may be
    /// locked.
    zero_copy: u16 = 0,
    /// A zero-copy send is copied: its notification waits for no peer.
    copied: u16 = 0,
    /// A notification that could come is left for a later enter.
    notify_late: u16 = 0,
    /// A notification comes twice: nobody has promised the second one.
    notify_stray: u16 = 0,
    /// A datagram finds no room (-EAGAIN), is refused (-EPERM), is not split (-EMSGSIZE), or the
    /// network's answer to it (-ECONNREFUSED) waits for whoever comes next.
    datagram_full: u16 = 0,
    datagram_refused: u16 = 0,
    datagram_whole: u16 = 0,
    datagram_answered: u16 = 0,
    /// A descriptor that comes finds no place (MSG_CTRUNC).
    passing: u16 = 0,
    /// A splice(2) moves nothing (-EAGAIN), a pipe is not to be had (-EMFILE).
    splice: u16 = 0,
    pipe: u16 = 0,
    /// A registered buffer is refused (-ENOMEM).
    buffer_set: u16 = 0,
};

/// How often each fault struck.
pub const Struck = outcomes.Table(std.meta.FieldEnum(Faults), enum { struck });

pub const Fate = struct {
    /// Small and fast: a simulated kernel asks it more often than anything else.
    prng: std.Random.SplitMix64,
    faults: Faults,
    struck: Struck = .{},

    pub fn init(seed: u64, faults: Faults) Fate {
        return .{ .prng = .init(seed), .faults = faults };
    }

    pub fn chance(fate: *Fate, permille: u16) bool {
        if (permille == 0) return false; // takes nothing from the generator
        return fate.below(1000) < permille;
    }

    /// Whether the fault of this name strikes now.
    pub inline fn strikes(fate: *Fate, comptime fault: []const u8) bool {
        if (!fate.chance(@field(fate.faults, fault))) return false;
        fate.struck.count(@field(std.meta.FieldEnum(Faults), fault), .struck);
        return true;
    }

    /// 0 ≤ result < `limit`.
    pub inline fn below(fate: *Fate, limit: u32) u32 {
        // The high half of a product: faster than std's exact way, and even enough.
        return @intCast((fate.prng.next() >> 32) * limit >> 32);
    }

    /// 1 ≤ result ≤ `most`: all of it half of the time, so that partial and whole both happen.
    pub fn part(fate: *Fate, most: usize) usize {
        if (most <= 1 or fate.chance(500)) return most;
        return 1 + fate.below(@intCast(most));
    }

    pub fn one_of(fate: *Fate, comptime T: type, choices: []const T) T {
        return choices[fate.below(@intCast(choices.len))];
    }
};

test "the same seed gives the same fate" {
    var first: Fate = .init(5, .{ .accept = 500 });
    var second: Fate = .init(5, .{ .accept = 500 });
    var struck: u32 = 0;
    for (0..1000) |_| {
        const strikes = first.strikes("accept");
        try std.testing.expectEqual(strikes, second.strikes("accept"));
        try std.testing.expect(!first.strikes("connect"));
        struck += @intFromBool(strikes);
    }
    try std.testing.expect(struck > 400 and struck < 600);
}

//! A forked child that runs one function, for tests that expect it to break.
//!
//! An assert ends its whole process: what may hit one runs in a child, and the parent judges how it
//! ended. The child says nothing, and the CPU time that it may take is bounded. Called by
//! `testing/canary.zig` and `send_chain.zig`; no part of a ring, which a child never owns (I11).

const std = @import("std");
const linux = std.os.linux;

pub const End = union(enum) {
    /// The function's value.
    returned: u8,
    /// By SIGABRT of a failed assert, SIGSEGV of a wild address, or the like.
    died,
    /// It took all of its time.
    too_long,
};

/// Seconds of CPU time.
pub fn run(seconds: u32, context: anytype, function: fn (@TypeOf(context)) u8) !End {
    const child = linux.fork();
    switch (linux.errno(child)) {
        .SUCCESS => {},
        else => return error.ForkRefused,
    }
    if (child == 0) {
        silence();
        // The soft limit's SIGXCPU tells a loop from a failed assert.
        const limit: linux.rlimit = .{ .cur = seconds, .max = seconds + 1 };
        if (linux.errno(linux.setrlimit(.CPU, &limit)) != .SUCCESS) linux.exit_group(broken);
        linux.exit_group(function(context));
    }
    var status: u32 = 0;
    while (true) {
        switch (linux.errno(linux.waitpid(@intCast(child), &status, 0))) {
            .SUCCESS => break,
            .INTR => {},
            else => return error.ChildLost,
        }
    }
    if (linux.W.IFEXITED(status)) {
        const value: u8 = @truncate(linux.W.EXITSTATUS(status));
        return if (value == broken) error.ChildBroken else .{ .returned = value };
    }
    return switch (linux.W.TERMSIG(status)) {
        .XCPU, .KILL => .too_long,
        else => .died,
    };
}

/// Memory that the children to come share with this process; zeroed, until `unshare`.
pub fn share(comptime Value: type) !*Value {
    const flags: linux.MAP = .{ .TYPE = .SHARED, .ANONYMOUS = true };
    const protection: linux.PROT = .{ .READ = true, .WRITE = true };
    const address = linux.mmap(null, @sizeOf(Value), protection, flags, -1, 0);
    if (linux.errno(address) != .SUCCESS) return error.OutOfMemory;
    return @ptrFromInt(address);
}

pub fn unshare(value: anytype) void {
    const bytes: [*]const u8 = @ptrCast(value);
    _ = linux.munmap(bytes, @sizeOf(@TypeOf(value.*)));
}

/// No function's value: the child could not be set up.
const broken = 125;

/// A panic that is expected needs no page of trace on the screen, nor the seconds to make it.
fn silence() void {
    const raw = linux.open("/dev/null", .{ .ACCMODE = .RDWR }, 0);
    if (linux.errno(raw) != .SUCCESS) linux.exit_group(broken);
    for ([_]i32{ 1, 2 }) |fd| {
        if (linux.errno(linux.dup2(@intCast(raw), fd)) != .SUCCESS) linux.exit_group(broken);
    }
}

test "a child's value, its death and its endless loop are told apart" {
    const behaviour = struct {
        fn give(value: u8) u8 {
            return value;
        }
        fn die(value: u8) u8 {
            std.debug.assert(value == 0);
            return value;
        }
        fn loop(value: u8) u8 {
            while (true) std.mem.doNotOptimizeAway(value);
        }
    };
    const seven: u8 = 7;
    try std.testing.expectEqual(End{ .returned = 7 }, try run(10, seven, behaviour.give));
    try std.testing.expectEqual(End.died, try run(10, seven, behaviour.die));
    try std.testing.expectEqual(End.too_long, try run(1, seven, behaviour.loop));
}

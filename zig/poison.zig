//! Free memory, made to stand out in tests and Debug builds: who still reads it sees 0xAA.
//!
//! Pools tell what they take back and what they give out. Where a program is built for valgrind
//! and runs under it, touching what is free is an error of its own. In other builds nothing
//! remains of this.

const std = @import("std");
const builtin = @import("builtin");
const memcheck = std.valgrind.memcheck;

pub const is_active = builtin.is_test or builtin.mode == .Debug;

pub const pattern: u8 = 0xaa;

/// Nobody may touch these bytes until they are given out again.
pub inline fn released(bytes: []u8) void {
    if (!is_active) return;
    @memset(bytes, pattern);
    if (builtin.valgrind_support) memcheck.makeMemNoAccess(bytes);
}

/// The program runs under valgrind, some fifty times slower.
pub fn is_watched() bool {
    return builtin.valgrind_support and std.valgrind.runningOnValgrind() > 0;
}

pub inline fn acquired(bytes: []u8) void {
    // Defined: the kernel fills it, which valgrind does not see.
    if (is_active and builtin.valgrind_support) memcheck.makeMemDefined(bytes);
}

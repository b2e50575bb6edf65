//! The simulated kernel's clock: it moves when the simulation says so, and a little when looked at.
//!
//! Nothing waits for it: a run over hours of it takes milliseconds.

const std = @import("std");

/// Time passes in enters and a little at each look at the clock.
pub const Clock = struct {
    now: u64 = std.time.ns_per_s,
    looks: u64 = 0,
    /// For tests: the thread loses the processor for so long at each look.
    stall: u64 = 0,

    pub fn pass(clock: *Clock, ns: u64) void {
        clock.now += ns;
    }

    pub fn read(clock: *Clock) u64 {
        clock.looks += 1;
        // Now and then the thread is preempted between two looks.
        clock.now += if (clock.looks % 97 == 0) 3 * std.time.ns_per_ms else 100;
        clock.now += clock.stall;
        return clock.now;
    }
};

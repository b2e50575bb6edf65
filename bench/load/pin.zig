//! Runs a program on one core: `pin CORE PROGRAM ARGUMENTS...`. The process keeps its id.
//!
//! It replaces `taskset`, which is not everywhere, and ties the program's life to the parent's:
//! when the benchmark dies, whatever the reason, the kernel kills what it had started.
const std = @import("std");
const thin_ring = @import("thin_ring");
const linux = std.os.linux;

pub fn main(init: std.process.Init.Minimal) void {
    const arguments = init.args.vector;
    if (arguments.len < 3) thin_ring.fatal("usage: pin CORE PROGRAM ARGUMENTS...", .{});
    const core = thin_ring.number("CORE", std.mem.span(arguments[1]), 0, linux.CPU_SETSIZE * 8 - 1);
    var set: linux.cpu_set_t = @splat(0);
    set[core / @bitSizeOf(usize)] = @as(usize, 1) << @intCast(core % @bitSizeOf(usize));
    linux.sched_setaffinity(0, &set) catch thin_ring.fatal("core {d} is not available", .{core});
    const death_signal = @intFromEnum(linux.PR.SET_PDEATHSIG);
    const kill: usize = @intFromEnum(linux.SIG.KILL);
    thin_ring.check("prctl", linux.prctl(death_signal, kill, 0, 0, 0));

    // The argument vector ends with a null pointer, as execve wants it.
    const rest: [*:null]const ?[*:0]const u8 = @ptrCast(arguments[2..].ptr);
    const environment: [*:null]const ?[*:0]const u8 = @ptrCast(init.environ.block.slice.ptr);
    const rc = linux.execve(arguments[2], rest, environment);
    thin_ring.fail(std.mem.span(arguments[2]), rc);
}

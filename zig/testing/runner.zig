//! Test runner of `zig build test`: runs every test in this process, in order, and ends with
//! `zig: N passed, N failed`.
//!
//! It speaks when something is wrong: a failing test is named with its error, its trace and the
//! seed; a panic names the test that it happened in and counts it and all that it kept from running
//! as failed, so that the last line is true even then. A test that cannot run here says why and
//! returns `error.SkipZigTest`: it is named and counted, and has neither passed nor failed.
//! Arguments: `--seed=N` for `std.testing.random_seed`, other options for the tests that know them,
//! anything else is a part of test names.

const std = @import("std");
const builtin = @import("builtin");

/// The same at every run, so that a failure is one for everybody; `--seed=` explores.
const seed_default = 1;

var passed: usize = 0;
var failed: usize = 0;
var skipped: usize = 0;
var selected: usize = 0;
var current: []const u8 = "before the first test";

/// In a forked child that is expected to break.
pub var panics_quietly = false;

/// Where such a child's panic says why, for its parent.
pub var last_words: ?struct { buffer: *[256]u8, len: *usize } = null;

/// `--name=value` that is not the runner's own.
pub var options: []const [:0]const u8 = &.{};

pub const panic = std.debug.FullPanic(panic_in_test);

fn panic_in_test(message: []const u8, first_trace_address: ?usize) noreturn {
    if (panics_quietly) {
        if (last_words) |words| {
            const text = std.fmt.bufPrint(words.buffer, "panic: {s} at 0x{x}", .{
                message, first_trace_address orelse 0,
            }) catch words.buffer;
            words.len.* = text.len;
        }
        std.process.abort();
    }
    std.debug.print("zig: panic in {s} (seed {d})\n", .{ current, std.testing.random_seed });
    print_counts(selected - passed - skipped);
    std.debug.defaultPanic(message, first_trace_address);
}

fn print_counts(failed_count: usize) void {
    if (skipped > 0) std.debug.print("zig: {d} skipped\n", .{skipped});
    std.debug.print("zig: {d} passed, {d} failed\n", .{ passed, failed_count });
}

pub fn main(init: std.process.Init.Minimal) void {
    var arguments_buffer: [8192]u8 = undefined;
    var arguments_allocator: std.heap.FixedBufferAllocator = .init(&arguments_buffer);
    const arguments = init.args.toSlice(arguments_allocator.allocator()) catch
        @panic("the arguments are longer than 8192 bytes");

    std.testing.environ = init.environ;
    std.testing.random_seed = seed_default;
    options = arguments[1..];
    var filter: []const u8 = "";
    for (arguments[1..]) |argument| {
        if (std.mem.startsWith(u8, argument, "--seed=")) {
            std.testing.random_seed = std.fmt.parseUnsigned(u32, argument["--seed=".len..], 0) catch
                @panic("--seed= takes a number of 32 bits");
        } else if (!std.mem.startsWith(u8, argument, "--")) filter = argument;
    }

    for (builtin.test_functions) |function| {
        if (is_selected(function.name, filter)) selected += 1;
    }
    for (builtin.test_functions) |function| {
        if (is_selected(function.name, filter)) run(init, function);
    }
    print_counts(failed);
    if (failed > 0 or passed == 0) std.process.exit(1);
}

/// The nameless test of the root file only imports the others.
fn is_selected(name: []const u8, filter: []const u8) bool {
    return !std.mem.eql(u8, name, "unit_tests.test_0") and
        std.mem.indexOf(u8, name, filter) != null;
}

fn run(init: std.process.Init.Minimal, function: std.builtin.TestFn) void {
    current = function.name;
    std.testing.allocator_instance = .{};
    std.testing.io_instance = .init(std.testing.allocator, .{
        .argv0 = .init(init.args),
        .environ = init.environ,
    });
    const outcome = function.func();
    std.testing.io_instance.deinit();
    const leaked = std.testing.allocator_instance.deinit() == .leak;
    if (outcome) |_| {
        if (!leaked) {
            passed += 1;
            return;
        }
        std.debug.print("zig: FAILED {s}: leaked memory\n", .{function.name});
    } else |err| {
        if (err == error.SkipZigTest and !leaked) {
            std.debug.print("zig: skipped {s}\n", .{function.name});
            skipped += 1;
            return;
        }
        std.debug.print("zig: FAILED {s}: {t} (seed {d})\n", .{
            function.name,
            err,
            std.testing.random_seed,
        });
        if (@errorReturnTrace()) |trace| std.debug.dumpErrorReturnTrace(trace);
    }
    failed += 1;
}

//! Builds the library, `ts/abi.ts` and the unit tests. Without arguments: library and `ts/abi.ts`.
//!
//! The library is one file without libc, so that it loads under glibc and musl alike; it is
//! ReleaseSafe because an engine that feeds the kernel addresses pays for its checks gladly.

const std = @import("std");

const Modules = struct {
    b: *std.Build,
    target: std.Build.ResolvedTarget,
    optimize: std.builtin.OptimizeMode,
};

pub fn build(b: *std.Build) void {
    const modules: Modules = .{
        .b = b,
        .target = b.standardTargetOptions(.{}),
        // standardOptimizeOption would make Debug the default.
        .optimize = b.option(
            std.builtin.OptimizeMode,
            "optimize",
            "Safety checks and speed (default: ReleaseSafe)",
        ) orelse .ReleaseSafe,
    };

    b.installArtifact(library(modules, "bun_uring", "zig/exports.zig"));
    add_faults(modules);
    const abi_step = add_abi(b);
    b.getInstallStep().dependOn(abi_step);
    add_tests(modules);
    add_simulation(modules);

    const format = b.addFmt(.{ .paths = &.{ "zig", "build.zig" }, .check = true });
    b.step("fmt", "Check the formatting of all Zig files").dependOn(&format.step);
}

fn library(modules: Modules, name: []const u8, root: []const u8) *std.Build.Step.Compile {
    const b = modules.b;
    return b.addLibrary(.{
        .name = name,
        .linkage = .dynamic,
        .root_module = b.createModule(.{
            .root_source_file = b.path(root),
            .target = modules.target,
            .optimize = modules.optimize,
            .link_libc = false,
            .pic = true,
            .strip = true,
            .unwind_tables = .none,
        }),
    });
}

/// The library with rules that force results (`testing/faults.zig`): for tests, and apart from what
/// is packed. Compiled as they are.
fn add_faults(modules: Modules) void {
    const b = modules.b;
    const faults = library(modules, "bun_uring_faults", "zig/exports_faults.zig");
    faults.use_llvm = modules.target.result.cpu.arch != .x86_64;
    const place: std.Build.InstallDir = .{ .custom = "test" };
    const kept = b.addInstallArtifact(faults, .{ .dest_dir = .{ .override = place } });
    b.step("faults", "Build the library whose results tests can force").dependOn(&kept.step);
}

/// Tests have the library's safety checks. Zig's own code generator, where it is ready, compiles
/// them in 2 s, LLVM in 35 s; `-Dtest-llvm` builds them as the library is built, and
/// `-Dtest-valgrind` runs them, the random ones shorter, where each use of free memory is seen.
fn add_tests(modules: Modules) void {
    const b = modules.b;
    const llvm = b.option(bool, "test-llvm", "Compile the unit tests with LLVM") orelse false;
    const watched = b.option(bool, "test-valgrind", "Run the unit tests in valgrind") orelse false;
    const tests = b.addTest(.{
        .root_module = b.createModule(.{
            .root_source_file = b.path("zig/unit_tests.zig"),
            .target = modules.target,
            .optimize = modules.optimize,
            .link_libc = false,
            .error_tracing = true,
            .valgrind = watched,
            // What valgrind 3.19 can read.
            .dwarf_format = if (watched) .@"32" else null,
        }),
        .test_runner = .{ .path = b.path("zig/testing/runner.zig"), .mode = .simple },
        .use_llvm = llvm or watched or modules.target.result.cpu.arch != .x86_64,
    });
    const run = if (watched)
        b.addSystemCommand(&.{ "valgrind", "--quiet", "--error-exitcode=1" })
    else
        b.addRunArtifact(tests);
    if (watched) run.addArtifactArg(tests);
    // Inherited: seeds and traces show as they come. It also makes the step run every time.
    run.stdio = .inherit;
    if (b.args) |arguments| run.addArgs(arguments);
    b.step("test", "Run the unit tests; -- [--seed=N] [part of a name]").dependOn(&run.step);
    const kept = b.addInstallArtifact(tests, .{ .dest_sub_path = "tests" });
    b.step("install-tests", "Keep the unit tests as zig-out/bin/tests").dependOn(&kept.step);
}

/// The schedules for as long as one likes, at the speed that the library has.
fn add_simulation(modules: Modules) void {
    const b = modules.b;
    const simulation = b.addTest(.{
        .name = "simulate",
        .root_module = b.createModule(.{
            .root_source_file = b.path("zig/simulate.zig"),
            .target = modules.target,
            .optimize = modules.optimize,
            .link_libc = false,
        }),
        .test_runner = .{ .path = b.path("zig/testing/runner.zig"), .mode = .simple },
        .filters = &.{"simulate.test.simulate"},
        .use_llvm = true,
    });
    const run = b.addRunArtifact(simulation);
    run.stdio = .inherit;
    if (b.args) |arguments| run.addArgs(arguments);
    const help = "Run the schedules; -- --events=N [--seed=N] [--kind=KIND] [--bug=NAME]";
    b.step("simulate", help).dependOn(&run.step);
}

/// Generates ts/abi.ts: the program is built for this machine, whatever the library is built for.
fn add_abi(b: *std.Build) *std.Build.Step {
    const generator = b.addExecutable(.{
        .name = "abi_typescript",
        .root_module = b.createModule(.{
            .root_source_file = b.path("zig/abi_typescript.zig"),
            .target = b.graph.host,
            // Built often and run for a millisecond.
            .optimize = .Debug,
        }),
    });
    const generated = b.addRunArtifact(generator).captureStdOut(.{});
    const kept = b.addInstallFile(generated, "abi.ts");

    const update = b.allocator.create(UpdateAbi) catch @panic("OOM");
    update.* = .{
        .step = .init(.{
            .id = .custom,
            .name = "update ts/abi.ts",
            .owner = b,
            .makeFn = UpdateAbi.make,
        }),
        .generated = generated,
    };
    generated.addStepDependencies(&update.step);

    const step = b.step("abi", "Generate ts/abi.ts; with CI set, refuse a stale one");
    step.dependOn(&update.step);
    step.dependOn(&kept.step);
    return step;
}

/// Writes the generated text over the committed one when they differ. Where CI is set, nobody would
/// commit the new text, so a difference is an error there.
const UpdateAbi = struct {
    step: std.Build.Step,
    generated: std.Build.LazyPath,

    const sub_path = "ts/abi.ts";
    const size_max: std.Io.Limit = .limited(1 << 20);

    fn make(step: *std.Build.Step, options: std.Build.Step.MakeOptions) !void {
        _ = options;
        const b = step.owner;
        const io = b.graph.io;
        const update: *UpdateAbi = @fieldParentPtr("step", step);
        const cwd = std.Io.Dir.cwd();
        const root = b.build_root.handle;

        const wanted_path = try update.generated.getPath3(b, step).toString(b.allocator);
        const wanted = try cwd.readFileAlloc(io, wanted_path, b.allocator, size_max);
        const present = root.readFileAlloc(io, sub_path, b.allocator, size_max) catch |err|
            switch (err) {
                error.FileNotFound => "",
                else => return err,
            };
        if (std.mem.eql(u8, wanted, present)) return;
        if (b.graph.environ_map.get("CI") != null) {
            return step.fail(sub_path ++ " is stale: run `npm run build` and commit it", .{});
        }
        try root.writeFile(io, .{ .sub_path = sub_path, .data = wanted });
    }
};

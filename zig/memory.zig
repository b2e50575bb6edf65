//! Memory of a ring: the slab, which JavaScript sees and the kernel writes to, and the private
//! mapping with everything else. Two mappings, made at open, never grown.
//!
//!     slab     | control | records | scratch | receive buffers | receive blocks | staging blocks |
//!     private  | Engine | provided-buffer rings | buffer states | staging links | slot tables |
//!
//! Both stay out of forked children. Untouched pages cost nothing, so tables are sized generously.

const std = @import("std");
const abi = @import("abi.zig");
const linux = @import("kernel.zig").linux;

pub const page_size = 4096;
const receive_blocks_max = 1024;
const receive_block_size_max = 1 << 24;
pub const Mapping = linux.Mapping;

const kinds = @typeInfo(abi.OperationKind).@"enum".fields.len;
/// A set of operations' kinds. A machine word: a set of exactly as many bits is read in pieces.
pub const Kinds = std.bit_set.IntegerBitSet(64);

/// Sizes after defaults and limits were applied.
pub const Config = struct {
    entries: u32,
    cq_entries: u32,
    receive_buffers: u32,
    receive_buffer_size: u32,
    receive_blocks: u32 = 0,
    receive_block_size: u32 = 1 << 20, // a large message in one piece
    hold_buffers: u32 = 8, // several messages of a pipeline, a fraction of the ring
    hold_bytes: u32 = 128 * 1024,
    connections: u32,
    listeners: u32,
    operations: u32,
    staging_blocks: u32,
    high_water_mark: u32,
    /// Pieces of memory that wait to be sent in place; as many as operations by default, which most
    /// of them are.
    segments: u32 = 65536,
    /// Off unless asked for.
    zero_copy_min: u32 = std.math.maxInt(u32),
    splice_min: u32 = 32 * 1024, // below, two copies cost no more: docs/forwarding.md
    features_disabled: std.EnumSet(abi.Feature),
    operations_disabled: Kinds,
    posts: u32 = 4096, // a turn's worth of 16 posters; 24 bytes each

    /// Defaults, each with its reason.
    const defaults: Config = .{
        .entries = 1024, // a turn's worth of submissions for 512 busy connections, twice
        .cq_entries = 8192, // multishot posts without asking; below 4096 it overflows (KERNEL)
        .receive_buffers = 512,
        .receive_buffer_size = 16384, // the largest size at which multishot still wins
        .receive_blocks = 16,
        .connections = 65536,
        .listeners = 256,
        .operations = 65536,
        .staging_blocks = 16384, // 32 MiB when every block is in use
        .high_water_mark = 256 * 1024, // one full send in flight, or filling
        .features_disabled = .initEmpty(),
        .operations_disabled = .initEmpty(),
    };

    pub fn from(options: *const abi.RingOptions) error{Invalid}!Config {
        var config = defaults;
        inline for (.{
            "entries",         "cq_entries",     "receive_buffers",    "receive_buffer_size",
            "connections",     "listeners",      "operations",         "staging_blocks",
            "high_water_mark", "receive_blocks", "receive_block_size", "hold_buffers",
            "hold_bytes",      "posts",
        }) |name| {
            const asked = @field(options, name);
            if (asked != 0) @field(config, name) = asked;
        }
        if (options.zero_copy_min != 0) config.zero_copy_min = options.zero_copy_min;
        if (options.splice_min != 0) config.splice_min = options.splice_min;
        if (config.receive_blocks == std.math.maxInt(u32)) config.receive_blocks = 0;
        inline for (@typeInfo(abi.Feature).@"enum".fields) |field| {
            const feature: abi.Feature = @enumFromInt(field.value);
            if (options.features_disabled >> field.value & 1 != 0) {
                config.features_disabled.insert(feature);
            }
        }
        for (0..kinds) |kind| {
            const words = [2]u32{
                options.operations_disabled_low,
                options.operations_disabled_high,
            };
            const word = words[kind / 32];
            if (word >> @intCast(kind % 32) & 1 != 0) config.operations_disabled.set(kind);
        }
        try config.check();
        return config;
    }

    fn check(config: *const Config) error{Invalid}!void {
        const power = std.math.isPowerOfTwo;
        // Two at least: an operation and its linked time-out go together.
        if (!power(config.entries) or config.entries < 2) return error.Invalid;
        if (config.entries > 32768) return error.Invalid;
        if (!power(config.cq_entries) or config.cq_entries < 4096) return error.Invalid;
        if (config.cq_entries > 131072 or config.cq_entries < config.entries) return error.Invalid;
        if (!power(config.receive_buffers)) return error.Invalid;
        if (config.receive_buffers > abi.receive_buffers_max) return error.Invalid;
        if (config.receive_buffer_size < 64) return error.Invalid;
        if (config.receive_buffer_size > abi.receive_buffer_size_max) return error.Invalid;
        if (config.receive_buffer_size % 64 != 0) return error.Invalid; // cache lines
        const blocks = config.receive_blocks;
        if (blocks != 0 and !power(blocks)) return error.Invalid;
        if (blocks > receive_blocks_max) return error.Invalid;
        if (config.receive_block_size % page_size != 0) return error.Invalid;
        if (config.receive_block_size > receive_block_size_max) return error.Invalid;
        if (config.hold_bytes > std.math.maxInt(i32)) return error.Invalid;
        for ([_]u32{ config.connections, config.listeners, config.operations }) |count| {
            if (count > abi.slots_max) return error.Invalid;
        }
        if (config.staging_blocks > 1 << 20) return error.Invalid;
        if (!power(config.posts) or config.posts < 2 or config.posts > 1 << 20) {
            return error.Invalid;
        }
        if (config.high_water_mark > 1 << 30) return error.Invalid;
        // Offsets in records are u32.
        if (Layout.of(config).slab_size > std.math.maxInt(u32)) return error.Invalid;
    }
};

/// Byte offsets in the slab.
pub const Layout = struct {
    arguments_offset: u32,
    records_offset: u32,
    scratch_offset: u32,
    receive_offset: u32,
    blocks_offset: u64,
    staging_offset: u64,
    slab_size: u64,

    pub fn of(config: *const Config) Layout {
        const arguments: u32 = page_size / 2; // the control words have the first half
        const records: u32 = page_size;
        const scratch = records + abi.records_max * @sizeOf(abi.Record);
        const receive = scratch + abi.scratch_size;
        const receive_size = @as(u64, config.receive_buffers) * config.receive_buffer_size;
        const blocks = std.mem.alignForward(u64, receive + receive_size, page_size);
        const blocks_size = @as(u64, config.receive_blocks) * config.receive_block_size;
        const staging = blocks + blocks_size;
        const staging_size = @as(u64, config.staging_blocks) * abi.staging_block_size;
        return .{
            .arguments_offset = arguments,
            .records_offset = records,
            .scratch_offset = scratch,
            .receive_offset = receive,
            .blocks_offset = blocks,
            .staging_offset = staging,
            .slab_size = std.mem.alignForward(u64, staging + staging_size, page_size),
        };
    }
};

pub const Bump = linux.Bump;

pub fn map(size_bytes: usize) error{OutOfMemory}!Mapping {
    const mapping = try linux.page_map(std.mem.alignForward(usize, size_bytes, page_size));
    linux.page_keep_from_fork(mapping);
    return mapping;
}

pub const unmap = linux.page_unmap;

test "zero options mean the defaults, and odd ones are refused" {
    var options = std.mem.zeroes(abi.RingOptions);
    const config = try Config.from(&options);
    try std.testing.expectEqual(Config.defaults.cq_entries, config.cq_entries);
    inline for (.{
        .{ "entries", 3 },               .{ "cq_entries", 2048 },
        .{ "receive_buffers", 3 },       .{ "receive_buffers", 65536 },
        .{ "receive_buffer_size", 100 }, .{ "receive_buffer_size", 1 << 21 },
        .{ "connections", 1 << 24 },     .{ "staging_blocks", 1 << 21 },
        .{ "posts", 3 },                 .{ "posts", 1 << 21 },
        .{ "receive_blocks", 3 },        .{ "receive_blocks", 2048 },
        .{ "receive_block_size", 4095 }, .{ "receive_block_size", 1 << 25 },
        .{ "hold_bytes", 1 << 31 },
    }) |case| {
        options = std.mem.zeroes(abi.RingOptions);
        @field(options, case[0]) = case[1];
        try std.testing.expectError(error.Invalid, Config.from(&options));
    }
}

//! Bytes that say where they belong: each stream is a window on one long periodic table.
//!
//! A byte that is lost, doubled, swapped or taken from another stream makes the next bytes differ,
//! so that one comparison of slices checks content and order. Nothing is copied to write a slice.

const std = @import("std");
const assert = std.debug.assert;

/// A prime, so that no power of two (the sizes of blocks and buffers) is hidden by it.
const period = 65_521;
/// The longest slice that can be asked for.
pub const slice_max = 256 * 1024;

var table: [period + slice_max]u8 = undefined;
var filled = false;

/// The bytes of the stream `key` from `position` on.
pub fn bytes(key: u64, position: u64, len: usize) []const u8 {
    assert(len <= slice_max);
    if (!filled) fill();
    const start: usize = @intCast((key % period + position % period) % period);
    return table[start..][0..len];
}

pub fn matches(key: u64, position: u64, seen: []const u8) bool {
    return std.mem.eql(u8, bytes(key, position, seen.len), seen);
}

fn fill() void {
    var prng: std.Random.DefaultPrng = .init(0);
    prng.random().bytes(table[0..period]);
    for (table[period..], 0..) |*byte, i| byte.* = table[i];
    filled = true;
}

test "a stream goes on where a slice of it ended, and differs from its neighbours" {
    var whole: [300_000]u8 = undefined;
    const first = slice_max - 5;
    @memcpy(whole[0..first], bytes(77, 0, first));
    @memcpy(whole[first..], bytes(77, first, whole.len - first));
    try std.testing.expect(matches(77, 0, whole[0..slice_max]));
    try std.testing.expect(matches(77, 1000, whole[1000..2000]));
    try std.testing.expect(!matches(77, 1001, whole[1000..2000]));
    try std.testing.expect(!matches(78, 1000, whole[1000..2000]));
}

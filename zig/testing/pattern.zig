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
    return equal(bytes(key, position, seen.len), seen);
}

/// Word by word: std's way is byte by byte with the code generator that compiles the tests.
fn equal(first: []const u8, second: []const u8) bool {
    assert(first.len == second.len);
    var at: usize = 0;
    while (at + 8 <= first.len) : (at += 8) {
        const one: *align(1) const u64 = @ptrCast(first[at..]);
        const other: *align(1) const u64 = @ptrCast(second[at..]);
        if (one.* != other.*) return false;
    }
    while (at < first.len) : (at += 1) if (first[at] != second[at]) return false;
    return true;
}

fn fill() void {
    var prng: std.Random.DefaultPrng = .init(0);
    prng.random().bytes(table[0..period]);
    for (table[period..], 0..) |*byte, i| byte.* = table[i];
    filled = true;
}

test "slices of any length differ if one byte does" {
    var seen: [20]u8 = undefined;
    for (0..seen.len + 1) |len| {
        @memcpy(seen[0..len], bytes(3, 5, len));
        try std.testing.expect(matches(3, 5, seen[0..len]));
        for (0..len) |at| {
            seen[at] +%= 1;
            try std.testing.expect(!matches(3, 5, seen[0..len]));
            seen[at] -%= 1;
        }
    }
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

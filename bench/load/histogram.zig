//! Latency histogram: powers of two, each divided into 64 steps, so a value is kept to within 1.6
//! %.
//!
//! Used by the load generator for each message; nothing is allocated and recording is a shift and
//! an add.
const std = @import("std");

const step_bits = 6;
const steps = 1 << step_bits;
const groups = 64 - step_bits + 1;

pub const Histogram = struct {
    counts: [groups * steps]u64 = @splat(0),
    total: u64 = 0,
    max_ns: u64 = 0,

    pub fn record(histogram: *Histogram, ns: u64) void {
        histogram.counts[place(ns)] += 1;
        histogram.total += 1;
        histogram.max_ns = @max(histogram.max_ns, ns);
    }

    /// The middle of the step that holds the value below which `fraction` of all records lie.
    pub fn quantile_us(histogram: *const Histogram, fraction: f64) f64 {
        if (histogram.total == 0) return 0;
        const rank_float = @ceil(fraction * @as(f64, @floatFromInt(histogram.total)));
        const rank: u64 = @max(1, @as(u64, @intFromFloat(rank_float)));
        var seen: u64 = 0;
        for (histogram.counts, 0..) |count, index| {
            seen += count;
            if (seen >= rank) return @as(f64, @floatFromInt(middle(index))) / 1000;
        }
        return histogram.max_us();
    }

    pub fn max_us(histogram: *const Histogram) f64 {
        return @as(f64, @floatFromInt(histogram.max_ns)) / 1000;
    }
};

/// Values below `steps` have a place of their own; above, the leading bits select group and step.
fn place(ns: u64) usize {
    if (ns < steps) return @intCast(ns);
    const shift: u6 = @intCast(63 - @clz(ns) - step_bits);
    return (@as(usize, shift) + 1) * steps + @as(usize, @intCast((ns >> shift) - steps));
}

fn middle(index: usize) u64 {
    if (index < 2 * steps) return index;
    const shift: u6 = @intCast(index / steps - 1);
    const low = @as(u64, index % steps + steps) << shift;
    return low + (@as(u64, 1) << shift) / 2;
}

test "every value falls into a step whose middle is within 1.6 % of it" {
    var value: u64 = 1;
    while (value < 1 << 40) : (value = value * 3 / 2 + 1) {
        const found: f64 = @floatFromInt(middle(place(value)));
        const exact: f64 = @floatFromInt(value);
        try std.testing.expect(@abs(found - exact) / exact <= 1.0 / 64.0);
    }
}

test "quantiles of one to a thousand microseconds are where they should be" {
    var histogram = Histogram{};
    for (1..1001) |us| histogram.record(us * 1000);
    try std.testing.expectApproxEqRel(500, histogram.quantile_us(0.5), 0.02);
    try std.testing.expectApproxEqRel(990, histogram.quantile_us(0.99), 0.02);
    try std.testing.expectEqual(1000, histogram.max_us());
}

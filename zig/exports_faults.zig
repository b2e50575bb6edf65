//! Root of the library that the tests force results with: `zig build faults` makes
//! `libbun_uring_faults.so`. It is the library, and the calls by which a test adds rules.
//!
//! Nothing of it is in the library that programs load: `testing/faults.zig` looks for
//! `forces_results` in the root file. tests/faults.test.ts compares what the two offer.

const std = @import("std");
const exports = @import("exports.zig");
const faults = @import("testing/faults.zig");
const errno = @import("kernel.zig").errno;
const opcodes = @import("kernel/opcodes.zig");

pub const panic = exports.panic;
pub const forces_results = true;

comptime {
    _ = exports;
}

/// `kind` is a name that `faults.kind_of` knows. -EINVAL if a kind cannot end like this.
export fn bu_fault_add(
    kind: [*:0]const u8,
    how: u32,
    nth: u32,
    every: u32,
    result: i32,
) i32 {
    const added = faults.add(.{
        .kind = faults.kind_of(std.mem.span(kind)) orelse return errno.inval,
        .how = std.enums.fromInt(faults.How, how) orelse return errno.inval,
        .nth = nth,
        .every = every,
        .result = result,
    });
    return if (added) 0 else errno.inval;
}

/// Rings that are opened from here on may not use this opcode, as under a policy; below 0 they may
/// use all again.
export fn bu_fault_forbid(opcode: i32) i32 {
    if (opcode >= 256) return errno.inval;
    if (opcode < 0) opcodes.forbidden = .initEmpty() else opcodes.forbidden.set(@intCast(opcode));
    return 0;
}

/// Ends all rules: how often they struck.
export fn bu_fault_clear() u32 {
    return faults.clear();
}

//! Root of `zig build test`: a file's tests run when it is imported here, and only then.
//!
//! tests/tidy.test.ts refuses a file with tests that is missing from this list. The tests
//! themselves stand at the foot of the file that they test.

test {
    _ = @import("abi_layout.zig");
    _ = @import("abi_typescript.zig");
}

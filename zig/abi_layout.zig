//! Reflection on the boundary: which declarations of `abi.zig` and `exports.zig` cross, the rules
//! that they keep, the hash over all of them, and the echo that proves offsets through memory.
//!
//! `abi_typescript.zig` prints what is listed here, `exports.zig` hands out `layout_hash` and
//! `echo`. Everything but `echo` happens at compile time; a rule that is broken does not compile.

const std = @import("std");
const abi = @import("abi.zig");
const exports = @import("exports.zig");

/// How one field of a record reads from JavaScript.
pub const Scalar = enum { u32, i32, f64, bytes };

/// A positive number that JavaScript keeps exactly.
const limit_max = (1 << 53) - 1;

/// Refuses what the header of `abi.zig` forbids, and says which scalar a field is.
pub fn scalar_of(comptime Field: type) Scalar {
    return switch (@typeInfo(Field)) {
        .int => if (Field == u32) .u32 else if (Field == i32) .i32 else refuse_field(Field),
        .float => if (Field == f64) .f64 else refuse_field(Field),
        .@"enum" => |info| if (info.tag_type == u32) .u32 else refuse_field(Field),
        .array => |info| if (info.child == u8) .bytes else refuse_field(Field),
        else => refuse_field(Field),
    };
}

fn refuse_field(comptime Field: type) noreturn {
    @compileError("abi.zig: a field must be u32, i32, f64, enum(u32) or [N]u8, not " ++
        @typeName(Field));
}

pub fn check_struct(comptime name: []const u8, comptime Struct: type) void {
    const info = @typeInfo(Struct).@"struct";
    if (info.layout != .@"extern") @compileError("abi.zig: " ++ name ++ " is not extern");
    var end: usize = 0;
    for (info.fields) |field| {
        _ = scalar_of(field.type);
        if (@offsetOf(Struct, field.name) != end) {
            @compileError("abi.zig: implicit padding before " ++ name ++ "." ++ field.name);
        }
        end += @sizeOf(field.type);
    }
    if (@sizeOf(Struct) != end) @compileError("abi.zig: implicit padding at the end of " ++ name);
}

/// The type's name in the symbol table of bun:ffi.
pub fn ffi_type(comptime Type: type) []const u8 {
    if (Type == u32) return "u32";
    if (Type == i32) return "i32";
    if (Type == f64) return "f64";
    if (Type == void) return "void";
    return switch (@typeInfo(Type)) {
        .pointer => "ptr",
        .optional => |optional| switch (@typeInfo(optional.child)) {
            .pointer => "ptr",
            else => refuse_signature(Type),
        },
        else => refuse_signature(Type),
    };
}

fn refuse_signature(comptime Type: type) noreturn {
    @compileError("exports.zig: signatures are made of u32, i32, f64 and pointers, not " ++
        @typeName(Type));
}

pub const DeclarationKind = enum { limit, enumeration, record };

pub fn kind_of(comptime Namespace: type, comptime name: []const u8) DeclarationKind {
    const value = @field(Namespace, name);
    if (@TypeOf(value) == u32) return .limit;
    if (@TypeOf(value) != type) @compileError("abi.zig: the limit " ++ name ++ " is not a u32");
    return switch (@typeInfo(value)) {
        .@"enum" => .enumeration,
        .@"struct" => .record,
        else => @compileError("abi.zig: " ++ name ++ " is neither a limit, an enum nor a struct"),
    };
}

/// The records of a namespace in the order in which they are written: the numbering of `echo`.
pub fn records_of(comptime Namespace: type) []const type {
    comptime {
        var records: []const type = &.{};
        for (@typeInfo(Namespace).@"struct".decls) |declaration| {
            if (kind_of(Namespace, declaration.name) != .record) continue;
            records = records ++ [_]type{@field(Namespace, declaration.name)};
        }
        return records;
    }
}

/// `panic` is for the compiler; everything else that is public in `exports.zig` is a C symbol.
pub fn symbols_of(comptime Namespace: type) []const []const u8 {
    comptime {
        var symbols: []const []const u8 = &.{};
        for (@typeInfo(Namespace).@"struct".decls) |declaration| {
            if (std.mem.startsWith(u8, declaration.name, "bu_")) {
                symbols = symbols ++ [_][]const u8{declaration.name};
            }
        }
        return symbols;
    }
}

/// Hash of everything that JavaScript could get wrong: names, numbers, offsets, types, signatures.
pub const layout_hash: u32 = hash_of(abi, exports);

pub fn hash_of(comptime Abi: type, comptime Exports: type) u32 {
    comptime {
        @setEvalBranchQuota(1_000_000);
        var hash = std.hash.Fnv1a_32.init();
        for (@typeInfo(Abi).@"struct".decls) |declaration| {
            hash_declaration(&hash, declaration.name, @field(Abi, declaration.name));
        }
        for (symbols_of(Exports)) |symbol| hash_signature(&hash, Exports, symbol);
        return hash.final();
    }
}

fn hash_declaration(
    comptime hash: *std.hash.Fnv1a_32,
    comptime name: []const u8,
    comptime value: anytype,
) void {
    hash.update(name);
    if (@TypeOf(value) == u32) {
        hash_number(hash, value);
        return;
    }
    switch (@typeInfo(value)) {
        .@"enum" => |info| for (info.fields) |field| {
            hash.update(field.name);
            hash_number(hash, field.value);
        },
        .@"struct" => |info| {
            hash_number(hash, @sizeOf(value));
            for (info.fields) |field| {
                hash.update(field.name);
                hash.update(@tagName(scalar_of(field.type)));
                hash_number(hash, @offsetOf(value, field.name));
                hash_number(hash, @sizeOf(field.type));
            }
        },
        else => comptime unreachable,
    }
}

fn hash_signature(
    comptime hash: *std.hash.Fnv1a_32,
    comptime Exports: type,
    comptime symbol: []const u8,
) void {
    const info = @typeInfo(@TypeOf(@field(Exports, symbol))).@"fn";
    hash.update(symbol);
    for (info.params) |parameter| hash.update(ffi_type(parameter.type.?));
    hash.update("=");
    hash.update(ffi_type(info.return_type.?));
}

/// The brackets keep neighbouring names and numbers apart.
fn hash_number(comptime hash: *std.hash.Fnv1a_32, comptime number: comptime_int) void {
    if (number < 0 or number > limit_max) @compileError("abi.zig: a number leaves 0 to 2^53");
    hash.update(std.fmt.comptimePrint("<{d}>", .{number}));
}

/// Which way `echo` carries a record.
pub const EchoDirection = enum(u32) { from_record = 0, to_record = 1 };

/// Spreads a record into plain numbers in the order of its fields, or fills it from them; a byte
/// array gives one number per byte. Fields are reached by name, never by offset, so the layout test
/// sees every difference between the compiler's offsets and the generated ones. Returns the number
/// of values, or -EINVAL.
pub fn echo(kind: u32, direction: u32, record: [*]u8, values: [*]align(1) f64) i32 {
    if (direction > @intFromEnum(EchoDirection.to_record)) return invalid_argument;
    inline for (comptime records_of(abi), 0..) |Struct, index| {
        if (kind == index) {
            const typed: *align(1) Struct = @ptrCast(record);
            return echo_fields(Struct, @enumFromInt(direction), typed, values);
        }
    }
    return invalid_argument;
}

const invalid_argument: i32 = -@as(i32, @intFromEnum(std.posix.E.INVAL));

fn echo_fields(
    comptime Struct: type,
    direction: EchoDirection,
    record: *align(1) Struct,
    values: [*]align(1) f64,
) i32 {
    var count: u32 = 0;
    inline for (@typeInfo(Struct).@"struct".fields) |field| {
        // Through the field's address: a test value need not be a legal enum value.
        const address = &@field(record, field.name);
        switch (comptime scalar_of(field.type)) {
            .u32 => echo_number(u32, direction, @ptrCast(address), &values[count]),
            .i32 => echo_number(i32, direction, @ptrCast(address), &values[count]),
            .f64 => echo_number(f64, direction, @ptrCast(address), &values[count]),
            .bytes => for (address, 0..) |*byte, index| {
                echo_number(u8, direction, byte, &values[count + index]);
            },
        }
        count += if (comptime scalar_of(field.type) == .bytes) field_len(field.type) else 1;
    }
    return @intCast(count);
}

fn field_len(comptime Field: type) u32 {
    return @typeInfo(Field).array.len;
}

fn echo_number(
    comptime Number: type,
    direction: EchoDirection,
    number: *align(1) Number,
    value: *align(1) f64,
) void {
    switch (direction) {
        .from_record => value.* = if (Number == f64) number.* else @floatFromInt(number.*),
        // lossyCast: a value out of range is the test's mistake and must not be a panic.
        .to_record => number.* = if (Number == f64)
            value.*
        else
            std.math.lossyCast(Number, value.*),
    }
}

comptime {
    @setEvalBranchQuota(100_000);
    for (@typeInfo(abi).@"struct".decls) |declaration| {
        const value = @field(abi, declaration.name);
        switch (kind_of(abi, declaration.name)) {
            .limit => {},
            .enumeration => if (scalar_of(value) != .u32) refuse_field(value),
            .record => check_struct(declaration.name, value),
        }
    }
}

const testing = std.testing;

const Sample = struct {
    pub const limit: u32 = 7;
    pub const Color = enum(u32) { red = 0, blue = 1 };
    pub const Point = extern struct { x: u32, y: u32 };
};
const SampleExports = struct {
    pub const panic = {};
    pub fn bu_sample(_: u32, _: ?*anyopaque) callconv(.c) i32 {
        return 0;
    }
};

test "any change of a limit, an enum, a record or a signature gives another hash" {
    const hash = comptime hash_of(Sample, SampleExports);
    try testing.expectEqual(hash, comptime hash_of(struct {
        pub const limit: u32 = 7;
        pub const Color = enum(u32) { red = 0, blue = 1 };
        pub const Point = extern struct { x: u32, y: u32 };
    }, SampleExports));
    try testing.expect(hash != comptime hash_of(struct {
        pub const limit: u32 = 8;
        pub const Color = Sample.Color;
        pub const Point = Sample.Point;
    }, SampleExports));
    try testing.expect(hash != comptime hash_of(struct {
        pub const limit: u32 = 7;
        pub const Color = enum(u32) { red = 0, blue = 2 };
        pub const Point = Sample.Point;
    }, SampleExports));
    try testing.expect(hash != comptime hash_of(struct {
        pub const limit: u32 = 7;
        pub const Color = Sample.Color;
        pub const Point = extern struct { y: u32, x: u32 };
    }, SampleExports));
    try testing.expect(hash != comptime hash_of(struct {
        pub const limit: u32 = 7;
        pub const Color = Sample.Color;
        pub const Point = extern struct { x: u32, y: i32 };
    }, SampleExports));
    try testing.expect(hash != comptime hash_of(Sample, struct {
        pub fn bu_sample(_: u32, _: f64) callconv(.c) i32 {
            return 0;
        }
    }));
}

test "the echo carries every field both ways and refuses what it does not know" {
    var record: abi.Address = .{ .family = .ipv6, .port = 7, .text_len = 2, .text = @splat(0) };
    record.text[0] = 'a';
    record.text[abi.address_text_max - 1] = 'z';
    const kind = inline for (comptime records_of(abi), 0..) |Struct, index| {
        if (Struct == abi.Address) break index;
    };
    var values: [3 + abi.address_text_max]f64 = undefined;
    const count = echo(kind, 0, @ptrCast(&record), &values);
    try testing.expectEqual(values.len, @as(usize, @intCast(count)));
    try testing.expectEqualSlices(f64, &.{ 1, 7, 2, 'a' }, values[0..4]);
    try testing.expectEqual('z', values[values.len - 1]);

    values[1] = 70_000;
    try testing.expectEqual(count, echo(kind, 1, @ptrCast(&record), &values));
    try testing.expectEqual(70_000, record.port);
    try testing.expectEqual(invalid_argument, echo(1 << 20, 0, @ptrCast(&record), &values));
    try testing.expectEqual(invalid_argument, echo(kind, 2, @ptrCast(&record), &values));
}

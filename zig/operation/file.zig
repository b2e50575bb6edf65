//! File operations: each takes its fields from `Arguments` and its memory from the operation.
//!
//! `prepare` is all there is to them: a CQE's result is the system call's own, and every one ends
//! in `Engine.settle`. Which fields a kind reads stands above it; the rest is ignored.

const kernel = @import("../kernel.zig");
const Operation = @import("../operation.zig").Operation;
const Sqe = kernel.Sqe;

/// read(2), pread(2): fd, offset, length; bytes into `output`.
pub const Read = struct {
    pub fn prepare(sqe: *Sqe, operation: *Operation) void {
        transfer(sqe, operation, .READ);
    }
};

/// write(2), pwrite(2): fd, offset; bytes of `input`.
pub const Write = struct {
    pub fn prepare(sqe: *Sqe, operation: *Operation) void {
        transfer(sqe, operation, .WRITE);
    }
};

/// The same on a registered buffer: `extra` is its index, `address` inside of it.
pub const ReadFixed = struct {
    pub fn prepare(sqe: *Sqe, operation: *Operation) void {
        transfer(sqe, operation, .READ_FIXED);
        sqe.buf_index = @intCast(operation.arguments.extra);
    }
};

pub const WriteFixed = struct {
    pub fn prepare(sqe: *Sqe, operation: *Operation) void {
        transfer(sqe, operation, .WRITE_FIXED);
        sqe.buf_index = @intCast(operation.arguments.extra);
    }
};

fn transfer(sqe: *Sqe, operation: *Operation, opcode: kernel.Op) void {
    sqe.opcode = opcode;
    sqe.fd = operation.arguments.fd;
    sqe.off = operation.position();
    sqe.addr = operation.data_address();
    sqe.len = operation.arguments.length;
    sqe.rw_flags = operation.arguments.flags;
}

/// preadv2(2): fd, offset; `input` holds the vectors.
pub const Readv = struct {
    pub fn prepare(sqe: *Sqe, operation: *Operation) void {
        vectors(sqe, operation, .READV);
    }
};

pub const Writev = struct {
    pub fn prepare(sqe: *Sqe, operation: *Operation) void {
        vectors(sqe, operation, .WRITEV);
    }
};

fn vectors(sqe: *Sqe, operation: *Operation, opcode: kernel.Op) void {
    const parts = operation.vectors();
    sqe.opcode = opcode;
    sqe.fd = operation.arguments.fd;
    sqe.off = operation.position();
    sqe.addr = @intFromPtr(parts.ptr);
    sqe.len = @intCast(parts.len);
    sqe.rw_flags = operation.arguments.flags;
}

/// fsync(2): fd.
pub const Fsync = struct {
    pub fn prepare(sqe: *Sqe, operation: *Operation) void {
        sqe.opcode = .FSYNC;
        sqe.fd = operation.arguments.fd;
    }
};

/// fdatasync(2): fd.
pub const Datasync = struct {
    pub fn prepare(sqe: *Sqe, operation: *Operation) void {
        Fsync.prepare(sqe, operation);
        sqe.rw_flags = kernel.sqe_flag.datasync;
    }
};

/// sync_file_range(2): fd, offset, length, flags.
pub const SyncFileRange = struct {
    pub fn prepare(sqe: *Sqe, operation: *Operation) void {
        sqe.opcode = .SYNC_FILE_RANGE;
        sqe.fd = operation.arguments.fd;
        sqe.off = operation.position();
        sqe.len = operation.arguments.length;
        sqe.rw_flags = operation.arguments.flags;
    }
};

/// fallocate(2): fd, offset, offset_second as the length, flags as the mode.
pub const Fallocate = struct {
    pub fn prepare(sqe: *Sqe, operation: *Operation) void {
        sqe.opcode = .FALLOCATE;
        sqe.fd = operation.arguments.fd;
        sqe.off = operation.position();
        sqe.addr = operation.position_second();
        sqe.len = operation.arguments.flags;
    }
};

/// ftruncate(2): fd, offset as the length.
pub const Ftruncate = struct {
    pub fn prepare(sqe: *Sqe, operation: *Operation) void {
        sqe.opcode = .FTRUNCATE;
        sqe.fd = operation.arguments.fd;
        sqe.off = operation.position();
    }
};

/// openat(2): fd as the directory, `input` as the path, flags, mode.
pub const Openat = struct {
    pub fn prepare(sqe: *Sqe, operation: *Operation) void {
        sqe.opcode = .OPENAT;
        sqe.fd = operation.arguments.fd;
        sqe.addr = operation.path_address();
        sqe.rw_flags = operation.arguments.flags | kernel.sqe_flag.open_cloexec;
        sqe.len = operation.arguments.mode;
    }
};

/// close(2): fd.
pub const Close = struct {
    pub fn prepare(sqe: *Sqe, operation: *Operation) void {
        sqe.opcode = .CLOSE;
        sqe.fd = operation.arguments.fd;
    }
};

/// statx(2): fd as the directory, `input` as the path, flags, mode as the mask; 256 bytes out.
pub const Statx = struct {
    pub fn prepare(sqe: *Sqe, operation: *Operation) void {
        sqe.opcode = .STATX;
        sqe.fd = operation.arguments.fd;
        sqe.addr = operation.path_address();
        sqe.rw_flags = operation.arguments.flags;
        sqe.len = operation.arguments.mode;
        sqe.off = operation.data_address();
    }
};

/// renameat2(2): fd and fd_second as the directories, two paths, flags.
pub const Rename = struct {
    pub fn prepare(sqe: *Sqe, operation: *Operation) void {
        two_paths(sqe, operation, .RENAMEAT);
        sqe.rw_flags = operation.arguments.flags;
    }
};

/// linkat(2): fd and fd_second as the directories, two paths, flags.
pub const Link = struct {
    pub fn prepare(sqe: *Sqe, operation: *Operation) void {
        two_paths(sqe, operation, .LINKAT);
        sqe.rw_flags = operation.arguments.flags;
    }
};

fn two_paths(sqe: *Sqe, operation: *Operation, opcode: kernel.Op) void {
    sqe.opcode = opcode;
    sqe.fd = operation.arguments.fd;
    sqe.addr = operation.path_address();
    sqe.off = operation.path_second_address();
    sqe.len = @bitCast(operation.arguments.fd_second);
}

/// symlinkat(2): two paths, fd as the directory of the new one.
pub const Symlink = struct {
    pub fn prepare(sqe: *Sqe, operation: *Operation) void {
        sqe.opcode = .SYMLINKAT;
        sqe.fd = operation.arguments.fd;
        sqe.addr = operation.path_address();
        sqe.off = operation.path_second_address();
    }
};

/// unlinkat(2): fd as the directory, a path, flags.
pub const Unlink = struct {
    pub fn prepare(sqe: *Sqe, operation: *Operation) void {
        sqe.opcode = .UNLINKAT;
        sqe.fd = operation.arguments.fd;
        sqe.addr = operation.path_address();
        sqe.rw_flags = operation.arguments.flags;
    }
};

/// mkdirat(2): fd as the directory, a path, mode.
pub const Mkdir = struct {
    pub fn prepare(sqe: *Sqe, operation: *Operation) void {
        sqe.opcode = .MKDIRAT;
        sqe.fd = operation.arguments.fd;
        sqe.addr = operation.path_address();
        sqe.len = operation.arguments.mode;
    }
};

/// splice(2): fd_second at offset_second into fd at offset, length, flags.
pub const Splice = struct {
    pub fn prepare(sqe: *Sqe, operation: *Operation) void {
        sqe.opcode = .SPLICE;
        sqe.fd = operation.arguments.fd;
        sqe.off = operation.position();
        sqe.addr = operation.position_second();
        sqe.len = operation.arguments.length;
        sqe.rw_flags = operation.arguments.flags;
        sqe.splice_fd_in = operation.arguments.fd_second;
    }
};

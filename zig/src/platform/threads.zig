//! Whether the process has threads besides the calling one.

const builtin = @import("builtin");
const atomic = @import("atomic.zig");

/// glibc's word for it (sys/single_threaded.h), since 2.32: it changes before a second thread can run, and only a
/// process's one thread changes it. Other libraries have none.
const single_threaded: ?*const u8 =
    if (builtin.abi.isGnu()) @extern(?*const u8, .{ .name = "__libc_single_threaded", .linkage = .weak }) else null;

/// True where nobody else can be in this code: an atomic exchange may be a load and a store then. False where that is
/// not known.
pub inline fn areNone() bool {
    if (atomic.explored) return false;
    return if (single_threaded) |alone| alone.* != 0 else false;
}

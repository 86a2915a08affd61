//! Whether the process has threads besides the calling one.

const builtin = @import("builtin");
const atomic = @import("atomic.zig");

/// glibc's word for it (sys/single_threaded.h), since 2.32: only a process's one thread changes it, before another can
/// run. Other libraries have none.
const single: ?*const u8 =
    if (builtin.abi.isGnu()) @extern(?*const u8, .{ .name = "__libc_single_threaded", .linkage = .weak }) else null;

/// True where nobody else can be in the allocator: an exchange may be a load and a store then. False where that is not
/// known.
pub inline fn areNone() bool {
    if (atomic.explored) return false;
    return if (single) |word| word.* != 0 else false;
}

/// True where there are others, or were once. False where that is not known.
pub fn areSeveral() bool {
    return if (single) |word| word.* == 0 else false;
}

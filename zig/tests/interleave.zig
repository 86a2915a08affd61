//! The allocator's lock-free parts in every order that a bound allows, by the explorer in `interleave/`, each with
//! defects planted on purpose that the explorer must find. See docs/decisions/0005-interleavings.md.

test {
    _ = @import("interleave/libc.zig");
    _ = @import("interleave/lock.zig");
    _ = @import("interleave/ownership.zig");
    _ = @import("interleave/huge.zig");
    _ = @import("interleave/heaps.zig");
    _ = @import("interleave/forks.zig");
}

//! Canaries: bugs that are planted on purpose, so that a test can show that the fuzzer finds them.
//!
//! Only the fuzzer's own build of the allocator (`build_options.test_hooks`) can plant one, one at a time and at
//! run time. Everywhere else `is` is false at compile time and nothing of a canary is compiled; the roots of the
//! shared objects refuse to be built with the hooks.

const build_options = @import("build_options");

pub const Canary = enum {
    /// A magazine's flush puts one block in the cold magazine and in its slab as well.
    flush_twice,
    /// A slab that is carved up hands out its last block once more.
    slab_twice,
    /// realloc copies one byte less than it must.
    realloc_short,
    /// calloc takes a large block that was used before for one that reads as zero.
    calloc_dirty,
    /// A run that is freed takes the granule behind it along.
    free_run_long,
    /// The pages of the granule behind a dirty one are given back too.
    purge_long,
    /// The handler of fork in the child forgets one lock.
    fork_lock,
    /// A huge block that the OS would not move is no longer known afterwards.
    move_forgets,
    /// The end of a thread loses the blocks of one magazine.
    thread_end_leaks,
    /// No lock keeps anyone out.
    locks_open,
};

pub var planted: if (build_options.test_hooks) ?Canary else void =
    if (build_options.test_hooks) null else {};

pub inline fn is(comptime canary: Canary) bool {
    return build_options.test_hooks and planted == canary;
}

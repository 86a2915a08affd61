//! Every size, shift and limit that two parts of the allocator must agree on.
//! The relations between them are checked at compile time at the foot of the file.

const std = @import("std");
const builtin = @import("builtin");

/// One granule is the unit of the page map and of a slab: a byte of the map speaks for one granule.
pub const granule_shift = 16;
pub const granule_bytes: usize = 1 << granule_shift;

/// A superslab is the unit in which memory for blocks up to `large_bytes_max` comes from the OS.
pub const superslab_shift = 21;
pub const superslab_bytes: usize = 1 << superslab_shift;
pub const superslab_granules = superslab_bytes / granule_bytes;

/// Bits of a user-space address. Linux hands out more only to a program that asks by a hint.
pub const address_bits = if (builtin.cpu.arch == .aarch64) 48 else 47;
pub const granule_count: usize = 1 << (address_bits - granule_shift);
pub const superslab_number_count: usize = 1 << (address_bits - superslab_shift);

/// The largest request of each range. Above `large_bytes_max` a block has a mapping of its own.
pub const tiny_bytes_max: usize = 1024;
pub const small_bytes_max: usize = 128 * 1024;
pub const large_bytes_max: usize = 1024 * 1024;

/// Blocks up to the smallest page: a program that writes all of them writes every page of their slab.
pub const dense_bytes_max: usize = 4096;

/// The largest request there can be: all user addresses. Anything above fails without asking the system.
pub const request_bytes_max: usize = 1 << address_bits;

/// What malloc must guarantee for a request above 8 bytes (`alignof(max_align_t)`).
pub const alignment_default: usize = 16;

/// Blocks are found by words of this many bits, and words by a summary with one bit a word.
pub const word_blocks = 64;
pub const slab_words_max = granule_bytes / 8 / word_blocks;

/// Free granules of the page heap may always stay resident up to a share of the granules in use
/// (1 in 2^`dirty_share_shift`), and never fewer than half a superslab.
pub const dirty_granules_min: u32 = superslab_granules / 2;
pub const dirty_share_shift = 5;

comptime {
    std.debug.assert(superslab_granules == 32);
    std.debug.assert(slab_words_max == 128);
    std.debug.assert(tiny_bytes_max < small_bytes_max);
    std.debug.assert(small_bytes_max < large_bytes_max);
    std.debug.assert(large_bytes_max <= superslab_bytes);
    std.debug.assert(large_bytes_max % granule_bytes == 0);
    std.debug.assert(@sizeOf(usize) == 8);
}

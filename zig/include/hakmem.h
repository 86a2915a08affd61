/* hakmem: the C API of libhakmem.so and libhakmem_preload.so.
 *
 * All functions may be called from any thread. None of them changes errno. A block may be freed by any
 * thread, whichever thread allocated it. Sizes and counts are in bytes unless a name says otherwise.
 *
 * A pointer given back that is not a block of this allocator ends the process with one line on standard error.
 * A block freed twice in a row does so at once; one freed twice otherwise, or a pointer inside a block, when it is
 * flushed from a magazine to its slab; if it is allocated again before that, it goes unnoticed. With HAKMEM_CHECK=1
 * in the environment each of these is noticed at once (docs/MISUSE.md).
 */
#ifndef HAKMEM_H
#define HAKMEM_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

enum hak_result {
    HAK_OK = 0,
    HAK_INVALID_ARGUMENT = 1,
    HAK_OUT_OF_MEMORY = 2
};

/* ---- Blocks ---- */

/* A block of at least size bytes, aligned to 16 (to 8 if size is at most 8); its contents are undefined.
 * A size of 0 gives a block of its own. NULL when memory is out or size is above PTRDIFF_MAX. */
void *hak_malloc(size_t size);

/* count * size bytes, all zero. NULL also when the product overflows. */
void *hak_calloc(size_t count, size_t size);

/* A block of size bytes with the contents of block as far as both reach; block is gone then. NULL when
 * memory is out, and block is as it was. A block of NULL is as hak_malloc(size); a size of 0 frees block and
 * gives NULL. */
void *hak_realloc(void *block, size_t size);

/* Takes a block back. NULL is nothing. */
void hak_free(void *block);

/* A block of at least size bytes at a multiple of alignment. NULL when memory is out, or when alignment is
 * not a power of two. The size need not be a multiple of the alignment. */
void *hak_aligned_alloc(size_t alignment, size_t size);

/* The bytes that may be used of a block: at least what was asked for. 0 for NULL. */
size_t hak_usable_size(void *block);

/* Fills blocks with up to count blocks of size bytes; returns how many it could allocate. */
size_t hak_malloc_batch(size_t size, size_t count, void **blocks);

/* Takes back count blocks; NULLs among them are nothing. */
void hak_free_batch(void **blocks, size_t count);

/* ---- Tiny size classes (blocks of up to 1024 bytes), numbered from 0 ---- */

/* How many there are. */
int hak_tiny_class_count(void);

/* Bytes of a block of the class; 0 when class_idx is out of range. */
size_t hak_tiny_class_size(int class_idx);

/* The class that serves a size; -1 when it is above 1024. */
int hak_tiny_class_of(size_t size);

/* ---- Memory given back ---- */

/* Returns all blocks of a class in the calling thread's magazine and in the class's cold magazine to their
 * slabs, and unmaps superslabs that are empty. Does nothing when class_idx is out of range. */
void hak_tiny_magazine_flush(int class_idx);

/* The same for every size class, tiny or not; other threads flush at their next slow path. */
void hak_tiny_magazine_flush_all(void);

/* As hak_tiny_magazine_flush_all. Gives back every superslab and every 64 KiB granule that holds no block;
 * pages inside slabs in use stay. Returns the bytes given back. */
size_t hak_purge(void);

/* ---- Seeing inside ---- */

/* Bytes unless a comment says otherwise. Fields are only ever added at the end. */
struct hak_stats {
    uint64_t struct_bytes;            /* how much of this struct was filled in */
    uint64_t threads;                 /* count: threads that have a heap */
    uint64_t superslabs;              /* count: mapped now */
    uint64_t superslabs_empty;        /* count: of these, with nothing in use */
    uint64_t superslabs_mapped_ever;  /* count */
    uint64_t superslabs_unmapped_ever; /* count */
    uint64_t superslabs_refused_ever; /* count: the OS refused; there is no silent fallback */
    uint64_t slabs;                   /* count: slabs of size classes */
    uint64_t slab_bytes;              /* superslab memory in use by slabs */
    uint64_t large_bytes;             /* superslab memory in use by blocks above 128 KiB */
    uint64_t dirty_bytes;             /* superslab memory not in use that may still be resident */
    uint64_t magazine_bytes;          /* free blocks in the magazines of threads */
    uint64_t cold_bytes;              /* free blocks in cold magazines */
    uint64_t slab_free_bytes;         /* free blocks in slabs */
    uint64_t slab_fresh_bytes;        /* blocks of slabs that were never handed out */
    uint64_t huge_blocks;             /* count: blocks above 1 MiB, in use */
    uint64_t huge_bytes;              /* mapped for them */
    uint64_t huge_stuck_bytes;        /* address space, of superslabs too, that the OS would not take back */
    uint64_t metadata_bytes;          /* mapped for the allocator's own records */
    uint64_t mapped_bytes;            /* superslabs, huge blocks (cached ones too) and metadata together */
    uint64_t huge_cached_bytes;       /* freed huge blocks that wait to be allocated again */
};

/* Fills in as many fields of stats as size bytes hold. */
enum hak_result hak_stats(void *stats, size_t size);

/* 1 if hakmem is the malloc of this process: its plain malloc and free are those of libhakmem_preload.so. 0 if they
 * are another's, also when libhakmem_preload.so was loaded but another malloc comes before it. libhakmem.so never is
 * the process's malloc: it answers for the preloaded object. Allocates and frees a block of 1 byte to find out, and
 * says 0 if there is no memory for it. Not for hot loops. */
int hak_is_active(void);

/* The version, such as "0.1.0". */
const char *hak_version(void);

/* A description of this API in JSON, made from the functions themselves. */
const char *hak_abi_manifest(void);

#ifdef __cplusplus
}
#endif

#endif

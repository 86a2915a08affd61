// Checks each cell of the C++ table in docs/SEMANTICS.md: what operator new and delete do in all their forms, by
// the C++ library's own route through malloc. Prints "pass ROW | COLUMN | CLAIM" or "fail ..."; --list prints the
// cells. Each check runs in a child, so that a crash fails it.
//
// Built with -DDEFECTS it brings operators of its own that are wrong in everything: then each check must fail.
#include <cerrno>
#include <csignal>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <new>

#include <dlfcn.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

static const int sentinel = 4242;
// Not SIZE_MAX: for an aligned block libstdc++ itself rounds the size up to the alignment, and wraps.
static const std::size_t beyond_memory[] = {SIZE_MAX - 4095, SIZE_MAX / 2 + 1, SIZE_MAX / 2, (std::size_t)1 << 60};

#ifdef DEFECTS
static char one_for_all[64];

static void *wrong_new(std::size_t size) {
    errno = 1;
    return size == 0 ? one_for_all : malloc(size > 1 << 30 ? 16 : size);
}

static void wrong_delete(void *block) {
    errno = 1;
    if (block == nullptr) abort();
}

void *operator new(std::size_t size) { return wrong_new(size); }
void *operator new[](std::size_t size) { return wrong_new(size); }
void *operator new(std::size_t size, const std::nothrow_t &) noexcept { return wrong_new(size); }
void *operator new[](std::size_t size, const std::nothrow_t &) noexcept { return wrong_new(size); }
void *operator new(std::size_t size, std::align_val_t) { return wrong_new(size); }
void *operator new[](std::size_t size, std::align_val_t) { return wrong_new(size); }
void *operator new(std::size_t size, std::align_val_t, const std::nothrow_t &) noexcept { return wrong_new(size); }
void *operator new[](std::size_t size, std::align_val_t, const std::nothrow_t &) noexcept { return wrong_new(size); }
void operator delete(void *block) noexcept { wrong_delete(block); }
void operator delete[](void *block) noexcept { wrong_delete(block); }
void operator delete(void *block, std::size_t) noexcept { wrong_delete(block); }
void operator delete[](void *block, std::size_t) noexcept { wrong_delete(block); }
void operator delete(void *block, const std::nothrow_t &) noexcept { wrong_delete(block); }
void operator delete[](void *block, const std::nothrow_t &) noexcept { wrong_delete(block); }
void operator delete(void *block, std::align_val_t) noexcept { wrong_delete(block); }
void operator delete[](void *block, std::align_val_t) noexcept { wrong_delete(block); }
void operator delete(void *block, std::size_t, std::align_val_t) noexcept { wrong_delete(block); }
void operator delete[](void *block, std::size_t, std::align_val_t) noexcept { wrong_delete(block); }
#endif

// Aborts for a block of another allocator, so it also shows where a block is from.
static std::size_t (*usable_size)(void *);

#define EXPECT(what)                                            \
    do {                                                        \
        if (!(what)) {                                          \
            printf("line %d: %s is false\n", __LINE__, #what);  \
            return false;                                       \
        }                                                       \
    } while (0)

using New = void *(*)(std::size_t);
using Delete = void (*)(void *);

static const std::align_val_t page{4096};

static void *plain(std::size_t size) { return ::operator new(size); }
static void *array(std::size_t size) { return ::operator new[](size); }
static void *nothrow(std::size_t size) { return ::operator new(size, std::nothrow); }
static void *nothrow_array(std::size_t size) { return ::operator new[](size, std::nothrow); }
static void *aligned(std::size_t size) { return ::operator new(size, page); }
static void *aligned_array(std::size_t size) { return ::operator new[](size, page); }
static void *nothrow_aligned(std::size_t size) { return ::operator new(size, page, std::nothrow); }
static void *nothrow_aligned_array(std::size_t size) { return ::operator new[](size, page, std::nothrow); }

static const Delete deletes[] = {
    [](void *block) { ::operator delete(block); },
    [](void *block) { ::operator delete[](block); },
    [](void *block) { ::operator delete(block, std::nothrow); },
    [](void *block) { ::operator delete[](block, std::nothrow); },
};
static const Delete sized_deletes[] = {
    [](void *block) { ::operator delete(block, 100); },
    [](void *block) { ::operator delete[](block, 100); },
};
static const Delete wrongly_sized_deletes[] = {
    [](void *block) { ::operator delete(block, (std::size_t)0); },
    [](void *block) { ::operator delete[](block, (std::size_t)0); },
    [](void *block) { ::operator delete(block, SIZE_MAX); },
    [](void *block) { ::operator delete[](block, SIZE_MAX); },
};
static const Delete aligned_deletes[] = {
    [](void *block) { ::operator delete(block, page); },
    [](void *block) { ::operator delete[](block, page); },
    [](void *block) { ::operator delete(block, 100, page); },
    [](void *block) { ::operator delete[](block, 100, page); },
    [](void *block) { ::operator delete(block, page, std::nothrow); },
    [](void *block) { ::operator delete[](block, page, std::nothrow); },
};

template <std::size_t count> static bool own_blocks(const New (&news)[count], std::size_t alignment) {
    void *blocks[16 * count];
    for (std::size_t at = 0; at < 16 * count; at++) {
        blocks[at] = news[at % count](0);
        EXPECT(blocks[at] != nullptr);
        EXPECT((std::uintptr_t)blocks[at] % alignment == 0);
        memset(blocks[at], 1, usable_size(blocks[at]));
        for (std::size_t other = 0; other < at; other++) EXPECT(blocks[other] != blocks[at]);
    }
    for (void *block : blocks) free(block);
    return true;
}

template <std::size_t count>
static bool keeps_errno(const New (&news)[count], std::size_t alignment) {
    const std::size_t sizes[] = {1, 8, 100, 5000, 100000, 300000, 3000000};
    for (New call : news) {
        for (std::size_t size : sizes) {
            errno = sentinel;
            char *block = static_cast<char *>(call(size));
            EXPECT(errno == sentinel);
            EXPECT(block != nullptr && usable_size(block) >= size);
            EXPECT((std::uintptr_t)block % (size < alignment && alignment <= 16 ? 8 : alignment) == 0);
            memset(block, 1, size);
            free(block);
        }
    }
    return true;
}

static bool throws_bad_alloc(New call, std::size_t size) {
    try {
        call(size);
    } catch (const std::bad_alloc &) {
        return true;
    }
    return false;
}

static int handler_calls;
static void *reserve;

// The first calls give nothing, the next gives up.
static void count_and_resign() {
    if (++handler_calls == 3) std::set_new_handler(nullptr);
}

struct Resignation {};

static void throw_at_once() { throw Resignation(); }

// The handler is asked again and again as long as there is one; what it throws reaches the caller.
static bool asks_handler(New call, bool throwing) {
    handler_calls = 0;
    std::set_new_handler(count_and_resign);
    bool failed;
    try {
        failed = call(SIZE_MAX / 2) == nullptr && !throwing;
    } catch (const std::bad_alloc &) {
        failed = throwing;
    }
    EXPECT(failed);
    EXPECT(handler_calls == 3);
    if (!throwing) return true;
    std::set_new_handler(throw_at_once);
    bool caught = false;
    try {
        call(SIZE_MAX / 2);
    } catch (const Resignation &) {
        caught = true;
    }
    std::set_new_handler(nullptr);
    EXPECT(caught);
    return true;
}

// Makes what is asked for possible.
static void give_up_reserve() {
    handler_calls++;
    free(reserve);
    reserve = nullptr;
    std::set_new_handler(nullptr);
}

// With a limit of the address space the second try succeeds, since the handler gave memory back.
static bool retries(New call) {
    // Three quarters of what may be had are taken; half of it fits only when they are back.
    rlimit before;
    EXPECT(getrlimit(RLIMIT_AS, &before) == 0);
    FILE *file = fopen("/proc/self/statm", "r");
    EXPECT(file != nullptr);
    std::size_t pages = 0;
    EXPECT(fscanf(file, "%zu", &pages) == 1);
    fclose(file);
    const std::size_t room = (std::size_t)1 << 30;
    rlimit lowered = before;
    lowered.rlim_cur = pages * (std::size_t)sysconf(_SC_PAGESIZE) + room;
    EXPECT(setrlimit(RLIMIT_AS, &lowered) == 0);
    reserve = malloc(room / 4 * 3);
    const std::size_t wanted = room / 2;
    handler_calls = 0;
    std::set_new_handler(give_up_reserve);
    void *block = nullptr;
    try {
        block = call(wanted);
    } catch (const std::bad_alloc &) {
    }
    EXPECT(setrlimit(RLIMIT_AS, &before) == 0);
    EXPECT(handler_calls == 1);
    EXPECT(block != nullptr && usable_size(block) >= wanted);
    free(block);
    return true;
}

template <std::size_t count> static bool refuses_by_throwing(const New (&news)[count]) {
    for (New call : news) {
        for (std::size_t size : beyond_memory) EXPECT(throws_bad_alloc(call, size));
        EXPECT(asks_handler(call, true));
        EXPECT(retries(call));
    }
    return true;
}

template <std::size_t count> static bool refuses_by_null(const New (&news)[count]) {
    for (New call : news) {
        for (std::size_t size : beyond_memory) EXPECT(call(size) == nullptr);
        EXPECT(asks_handler(call, false));
        EXPECT(retries(call));
    }
    return true;
}

template <std::size_t count> static bool sets_enomem(const New (&news)[count]) {
    for (New call : news) {
        for (std::size_t size : beyond_memory) {
            errno = sentinel;
            try {
                EXPECT(call(size) == nullptr);
            } catch (const std::bad_alloc &) {
            }
            EXPECT(errno == ENOMEM);
        }
    }
    return true;
}

template <std::size_t count> static bool takes_null(const Delete (&calls)[count]) {
    for (Delete call : calls) call(nullptr);
    return true;
}

template <std::size_t count> static bool gives_back(const Delete (&calls)[count]) {
    for (Delete call : calls) {
        const std::size_t sizes[] = {100, 5000, 300000, 3000000};
        for (std::size_t size : sizes) {
            void *block = malloc(size);
            errno = sentinel;
            call(block);
            EXPECT(errno == sentinel);
        }
        // A block that was freed is the next one to be given out.
        void *block = malloc(100);
        call(block);
        void *next = malloc(100);
        EXPECT(next == block);
        free(next);
    }
    return true;
}

// Runs a function in a child; what it says on standard error goes to `said`.
template <typename Run> static int in_child(Run run, int stream, char *said, std::size_t size) {
    int ends[2];
    if (pipe(ends) != 0) return -1;
    fflush(stdout);
    const pid_t child = fork();
    if (child < 0) return -1;
    if (child == 0) {
        dup2(ends[1], stream);
        close(ends[0]);
        close(ends[1]);
        const int status = run();
        fflush(stdout);
        _exit(status);
    }
    close(ends[1]);
    std::size_t length = 0;
    for (;;) {
        const ssize_t got = read(ends[0], said + length, size - 1 - length);
        if (got <= 0) break;
        length += (std::size_t)got;
    }
    said[length] = '\0';
    close(ends[0]);
    int status = -1;
    while (waitpid(child, &status, 0) != child) {
    }
    return status;
}

template <std::size_t count> static bool aborts_on_foreign(const Delete (&calls)[count]) {
    static char memory[256];
    for (Delete call : calls) {
        char said[1024];
        const int status = in_child([call] { return call(memory + 64), 0; }, 2, said, sizeof said);
        EXPECT(WIFSIGNALED(status) && WTERMSIG(status) == SIGABRT);
        EXPECT(strncmp(said, "hakmem: ", 8) == 0);
        EXPECT(strchr(said, '\n') == said + strlen(said) - 1);
    }
    return true;
}

struct alignas(4096) Page {
    char bytes[5000];
};

static const New only_plain[] = {plain};
static const New only_array[] = {array};
static const New nothrows[] = {nothrow, nothrow_array};
static const New aligneds[] = {aligned, aligned_array};
static const New nothrow_aligneds[] = {nothrow_aligned, nothrow_aligned_array};

// The compiler's own code asks for more than there can be.
static bool array_refuses() {
    EXPECT(refuses_by_throwing(only_array));
    // Volatile, or the compiler may leave both out.
    volatile std::size_t count = SIZE_MAX / 4;
    std::uint64_t *volatile numbers = nullptr;
    bool wrong_length = false;
    try {
        numbers = new std::uint64_t[count];
    } catch (const std::bad_array_new_length &) {
        wrong_length = true;
    }
    EXPECT(wrong_length);
    // This one fits a size, though no memory.
    bool out_of_memory = false;
    try {
        count = (std::size_t)1 << 58;
        numbers = new std::uint64_t[count];
    } catch (const std::bad_array_new_length &) {
    } catch (const std::bad_alloc &) {
        out_of_memory = true;
    }
    EXPECT(out_of_memory);
    EXPECT(numbers == nullptr);
    // No elements are still an array of its own.
    count = 0;
    std::uint64_t *volatile none = new std::uint64_t[count];
    numbers = new std::uint64_t[count];
    EXPECT(none != nullptr && numbers != nullptr && none != numbers);
    delete[] none;
    delete[] numbers;
    return true;
}

static bool aligned_keeps_errno() {
    EXPECT(keeps_errno(aligneds, 4096));
    errno = sentinel;
    Page *one = new Page;
    Page *several = new Page[3];
    EXPECT(errno == sentinel);
    EXPECT((std::uintptr_t)one % 4096 == 0 && (std::uintptr_t)several % 4096 == 0);
    EXPECT(sizeof(Page) == 8192 && usable_size(several) >= 3 * sizeof(Page));
    delete one;
    delete[] several;
    return true;
}

template <std::size_t count> static bool odd_alignment(const New (&news)[count]) {
    for (New call : news) {
        bool refused = false;
        try {
            refused = call(64) == nullptr;
        } catch (const std::bad_alloc &) {
            refused = true;
        }
        EXPECT(refused);
    }
    return true;
}

static const std::align_val_t odd{24};
static const New odd_aligneds[] = {
    [](std::size_t size) { return ::operator new(size, odd); },
    [](std::size_t size) { return ::operator new[](size, odd); },
};
static const New odd_nothrow_aligneds[] = {
    [](std::size_t size) { return ::operator new(size, odd, std::nothrow); },
    [](std::size_t size) { return ::operator new[](size, odd, std::nothrow); },
};

static const struct {
    const char *cell;
    bool (*check)();
} cells[] = {
    {"operator new | size 0 | a block of its own", [] { return own_blocks(only_plain, 8); }},
    {"operator new | too large | new_handler, then bad_alloc",
     [] { return throws_bad_alloc(plain, SIZE_MAX) && refuses_by_throwing(only_plain); }},
    {"operator new | errno on failure | ENOMEM", [] { return sets_enomem(only_plain); }},
    {"operator new | errno on success | kept", [] { return keeps_errno(only_plain, 16); }},
    {"operator new[] | size 0 | a block of its own", [] { return own_blocks(only_array, 8); }},
    {"operator new[] | too large | the same; bad_array_new_length where the count wraps", array_refuses},
    {"operator new[] | errno on failure | ENOMEM", [] { return sets_enomem(only_array); }},
    {"operator new[] | errno on success | kept", [] { return keeps_errno(only_array, 16); }},
    {"nothrow new | size 0 | a block of its own", [] { return own_blocks(nothrows, 8); }},
    {"nothrow new | too large | new_handler, then NULL",
     [] { return nothrow(SIZE_MAX) == nullptr && refuses_by_null(nothrows); }},
    {"nothrow new | errno on failure | ENOMEM", [] { return sets_enomem(nothrows); }},
    {"nothrow new | errno on success | kept", [] { return keeps_errno(nothrows, 16); }},
    {"aligned new | size 0 | a block of its own", [] { return own_blocks(aligneds, 4096); }},
    {"aligned new | too large | new_handler, then bad_alloc", [] { return refuses_by_throwing(aligneds); }},
    {"aligned new | bad alignment | bad_alloc", [] { return odd_alignment(odd_aligneds); }},
    {"aligned new | errno on failure | ENOMEM", [] { return sets_enomem(aligneds); }},
    {"aligned new | errno on success | kept", aligned_keeps_errno},
    {"aligned nothrow new | size 0 | a block of its own", [] { return own_blocks(nothrow_aligneds, 4096); }},
    {"aligned nothrow new | too large | new_handler, then NULL", [] { return refuses_by_null(nothrow_aligneds); }},
    {"aligned nothrow new | bad alignment | NULL", [] { return odd_alignment(odd_nothrow_aligneds); }},
    {"aligned nothrow new | errno on failure | ENOMEM", [] { return sets_enomem(nothrow_aligneds); }},
    {"aligned nothrow new | errno on success | kept", [] { return keeps_errno(nothrow_aligneds, 4096); }},
    {"operator delete | NULL | nothing", [] { return takes_null(deletes); }},
    {"operator delete | foreign pointer | one line, abort", [] { return aborts_on_foreign(deletes); }},
    {"operator delete | errno on success | kept", [] { return gives_back(deletes); }},
    {"sized delete | size 0 | not looked at", [] { return gives_back(wrongly_sized_deletes); }},
    {"sized delete | too large | not looked at", [] { return gives_back(wrongly_sized_deletes); }},
    {"sized delete | NULL | nothing", [] { return takes_null(sized_deletes); }},
    {"sized delete | foreign pointer | one line, abort", [] { return aborts_on_foreign(sized_deletes); }},
    {"sized delete | errno on success | kept", [] { return gives_back(sized_deletes); }},
    {"aligned delete | NULL | nothing", [] { return takes_null(aligned_deletes); }},
    {"aligned delete | foreign pointer | one line, abort", [] { return aborts_on_foreign(aligned_deletes); }},
    {"aligned delete | errno on success | kept", [] { return gives_back(aligned_deletes); }},
};

int main(int count, char **arguments) {
    const bool list = count > 1 && strcmp(arguments[1], "--list") == 0;
    bool failed = false;
    if (!list) {
        usable_size = reinterpret_cast<std::size_t (*)(void *)>(dlsym(RTLD_DEFAULT, "hak_usable_size"));
        if (usable_size == nullptr) {
            fprintf(stderr, "operators: hakmem is not preloaded\n");
            return 2;
        }
    }
    for (const auto &cell : cells) {
        if (list) {
            puts(cell.cell);
            continue;
        }
        char said[1024];
        const auto check = cell.check;
        const int status = in_child([check] { return check() ? 0 : 1; }, 1, said, sizeof said);
        if (status == 0) {
            printf("pass %s\n", cell.cell);
        } else {
            said[strcspn(said, "\n")] = '\0';
            printf("fail %s: %s (wait status 0x%x)\n", cell.cell, said, (unsigned)status);
            failed = true;
        }
    }
    return failed ? 1 : 0;
}

/* A program with a malloc of its own, as one that was linked with an allocator has. */
#include <stddef.h>
#include <stdio.h>

static _Alignas(16) char memory[1 << 20];
static size_t used;

void *malloc(size_t size) {
    void *block = memory + used;
    used += (size + 15) & ~(size_t)15;
    return used <= sizeof memory ? block : NULL;
}

void *calloc(size_t count, size_t size) {
    return malloc(count * size);
}

void *realloc(void *block, size_t size) {
    (void)block;
    return malloc(size);
}

void free(void *block) {
    (void)block;
}

int main(void) {
    return puts("done") < 0;
}

/* Prints what hak_is_active says to a program that takes the address of malloc, and which malloc it was. Without
 * a hakmem it prints "absent". */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>

int main(int count, char **arguments) {
    void *(*volatile allocate)(size_t) = malloc;
    void *handle = count > 1 ? dlopen(arguments[1], RTLD_NOW) : RTLD_DEFAULT;
    int (*is_active)(void) = (int (*)(void))dlsym(handle, "hak_is_active");
    free(allocate(1));
    if (is_active == NULL) puts("absent");
    else printf("%d\n", is_active());
    return 0;
}

/* Allocates, then waits until it is ended. */
#include <stdlib.h>
#include <unistd.h>

int main(void) {
    free(malloc(100));
    for (;;) pause();
}

/* Takes the rights of its file's owner for good, if the file is setuid; allocates, and waits until it is ended. */
#include <stdlib.h>
#include <unistd.h>

int main(void) {
    if (setuid(geteuid()) != 0) return 1;
    free(malloc(100));
    for (;;) pause();
}

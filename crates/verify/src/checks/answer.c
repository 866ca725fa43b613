#include <stdio.h>
#include <stdlib.h>

static int compare(const void *a, const void *b) { return *(const int *)a - *(const int *)b; }

int main(void) {
    int numbers[] = { 42, 7, 19, 3 };
    qsort(numbers, 4, sizeof numbers[0], compare);
    printf("%d of %d bytes\n", numbers[3], (int)sizeof(void *));
    return 0;
}

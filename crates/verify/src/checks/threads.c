#include <pthread.h>
#include <stdio.h>

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_barrier_t barrier;
static pthread_key_t key;
static int total, kept;

static void *work(void *self) {
    pthread_setspecific(key, self);
    pthread_barrier_wait(&barrier);
    for (int i = 0; i < 100000; i++) {
        pthread_mutex_lock(&lock);
        total++;
        pthread_mutex_unlock(&lock);
    }
    pthread_mutex_lock(&lock);
    if (pthread_getspecific(key) == self) kept++;
    pthread_mutex_unlock(&lock);
    return 0;
}

int main(void) {
    pthread_t threads[4];
    int names[4];
    pthread_key_create(&key, 0);
    pthread_barrier_init(&barrier, 0, 4);
    for (int i = 0; i < 4; i++)
        if (pthread_create(&threads[i], 0, work, &names[i])) return 1;
    for (int i = 0; i < 4; i++) pthread_join(threads[i], 0);
    printf("%d %d\n", total, kept);
    return 0;
}

#include <setjmp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <unistd.h>

static sigjmp_buf back;
static volatile sig_atomic_t alarms;

static void fault(int signal) { siglongjmp(back, signal); }
static void tick(int signal) { (void)signal; alarms++; }

int main(void) {
    stack_t other = { 0 };
    other.ss_sp = malloc(1 << 16);
    other.ss_size = 1 << 16;
    sigaltstack(&other, 0);
    struct sigaction act = { 0 };
    act.sa_handler = fault;
    act.sa_flags = SA_ONSTACK;
    sigaction(SIGSEGV, &act, 0);
    volatile int caught = 0;
    while (caught < 3)
        if (sigsetjmp(back, 1)) caught++;
        else *(volatile int *)16 = 1;
    printf("caught %d\n", caught);

    act.sa_handler = tick;
    act.sa_flags = 0;
    sigaction(SIGALRM, &act, 0);
    struct itimerval every = { { 0, 50000 }, { 0, 50000 } };
    setitimer(ITIMER_REAL, &every, 0);
    while (alarms < 3) pause();
    every.it_value.tv_usec = 0;
    setitimer(ITIMER_REAL, &every, 0);
    printf("alarms %d\n", 3);
    fflush(stdout);

    pid_t child = fork();
    if (child == 0) for (;;) pause();
    kill(child, SIGKILL);
    int status = 0;
    waitpid(child, &status, 0);
    printf("child %d\n", WIFSIGNALED(status) ? WTERMSIG(status) : -1);
    return 0;
}

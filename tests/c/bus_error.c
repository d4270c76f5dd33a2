/*
 * The library's handler of SIGBUS minds models' files only: a program's own handler, set before the first load, still hears of
 * the program's own mappings and of signals that somebody sends, and without one they end the process as ever.
 */
#define _GNU_SOURCE
#include "check.h"
#include <setjmp.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

static sigjmp_buf back;
static volatile sig_atomic_t heard;

static void on_signal(int signal) {
    heard = signal;
    siglongjmp(back, 1);
}

static void on_signal_with_info(int signal, siginfo_t *info, void *context) {
    (void)context;
    heard = info->si_signo == signal ? signal : -1;
    siglongjmp(back, 1);
}

/* A byte that cannot be read: behind the end of a mapped file. */
static volatile const char *missing_byte(const char *folder) {
    char path[4096];
    void *mapping;
    FILE *file;
    snprintf(path, sizeof path, "%s/bus-error-%ld", folder, (long)getpid());
    file = fopen(path, "w+b");
    if (file == NULL || ftruncate(fileno(file), 4096) != 0) exit(3);
    mapping = mmap(NULL, 4096, PROT_READ, MAP_PRIVATE, fileno(file), 0);
    if (mapping == MAP_FAILED || ftruncate(fileno(file), 0) != 0) exit(3);
    fclose(file);
    remove(path);
    return mapping;
}

/* Hears of both kinds while a model is loaded. */
static void hears(const struct given *given, const char *what) {
    dgemma_model *model = load_model(given->model);
    volatile const char *missing = missing_byte(given->folder);
    heard = 0;
    if (sigsetjmp(back, 1) == 0) (void)*missing;
    CHECK(heard == SIGBUS);
    heard = 0;
    if (sigsetjmp(back, 1) == 0) raise(SIGBUS);
    CHECK(heard == SIGBUS);
    printf("%s ", what);
    dgemma_model_free(model);
}

/* Runs `child` in a process of its own; its wait status. */
static int in_a_child(void (*child)(const struct given *), const struct given *given) {
    int status = 0;
    pid_t pid;
    fflush(stdout);
    pid = fork();
    if (pid == 0) {
        child(given);
        _exit(failures == 0 ? 0 : 1);
    }
    CHECK(pid > 0 && waitpid(pid, &status, 0) == pid);
    return status;
}

static void plain(const struct given *given) {
    signal(SIGBUS, on_signal);
    hears(given, "plain");
    fflush(stdout);
}

static void with_info(const struct given *given) {
    struct sigaction action;
    memset(&action, 0, sizeof action);
    action.sa_sigaction = on_signal_with_info;
    action.sa_flags = SA_SIGINFO;
    sigaction(SIGBUS, &action, NULL);
    hears(given, "with-info");
    fflush(stdout);
}

#ifndef LIGHT
static void nobody_reads(const struct given *given) {
    signal(SIGBUS, SIG_DFL);
    load_model(given->model);
    (void)*missing_byte(given->folder);
}

static void nobody_hears(const struct given *given) {
    signal(SIGBUS, SIG_DFL);
    load_model(given->model);
    raise(SIGBUS);
}

static void ends_by_the_signal(void (*child)(const struct given *), const struct given *given) {
    int status = in_a_child(child, given);
    CHECK(WIFSIGNALED(status) && WTERMSIG(status) == SIGBUS);
}
#endif

int main(int argc, char **argv) {
    struct given given = given_of(argc, argv);
    CHECK(in_a_child(plain, &given) == 0);
    CHECK(in_a_child(with_info, &given) == 0);
#ifndef LIGHT /* valgrind takes such ends for errors */
    ends_by_the_signal(nobody_reads, &given);
    ends_by_the_signal(nobody_hears, &given);
#endif
    return finish();
}

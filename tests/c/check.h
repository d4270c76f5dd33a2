/*
 * What the C tests share. A program gets a model file, a prompt that it answers, the answer, and a folder for files of its
 * own; it prints a line for each check that fails and exits with 1 then.
 */
#ifndef CHECK_H
#define CHECK_H

#include <dgemma.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static int failures = 0;
static unsigned checks = 0;

#define FAIL(...)                                          \
    do {                                                   \
        fprintf(stderr, "%s:%d: ", __FILE__, __LINE__);    \
        fprintf(stderr, __VA_ARGS__);                      \
        fprintf(stderr, "\n");                             \
        failures++;                                        \
    } while (0)

#define CHECK(condition)                                                        \
    do {                                                                        \
        checks++;                                                               \
        if (!(condition)) FAIL("%s (%s)", #condition, dgemma_last_error());     \
    } while (0)

/* The call must succeed. */
#define OK(call)                                                                                           \
    do {                                                                                                   \
        dgemma_status got_ = (call);                                                                       \
        checks++;                                                                                          \
        if (got_ != DGEMMA_STATUS_OK) FAIL("%s: %s: %s", #call, dgemma_status_text(got_), dgemma_last_error()); \
    } while (0)

/* The call must answer `status`, with a message that has `word` in it. */
#define REFUSED(call, status, word)                                                                        \
    do {                                                                                                   \
        dgemma_status got_ = (call);                                                                       \
        checks++;                                                                                          \
        if (got_ != (status) || strstr(dgemma_last_error(), word) == NULL)                                 \
            FAIL("%s: %s: %s; expected: %s: ... %s ...", #call, dgemma_status_text(got_), dgemma_last_error(), \
                 dgemma_status_text(status), word);                                                        \
    } while (0)

/* What a program is given. */
struct given {
    const char *model, *prompt, *answer, *folder;
};

static struct given given_of(int argc, char **argv) {
    struct given given;
    if (argc != 5) {
        fprintf(stderr, "usage: %s MODEL PROMPT ANSWER FOLDER\n", argv[0]);
        exit(2);
    }
    given.model = argv[1];
    given.prompt = argv[2];
    given.answer = argv[3];
    given.folder = argv[4];
    return given;
}

/* The model, on two threads: what the tests generate takes milliseconds. */
static dgemma_model *load_model(const char *path) {
    dgemma_model_params params;
    dgemma_model *model = NULL;
    OK(dgemma_model_params_init(&params, sizeof params));
    params.threads = 2;
    OK(dgemma_model_load(path, &params, &model));
    if (model == NULL) exit(1);
    return model;
}

/* How it went, for the log of the test; the exit status. */
static int finish(void) {
    printf("%u checks, %d failed\n", checks, failures);
    return failures != 0;
}

#endif

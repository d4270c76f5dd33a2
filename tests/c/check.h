/*
 * What the C tests share. A program gets a model file, a prompt that it answers, the answer, and a folder for files of its
 * own; it prints a line on stderr for each check that fails and exits with 1 then.
 */
#ifndef CHECK_H
#define CHECK_H

#include <dgemma.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

extern _Atomic int failures; /* some programs have threads */
extern _Atomic unsigned checks;

#define FAIL(...)                                       \
    do {                                                \
        fprintf(stderr, "%s:%d: ", __FILE__, __LINE__); \
        fprintf(stderr, __VA_ARGS__);                   \
        fprintf(stderr, "\n");                          \
        failures++;                                     \
    } while (0)

#define CHECK(condition)                                                    \
    do {                                                                    \
        checks++;                                                           \
        if (!(condition)) FAIL("%s (%s)", #condition, dgemma_last_error()); \
    } while (0)

/* The call must answer `status`, with a message that has `word` in it if it is a failure. */
#define ANSWERS(call, status, word)                                                                            \
    do {                                                                                                       \
        dgemma_status got_ = (call);                                                                           \
        checks++;                                                                                              \
        if (got_ != (status) || (got_ != DGEMMA_STATUS_OK && strstr(dgemma_last_error(), word) == NULL))       \
            FAIL("%s: %s: %s; expected: %s: ... %s ...", #call, dgemma_status_text(got_), dgemma_last_error(), \
                 dgemma_status_text(status), word);                                                            \
    } while (0)

#define OK(call) ANSWERS(call, DGEMMA_STATUS_OK, "")
#define REFUSED(call, word) ANSWERS(call, DGEMMA_STATUS_INVALID_ARGUMENT, word)

/* What a program is given. */
struct given {
    const char *model, *prompt, *answer, *folder;
};

struct given given_of(int argc, char **argv);

/* The model, on two threads: what the tests generate takes milliseconds. */
dgemma_model *load_model(const char *path);

/* Prints how it went; the exit status. */
int finish(void);

#define MOST 1024

struct tokens {
    uint32_t ids[MOST];
    size_t len;
};

struct text {
    char bytes[8 * MOST];
    size_t len;
};

/* The prompt as a user's message in the model's chat template. */
struct tokens chat_tokens(const dgemma_model *model, const char *prompt);

/* A context with that in it. */
dgemma_context *context_with(const dgemma_model *model, const char *prompt);

/* What the context answers, by a seed. */
struct text answer_of(dgemma_context *context, uint64_t seed);

/* A dgemma_text_callback that gathers into the struct text of its user_data. */
int hear_text(const char *bytes, size_t len, void *user_data);

#endif

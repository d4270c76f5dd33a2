/*
 * The rows of the misuse table: a function, its arguments as written, the status that the header promises, and a word that
 * the message must have, the name of the argument at least. The arguments' text is kept, so that the program can check in
 * the end (coverage.c) that every function of the header has rows, every pointer a NULL and every text a row that is no
 * UTF-8. After each row: what the call failed to make is untouched, and the sequence of the context is what it was.
 */
#ifndef ROWS_H
#define ROWS_H

#include "../check.h"

/* What calls write into. Filled with a pattern before each row. */
struct outputs {
    dgemma_model *model;
    dgemma_context *context;
    dgemma_block *block;
    dgemma_detokenizer *detokenizer;
    dgemma_canceller *canceller;
    dgemma_generation generation;
    uint64_t large;
    uint32_t number;
    int flag;
    uint32_t ids[64];
    float floats[64];
    uint8_t bytes[256];
    char text[256];
    size_t len; /* last: written with DGEMMA_STATUS_BUFFER_TOO_SMALL, too */
};
extern struct outputs out;

/* What rows work on: one of everything, all alive. */
struct objects {
    struct given given;
    dgemma_model *model;
    dgemma_context *context;
    dgemma_block *block; /* with a step done */
    dgemma_detokenizer *detokenizer;
    dgemma_canceller *canceller;
    uint32_t vocab, canvas;
    uint32_t ids[64];   /* in range, n_ids of them */
    size_t n_ids;
    size_t n_tokens;    /* of the context */
    struct text answer; /* a short one: behind the context's sequence, on a canvas of four tokens */
};
extern struct objects on;

/* Texts and flags that are wrong everywhere. */
extern const char not_utf8[];

void row_begin(const char *function, const char *args);
void row_end(dgemma_status got, dgemma_status expected, const char *word, const char *file, int line);
void row_value(int holds, const char *file, int line);

#define ROW(function, args, status, word)                         \
    do {                                                          \
        row_begin(#function, #args);                              \
        row_end(function args, status, word, __FILE__, __LINE__); \
    } while (0)

/* The usual row. (Every macro keeps the text itself: passed on, NULL would be expanded.) */
#define NO(function, args, word)                                                           \
    do {                                                                                   \
        row_begin(#function, #args);                                                       \
        row_end(function args, DGEMMA_STATUS_INVALID_ARGUMENT, word, __FILE__, __LINE__);  \
    } while (0)
/* What looks wrong and is not. */
#define FINE(function, args)                                                  \
    do {                                                                      \
        row_begin(#function, #args);                                          \
        row_end(function args, DGEMMA_STATUS_OK, "", __FILE__, __LINE__);     \
    } while (0)
/* The buffer cannot take the result. */
#define SMALL(function, args)                                                                               \
    do {                                                                                                    \
        row_begin(#function, #args);                                                                        \
        row_end(function args, DGEMMA_STATUS_BUFFER_TOO_SMALL, "is too small", __FILE__, __LINE__);         \
    } while (0)
/* Of functions that answer with a value. */
#define VALUE(function, args, comparison)                          \
    do {                                                           \
        row_begin(#function, #args);                               \
        row_value((function args) comparison, __FILE__, __LINE__); \
    } while (0)
/* Of functions that answer nothing. */
#define NOTHING(function, args)           \
    do {                                  \
        row_begin(#function, #args);      \
        function args;                    \
        row_value(1, __FILE__, __LINE__); \
    } while (0)

/* A struct_size that the program of tests/c/misuse/sizes.c has tried at argument `position` of `function`. */
void row_sized(const char *function, unsigned position);

/* Whether a row has been seen (coverage.c). */
int row_exists(const char *function);
int row_has(const char *function, unsigned position, const char *argument);
int row_is_sized(const char *function, unsigned position);

/* Everything still works: the context, in a copy, and a fresh one over the model give the short answer. */
void works(void);
void answers(const dgemma_model *model);
struct text short_answer(dgemma_context *context);

void library_rows(void);
void model_rows(void);
void vocabulary_rows(void);
void context_rows(void);
void keep_rows(void);
void generate_rows(void);
void block_rows(void);
void size_rows(void);
void busy_rows(void);
void stop_rows(void);
void order_rows(void);
void file_rows(void);
void coverage(const char *header);

#endif

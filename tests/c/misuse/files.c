/*
 * What happens to a model's file while it is in use, by the word of dgemma_model_load(): a file that is replaced or removed
 * stays what it was, a cut is noticed, and a file that was read does not matter any more.
 */
#define _POSIX_C_SOURCE 200809L
#include "rows.h"
#include <unistd.h>

static char path[4096], other[4096];

static void write_file(const char *to, const char *bytes, size_t n) {
    FILE *file = fopen(to, "r+b"); /* in place, if it is there */
    if (file == NULL) file = fopen(to, "wb");
    CHECK(file != NULL && fwrite(bytes, 1, n, file) == n);
    fclose(file);
}

static char *read_file(const char *from, size_t *n) {
    FILE *file = fopen(from, "rb");
    char *bytes;
    fseek(file, 0, SEEK_END);
    *n = (size_t)ftell(file);
    rewind(file);
    bytes = malloc(*n);
    if (bytes == NULL || fread(bytes, 1, *n, file) != *n) exit(3);
    fclose(file);
    return bytes;
}

/* The row of a call that would read the missing half. */
#define CUT(function, args)                                                                        \
    do {                                                                                           \
        row_begin(#function, #args);                                                               \
        row_end(function args, DGEMMA_STATUS_BAD_FILE, "was cut from ", __FILE__, __LINE__);       \
    } while (0)

static void cut(const char *bytes, size_t n) {
    dgemma_model *model;
    dgemma_context *context;
    dgemma_block *block = NULL;
    const dgemma_candidate candidate = {0, 0};
    uint32_t row = 0;
    write_file(path, bytes, n);
    model = load_model(path);
    context = context_with(model, on.given.prompt);
    OK(dgemma_block_begin(context, NULL, &block));
    OK(dgemma_block_step(block, NULL));
    CHECK(truncate(path, (off_t)n / 2) == 0);
    CUT(dgemma_block_step, (block, &out.flag));
    CUT(dgemma_block_score, (block, &candidate, 1, out.floats));
    {
        float *logits = malloc(sizeof(float) * (size_t)on.vocab);
        CUT(dgemma_block_logits, (block, &row, 1, logits, on.vocab, NULL));
        CUT(dgemma_block_log_probs, (block, &row, 1, logits, on.vocab, NULL));
        free(logits);
    }
    CUT(dgemma_context_score, (context, on.ids, 1, &candidate, 1, out.floats));
    CUT(dgemma_context_generate, (context, NULL, &out.generation));
    CUT(dgemma_generate, (model, on.given.prompt, NULL, &out.generation));
    OK(dgemma_context_append(context, on.ids, 1));
    CUT(dgemma_context_prefill, (context, NULL, NULL));
    CUT(dgemma_block_begin, (context, NULL, &out.block));
    ROW(dgemma_model_load, (path, NULL, &out.model), DGEMMA_STATUS_BAD_FILE, "truncated?");
    CHECK(strstr(dgemma_last_error(), path) != NULL);
    write_file(path, bytes, n);
    answers(model);
    dgemma_block_free(block);
    dgemma_context_free(context);
    dgemma_model_free(model);
}

static void replaced(const char *bytes, size_t n) {
    dgemma_model *model;
    dgemma_model_params params;
    write_file(path, bytes, n);
    model = load_model(path);
    write_file(other, "not a model", 11);
    CHECK(rename(other, path) == 0);
    answers(model);
    ROW(dgemma_model_load, (path, NULL, &out.model), DGEMMA_STATUS_BAD_FILE, "is not a GGUF file");
    CHECK(remove(path) == 0);
    answers(model);
    dgemma_model_free(model);

    write_file(path, bytes, n);
    OK(dgemma_model_params_init(&params, sizeof params));
    params.memory = DGEMMA_MEMORY_READ;
    params.threads = 2;
    OK(dgemma_model_load(path, &params, &model));
    CHECK(truncate(path, 0) == 0);
    answers(model);
    dgemma_model_free(model);
    remove(path);
}

void file_rows(void) {
    size_t n;
    char *bytes = read_file(on.given.model, &n);
    snprintf(path, sizeof path, "%s/misuse-%ld.gguf", on.given.folder, (long)getpid());
    snprintf(other, sizeof other, "%s/misuse-%ld.other", on.given.folder, (long)getpid());
    cut(bytes, n);
    replaced(bytes, n);
    free(bytes);
}

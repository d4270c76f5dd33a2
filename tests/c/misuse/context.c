/* Misuse of contexts, their copies and files, and cancellers. */
#include "rows.h"

static void create_rows(void) {
    dgemma_context_params p;
    NO(dgemma_context_params_init, (NULL, sizeof p), "argument `params`: is NULL");
    NO(dgemma_context_create, (NULL, NULL, &out.context), "argument `model`: is NULL");
    NO(dgemma_context_create, (on.model, NULL, NULL), "argument `out`: is NULL");
    OK(dgemma_context_params_init(&p, sizeof p));
    p.context_size = on.canvas - 1;
    NO(dgemma_context_create, (on.model, &p, &out.context), "argument `context_size`: is ");
    p.context_size = SIZE_MAX;
    NO(dgemma_context_create, (on.model, &p, &out.context), "argument `context_size`: is ");
    p.context_size = 0;
    p.kv_type = 4;
    NO(dgemma_context_create, (on.model, &p, &out.context), "argument `kv_type`: is 4");
    p.kv_type = 0;
    p.chunk = UINT32_MAX; /* as long as the context */
    OK(dgemma_context_create(on.model, &p, &out.context));
    dgemma_context_free(out.context);
    NOTHING(dgemma_context_free, (NULL));
}

static void sequence_rows(void) {
    dgemma_context *c = on.context;
    NO(dgemma_context_append, (NULL, on.ids, 1), "argument `context`: is NULL");
    NO(dgemma_context_append, (c, NULL, 1), "argument `tokens`: is NULL, expected 1 entries");
    NO(dgemma_context_append, (c, &on.vocab, 1), "argument `tokens`: contain id ");
    NO(dgemma_context_append, (c, on.ids, SIZE_MAX / 4), "argument `tokens`: of ");
    NO(dgemma_context_append, (c, (const uint32_t *)(out.bytes + 1), 1), "argument `tokens`: is not aligned to 4");
    FINE(dgemma_context_append, (c, NULL, 0));
    NO(dgemma_context_set_tokens, (NULL, on.ids, 1, &out.len), "argument `context`: is NULL");
    NO(dgemma_context_set_tokens, (c, NULL, 1, &out.len), "argument `tokens`: is NULL");
    NO(dgemma_context_set_tokens, (c, &on.vocab, 1, &out.len), "argument `tokens`: contain id ");
    NO(dgemma_context_truncate, (NULL, 0), "argument `context`: is NULL");
    NO(dgemma_context_truncate, (c, on.n_tokens + 1), "argument `length`: is ");
    NO(dgemma_context_truncate, (c, SIZE_MAX), "argument `length`: is ");
    FINE(dgemma_context_truncate, (c, on.n_tokens));
    NO(dgemma_context_reset, (NULL), "argument `context`: is NULL");
    NO(dgemma_context_tokens, (NULL, out.ids, 64, &out.len), "argument `context`: is NULL");
    NO(dgemma_context_tokens, (c, NULL, 64, &out.len), "argument `tokens`: is NULL, but its cap is 64");
    SMALL(dgemma_context_tokens, (c, NULL, 0, &out.len));
    SMALL(dgemma_context_tokens, (c, out.ids, 1, NULL));
    FINE(dgemma_context_tokens, (c, out.ids, 64, NULL));
    NO(dgemma_context_prefill, (NULL, NULL, NULL), "argument `context`: is NULL");
    FINE(dgemma_context_prefill, (c, NULL, NULL));
}

/* More than a context holds. */
static void full_rows(void) {
    dgemma_context_params p;
    dgemma_context *small = NULL;
    OK(dgemma_context_params_init(&p, sizeof p));
    p.context_size = on.canvas;
    OK(dgemma_context_create(on.model, &p, &small));
    OK(dgemma_context_append(small, on.ids, 1));
    ROW(dgemma_context_generate, (small, NULL, &out.generation), DGEMMA_STATUS_CONTEXT_FULL, "too small");
    ROW(dgemma_block_begin, (small, NULL, &out.block), DGEMMA_STATUS_CONTEXT_FULL, "needed");
    for (uint32_t i = 1; i < on.canvas; i++) OK(dgemma_context_append(small, on.ids, 1));
    ROW(dgemma_context_append, (small, on.ids, 1), DGEMMA_STATUS_CONTEXT_FULL, "too small");
    ROW(dgemma_context_score, (small, on.ids, 1, NULL, 0, NULL), DGEMMA_STATUS_CONTEXT_FULL, "too small");
    FINE(dgemma_context_set_tokens, (small, NULL, 0, NULL));
    FINE(dgemma_context_generate, (small, NULL, NULL));
    dgemma_context_free(small);
}

static void report_rows(void) {
    dgemma_context *c = on.context;
    dgemma_context_info info = {.struct_size = sizeof info};
    dgemma_perf perf = {.struct_size = sizeof perf};
    dgemma_memory memory = {.struct_size = sizeof memory};
    NO(dgemma_context_describe, (NULL, &info), "argument `context`: is NULL");
    NO(dgemma_context_describe, (c, NULL), "argument `out`: is NULL");
    NO(dgemma_context_perf, (NULL, &perf), "argument `context`: is NULL");
    NO(dgemma_context_perf, (c, NULL), "argument `out`: is NULL");
    NO(dgemma_context_memory, (NULL, &memory), "argument `context`: is NULL");
    NO(dgemma_context_memory, (c, NULL), "argument `out`: is NULL");
    NO(dgemma_context_last_error, (NULL, out.text, 1, &out.len), "argument `context`: is NULL");
    NO(dgemma_context_last_error, (c, NULL, 1, &out.len), "argument `buffer`: is NULL");
    SMALL(dgemma_context_last_error, (c, NULL, 0, &out.len));
    REFUSED(dgemma_context_truncate(c, on.n_tokens + 9), "argument `length`");
    FINE(dgemma_context_last_error, (c, out.text, sizeof out.text, NULL));
    CHECK(strcmp(out.text, dgemma_last_error()) == 0);
}

void keep_rows(void) {
    dgemma_context *c = on.context;
    NO(dgemma_context_clone, (NULL, &out.context), "argument `context`: is NULL");
    NO(dgemma_context_clone, (c, NULL), "argument `out`: is NULL");
    NO(dgemma_context_save, (NULL, out.bytes, 256, &out.len), "argument `context`: is NULL");
    NO(dgemma_context_save, (c, NULL, 256, &out.len), "argument `buffer`: is NULL, but its cap is 256");
    SMALL(dgemma_context_save, (c, out.bytes, 256, &out.len));
    SMALL(dgemma_context_save, (c, NULL, 0, NULL));
    NO(dgemma_context_load, (NULL, out.bytes, 1), "argument `context`: is NULL");
    NO(dgemma_context_load, (c, NULL, 1), "argument `bytes`: is NULL");
    NO(dgemma_context_load, (c, NULL, 0), "argument `bytes`: is not a saved context");
    NO(dgemma_context_load, (c, out.bytes, 256), "argument `bytes`: is not a saved context");
    NO(dgemma_context_load, (c, (const uint8_t *)"DGEMMACX", 8), "argument `bytes`: is shorter than it says");
    NO(dgemma_context_save_file, (NULL, "x"), "argument `context`: is NULL");
    NO(dgemma_context_save_file, (c, NULL), "argument `path`: is NULL");
    NO(dgemma_context_save_file, (c, not_utf8), "argument `path`: is not UTF-8");
    ROW(dgemma_context_save_file, (c, "no/such/folder/x"), DGEMMA_STATUS_IO, "no/such/folder/x: ");
    ROW(dgemma_context_save_file, (c, on.given.folder), DGEMMA_STATUS_IO, on.given.folder);
    NO(dgemma_context_load_file, (NULL, "x"), "argument `context`: is NULL");
    NO(dgemma_context_load_file, (c, NULL), "argument `path`: is NULL");
    NO(dgemma_context_load_file, (c, not_utf8), "argument `path`: is not UTF-8");
    ROW(dgemma_context_load_file, (c, "no/such/file"), DGEMMA_STATUS_IO, "no/such/file: ");
    ROW(dgemma_context_load_file, (c, on.given.folder), DGEMMA_STATUS_IO, on.given.folder);
    ROW(dgemma_context_load_file, (c, __FILE__), DGEMMA_STATUS_BAD_FILE, "is not a saved context");
}

static void canceller_rows(void) {
    NO(dgemma_canceller_create, (NULL, &out.canceller), "argument `context`: is NULL");
    NO(dgemma_canceller_create, (on.context, NULL), "argument `out`: is NULL");
    NO(dgemma_canceller_cancel, (NULL), "argument `canceller`: is NULL");
    NO(dgemma_canceller_clear, (NULL), "argument `canceller`: is NULL");
    NOTHING(dgemma_canceller_free, (NULL));
}

void context_rows(void) {
    create_rows();
    sequence_rows();
    full_rows();
    report_rows();
    canceller_rows();
}

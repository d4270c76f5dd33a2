/*
 * Two calls on one object at once, from two threads and from callbacks: the second is answered with DGEMMA_STATUS_BUSY and
 * changes nothing; what the header allows from callbacks works.
 */
#include "rows.h"
#include <pthread.h>

#define BUSY DGEMMA_STATUS_BUSY
#define USED "the context is in use by another call"

static dgemma_context *c;
static dgemma_block *b;

/* Every function of a context, while a call on it is under way. */
static void context_is_busy(void) {
    dgemma_context_info info = {.struct_size = sizeof info};
    dgemma_memory memory = {.struct_size = sizeof memory};
    dgemma_perf perf = {.struct_size = sizeof perf};
    ROW(dgemma_context_append, (c, on.ids, 1), BUSY, USED);
    ROW(dgemma_context_set_tokens, (c, on.ids, 1, &out.len), BUSY, USED);
    ROW(dgemma_context_truncate, (c, 0), BUSY, USED);
    ROW(dgemma_context_reset, (c), BUSY, USED);
    ROW(dgemma_context_tokens, (c, out.ids, 64, &out.len), BUSY, USED);
    ROW(dgemma_context_prefill, (c, NULL, NULL), BUSY, USED);
    ROW(dgemma_context_describe, (c, &info), BUSY, USED);
    ROW(dgemma_context_perf, (c, &perf), BUSY, USED);
    ROW(dgemma_context_memory, (c, &memory), BUSY, USED);
    ROW(dgemma_context_clone, (c, &out.context), BUSY, USED);
    ROW(dgemma_context_save, (c, out.bytes, 256, &out.len), BUSY, USED);
    ROW(dgemma_context_load, (c, out.bytes, 256), BUSY, USED);
    ROW(dgemma_context_save_file, (c, "no/such/folder/x"), BUSY, USED);
    ROW(dgemma_context_load_file, (c, "no/such/file"), BUSY, USED);
    ROW(dgemma_context_score, (c, on.ids, 1, NULL, 0, NULL), BUSY, USED);
    ROW(dgemma_context_generate, (c, NULL, &out.generation), BUSY, USED);
    ROW(dgemma_block_begin, (c, NULL, &out.block), BUSY, USED);
}

/* The same of a block, whose step is under way or not. */
static void block_is_busy(const char *used) {
    ROW(dgemma_block_step, (b, &out.flag), BUSY, used);
    ROW(dgemma_block_log_probs, (b, on.ids, 0, out.floats, 64, &out.len), BUSY, used);
    ROW(dgemma_block_logits, (b, on.ids, 0, out.floats, 64, &out.len), BUSY, used);
    ROW(dgemma_block_score, (b, NULL, 0, NULL), BUSY, used);
    ROW(dgemma_block_commit, (b, 1), BUSY, used);
}

/* What may be called while the context is in use. */
static void allowed(void) {
    dgemma_canceller *canceller = NULL;
    char message[256];
    OK(dgemma_canceller_create(c, &canceller));
    OK(dgemma_canceller_cancel(canceller));
    OK(dgemma_canceller_clear(canceller));
    dgemma_canceller_free(canceller);
    OK(dgemma_context_last_error(c, message, sizeof message, NULL));
    answers(on.model); /* the model, another context, and a generation within another */
}

static int from_prefill(size_t encoded, size_t total, void *user_data) {
    (void)encoded, (void)total;
    ++*(int *)user_data;
    context_is_busy();
    block_is_busy(USED);
    allowed();
    return 0;
}

static void *on_thread(void *unused) {
    (void)unused;
    context_is_busy();
    allowed();
    return NULL;
}

/* While a generation waits in its callback, another thread tries. */
static int from_step(const dgemma_step *step, void *user_data) {
    pthread_t thread;
    if (step->step > 0) return 0;
    ++*(int *)user_data;
    context_is_busy();
    CHECK(pthread_create(&thread, NULL, on_thread, NULL) == 0);
    pthread_join(thread, NULL);
    return 0;
}

static int from_noise(const dgemma_noise *noise, void *user_data) {
    dgemma_step step = {.struct_size = sizeof step};
    if (noise->purpose != DGEMMA_NOISE_DRAWS) return 0;
    ++*(int *)user_data;
    context_is_busy();
    block_is_busy("the block is in use by another call");
    ROW(dgemma_block_describe, (b, &step), BUSY, "the block is in use by another call");
    return 0;
}

static void callbacks(void) {
    dgemma_context *whole = on.context;
    dgemma_generate_params p;
    dgemma_block_params q;
    int calls = 0;
    on.context = NULL; /* the rows' own check of it would find it busy */
    OK(dgemma_context_clone(whole, &c));
    OK(dgemma_block_begin(c, NULL, &b));
    OK(dgemma_context_append(c, on.ids, 1));
    OK(dgemma_context_prefill(c, from_prefill, &calls));
    CHECK(calls == 1);
    dgemma_block_free(b);
    OK(dgemma_context_truncate(c, on.n_tokens));
    OK(dgemma_generate_params_init(&p, sizeof p));
    p.on_step = from_step;
    p.user_data = &calls;
    OK(dgemma_context_generate(c, &p, NULL));
    CHECK(calls == 2);
    OK(dgemma_block_params_init(&q, sizeof q));
    q.on_noise = from_noise;
    q.user_data = &calls;
    OK(dgemma_block_begin(c, &q, &b));
    OK(dgemma_block_step(b, NULL));
    CHECK(calls == 3);
    dgemma_block_free(b);
    dgemma_context_free(c);
    on.context = whole;
}

/* Two threads on one detokenizer: each call has it to itself or is told. */
static void *push_and_finish(void *user_data) {
    unsigned long bad = 0;
    char text[256];
    (void)user_data;
    for (int i = 0; i < 500; i++) {
        dgemma_status push = dgemma_detokenizer_push(on.detokenizer, on.ids, on.n_ids, text, sizeof text, NULL);
        dgemma_status end = dgemma_detokenizer_finish(on.detokenizer, text, sizeof text, NULL);
        bad += (push != DGEMMA_STATUS_OK && push != BUSY) + (end != DGEMMA_STATUS_OK && end != BUSY);
    }
    return (void *)bad;
}

static void detokenizer(void) {
    pthread_t threads[2];
    char text[256];
    void *bad;
    for (int i = 0; i < 2; i++) CHECK(pthread_create(&threads[i], NULL, push_and_finish, NULL) == 0);
    for (int i = 0; i < 2; i++) {
        pthread_join(threads[i], &bad);
        CHECK(bad == NULL);
    }
    OK(dgemma_detokenizer_finish(on.detokenizer, text, sizeof text, NULL));
}

/* Each thread finds its own failure. */
static void *fail_otherwise(void *unused) {
    CHECK(strcmp(dgemma_last_error(), "") == 0);
    REFUSED(dgemma_canceller_cancel(NULL), "argument `canceller`");
    return unused;
}

static void last_errors(void) {
    pthread_t thread;
    REFUSED(dgemma_context_reset(NULL), "argument `context`");
    CHECK(pthread_create(&thread, NULL, fail_otherwise, NULL) == 0);
    pthread_join(thread, NULL);
    CHECK(strcmp(dgemma_last_error(), "argument `context`: is NULL") == 0);
}

void busy_rows(void) {
    callbacks();
    detokenizer();
    last_errors();
}

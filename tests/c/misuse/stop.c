/* Callbacks that ask to stop, whatever they return for it; cancellers; objects freed from callbacks. */
#include "rows.h"
#include <limits.h>

/* What each callback answers, and how often it was asked. */
struct stopper {
    int answer;
    unsigned calls;
    dgemma_context *free_context;
    dgemma_model *free_model;
    dgemma_block *free_block;
};

static int stop(void *user_data) {
    struct stopper *stopper = user_data;
    stopper->calls++;
    dgemma_context_free(stopper->free_context);
    dgemma_model_free(stopper->free_model);
    dgemma_block_free(stopper->free_block);
    stopper->free_context = NULL;
    stopper->free_model = NULL;
    stopper->free_block = NULL;
    return stopper->answer;
}

static int stop_prefill(size_t encoded, size_t total, void *user_data) {
    CHECK(encoded <= total);
    return stop(user_data);
}

static int stop_step(const dgemma_step *step, void *user_data) {
    CHECK(step->struct_size == sizeof *step);
    return stop(user_data);
}

static int stop_text(const char *text, size_t len, void *user_data) {
    CHECK(strlen(text) == len);
    return stop(user_data);
}

static int stop_tokens(uint32_t block, const uint32_t *tokens, size_t n_tokens, void *user_data) {
    CHECK(block == 0 && n_tokens > 0 && tokens[0] < on.vocab);
    return stop(user_data);
}

static int stop_noise(const dgemma_noise *noise, void *user_data) {
    CHECK(noise->struct_size == sizeof *noise);
    return stop(user_data);
}

/* Generates with one callback that stops; the context goes on afterwards. */
static void stopped_by(dgemma_generate_params *p, int answer) {
    struct stopper stopper = {.answer = answer};
    dgemma_context *copy = NULL;
    dgemma_generate_params again;
    dgemma_generation result;
    p->user_data = &stopper;
    OK(dgemma_context_clone(on.context, &copy));
    OK(dgemma_context_append(copy, on.ids, 1)); /* something to encode */
    OK(dgemma_context_generate(copy, p, &result));
    CHECK(stopper.calls == 1 && result.stop_reason == DGEMMA_STOP_REASON_CANCELLED);
    OK(dgemma_generate_params_init(&again, sizeof again));
    again.max_steps = 1;
    OK(dgemma_context_generate(copy, &again, &result));
    CHECK(result.stop_reason != DGEMMA_STOP_REASON_CANCELLED && result.steps == 1);
    dgemma_context_free(copy);
}

/* An answer's last canvas ends it anyway; a callback that stops there is told that it did, and the canvas stays. */
static void stopped_at_the_end(void) {
    struct stopper stopper = {.answer = 1};
    dgemma_generate_params p;
    dgemma_generation result;
    OK(dgemma_generate_params_init(&p, sizeof p));
    p.user_data = &stopper;
    for (int which = 0; which < 3; which++) {
        p.on_text = which == 0 ? stop_text : NULL;
        p.on_tokens = which == 1 ? stop_tokens : NULL;
        p.max_tokens = which == 2; /* the limit, in place of the model's own end */
        if (which == 2) p.on_text = stop_text;
        stopper.calls = 0;
        OK(dgemma_generate(on.model, on.given.prompt, &p, &result));
        CHECK(stopper.calls == 1 && result.stop_reason == DGEMMA_STOP_REASON_CANCELLED);
        CHECK(result.blocks == 1 && result.tokens == (which == 2 ? 1 : 2));
    }
}

static void generations(void) {
    dgemma_generate_params fresh, p;
    dgemma_sampler_params eager; /* every draft is early text */
    OK(dgemma_sampler_params_init(&eager, sizeof eager, on.model));
    eager.stable_steps = 0;
    eager.stable_entropy = 100;
    OK(dgemma_generate_params_init(&fresh, sizeof fresh));
    fresh.flags = DGEMMA_GENERATE_IGNORE_END; /* so that there always is a next canvas */
    fresh.max_tokens = 100000;
    fresh.max_steps = 2;
    p = fresh;
    p.on_prefill = stop_prefill;
    stopped_by(&p, 1);
    p = fresh;
    p.on_step = stop_step;
    stopped_by(&p, 1);
    stopped_by(&p, -1);
    stopped_by(&p, INT_MIN);
    p = fresh;
    p.on_noise = stop_noise;
    stopped_by(&p, 1);
    p = fresh;
    p.on_tokens = stop_tokens;
    stopped_by(&p, 1);
    p = fresh;
    p.on_text = stop_text;
    stopped_by(&p, 1);
    p = fresh;
    p.on_early_text = stop_text;
    p.sampler = &eager;
    stopped_by(&p, 1);
}

static void other_calls(void) {
    struct stopper stopper = {.answer = 1};
    dgemma_context *copy = NULL;
    dgemma_block_params p;
    dgemma_block *block = NULL;
    OK(dgemma_context_clone(on.context, &copy));
    OK(dgemma_context_append(copy, on.ids, 1));
    ROW(dgemma_context_prefill, (copy, stop_prefill, &stopper), DGEMMA_STATUS_CANCELLED, "cancelled");
    OK(dgemma_block_params_init(&p, sizeof p));
    p.on_noise = stop_noise;
    p.user_data = &stopper;
    ROW(dgemma_block_begin, (copy, &p, &out.block), DGEMMA_STATUS_CANCELLED, "cancelled");
    stopper.answer = 0;
    OK(dgemma_block_begin(copy, &p, &block));
    stopper.answer = 1;
    ROW(dgemma_block_step, (block, &out.flag), DGEMMA_STATUS_CANCELLED, "cancelled");
    stopper.answer = 0;
    FINE(dgemma_block_step, (block, &out.flag));
    dgemma_block_free(block);
    dgemma_context_free(copy);
}

/* A cancel before the call stops the next call, which uses it up. */
static void cancelled(void) {
    dgemma_context *copy = NULL;
    dgemma_canceller *canceller = NULL;
    dgemma_block *block = NULL;
    dgemma_generation result;
    const dgemma_candidate candidate = {0, 0};
    float log_prob;
    OK(dgemma_context_clone(on.context, &copy));
    OK(dgemma_canceller_create(copy, &canceller));
    OK(dgemma_block_begin(copy, NULL, &block));
    OK(dgemma_canceller_cancel(canceller));
    ROW(dgemma_block_step, (block, &out.flag), DGEMMA_STATUS_CANCELLED, "cancelled");
    FINE(dgemma_block_step, (block, &out.flag));
    OK(dgemma_canceller_cancel(canceller));
    ROW(dgemma_context_score, (copy, on.ids, 1, &candidate, 1, &log_prob), DGEMMA_STATUS_CANCELLED, "cancelled");
    FINE(dgemma_context_score, (copy, on.ids, 1, &candidate, 1, &log_prob));
    OK(dgemma_context_append(copy, on.ids, 1));
    OK(dgemma_canceller_cancel(canceller));
    ROW(dgemma_context_prefill, (copy, NULL, NULL), DGEMMA_STATUS_CANCELLED, "cancelled");
    OK(dgemma_canceller_cancel(canceller));
    ROW(dgemma_block_begin, (copy, NULL, &out.block), DGEMMA_STATUS_CANCELLED, "cancelled");
    OK(dgemma_canceller_cancel(canceller));
    OK(dgemma_context_generate(copy, NULL, &result));
    CHECK(result.stop_reason == DGEMMA_STOP_REASON_CANCELLED && result.tokens == 0);
    OK(dgemma_canceller_cancel(canceller));
    OK(dgemma_canceller_cancel(canceller));
    OK(dgemma_canceller_clear(canceller));
    OK(dgemma_context_generate(copy, NULL, &result));
    CHECK(result.stop_reason != DGEMMA_STOP_REASON_CANCELLED);
    OK(dgemma_canceller_cancel(canceller));
    OK(dgemma_context_reset(copy)); /* takes it back as well */
    OK(dgemma_context_append(copy, on.ids, 1));
    OK(dgemma_context_prefill(copy, NULL, NULL));
    dgemma_context_free(copy);
    OK(dgemma_canceller_cancel(canceller)); /* outlives its context */
    dgemma_canceller_free(canceller);
    dgemma_block_free(block);
}

/* Whatever a call was given may be freed from its callbacks: the call goes on to its end. */
static void freed(void) {
    struct stopper stopper = {.answer = 0};
    dgemma_context *copy = NULL;
    dgemma_block *block = NULL;
    dgemma_generate_params p;
    dgemma_block_params q;
    dgemma_generation result;
    OK(dgemma_generate_params_init(&p, sizeof p));
    p.user_data = &stopper;
    p.on_step = stop_step;
    OK(dgemma_context_clone(on.context, &copy));
    stopper.free_context = copy;
    OK(dgemma_context_generate(copy, &p, &result));
    CHECK(stopper.free_context == NULL && result.stop_reason == DGEMMA_STOP_REASON_END_OF_GENERATION);
    stopper.free_model = load_model(on.given.model);
    OK(dgemma_generate(stopper.free_model, on.given.prompt, &p, &result));
    CHECK(stopper.free_model == NULL && result.tokens > 0);
    OK(dgemma_context_clone(on.context, &copy));
    OK(dgemma_context_append(copy, on.ids, 1));
    stopper.free_context = copy;
    OK(dgemma_context_prefill(copy, stop_prefill, &stopper));
    OK(dgemma_context_clone(on.context, &copy));
    OK(dgemma_block_params_init(&q, sizeof q));
    q.on_noise = stop_noise;
    q.user_data = &stopper;
    OK(dgemma_block_begin(copy, &q, &block));
    stopper.free_context = copy;
    stopper.free_block = block;
    OK(dgemma_block_step(block, NULL));
    CHECK(stopper.free_block == NULL);
}

void stop_rows(void) {
    generations();
    stopped_at_the_end();
    other_calls();
    cancelled();
    freed();
}

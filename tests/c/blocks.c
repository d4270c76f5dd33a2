/* Blocks step by step: the same text as in one call, infilling, logits and scores, commits of a part. */
#include "check.h"
#include <math.h>

#define CANVAS 32
#define VOCAB 512

/* By hand what dgemma_context_generate() does: the same answer. */
static void by_hand(const dgemma_model *model, const struct given *given) {
    dgemma_context *context = context_with(model, given->prompt);
    dgemma_block_params p;
    dgemma_block *block = NULL;
    dgemma_step step = {.struct_size = sizeof step};
    char text[64];
    size_t len = 0, end = 0;
    int done = 0;
    unsigned steps = 0;
    OK(dgemma_block_params_init(&p, sizeof p));
    p.seed = 7;
    OK(dgemma_block_begin(context, &p, &block));
    OK(dgemma_block_describe(block, &step));
    CHECK(step.canvas_length == CANVAS && step.max_steps == 16 && step.draft == NULL && step.canvas != NULL && !step.done);
    while (!done && steps < 16) {
        OK(dgemma_block_step(block, &done));
        steps++;
    }
    OK(dgemma_block_describe(block, &step));
    CHECK(step.step + 1 == steps && step.done == 1 && step.temperature > 0.4f && step.temperature <= 0.8f);
    while (end < CANVAS && !dgemma_token_is_end(model, step.draft[end])) end++;
    OK(dgemma_model_detokenize(model, step.draft, end, 0, text, sizeof text, &len));
    CHECK(strcmp(text, given->answer) == 0);
    OK(dgemma_block_commit(block, end));
    dgemma_block_free(block);
    dgemma_context_free(context);
}

/* "1?" with the first digit pinned: the model fills in the second; the pinned token stays at every step. */
static void infilling(const dgemma_model *model, const struct given *given) {
    dgemma_context *context = context_with(model, given->prompt);
    dgemma_block_params p;
    dgemma_block *block = NULL;
    dgemma_step step = {.struct_size = sizeof step};
    uint32_t tokens[CANVAS] = {0}, one = 0, nine = 0, end = 5;
    uint8_t slots[CANVAS] = {0};
    int done = 0;
    OK(dgemma_token_find(model, "1", 1, &one));
    OK(dgemma_token_find(model, "9", 1, &nine));
    tokens[0] = one;
    slots[0] = DGEMMA_SLOT_PINNED;
    tokens[2] = end;
    slots[2] = DGEMMA_SLOT_PINNED;
    tokens[1] = one;
    slots[1] = DGEMMA_SLOT_FREE;
    OK(dgemma_block_params_init(&p, sizeof p));
    p.tokens = tokens;
    p.slots = slots;
    OK(dgemma_block_begin(context, &p, &block));
    while (!done) {
        OK(dgemma_block_step(block, &done));
        OK(dgemma_block_describe(block, &step));
        CHECK(step.pinned[0] == 1 && step.pinned[1] == 0 && step.pinned[2] == 1);
        CHECK(step.canvas[0] == one && step.draft[0] == one && step.draft[2] == end && step.accepted[0] == 1);
    }
    CHECK(step.draft[1] == nine);
    dgemma_block_free(block);
    dgemma_context_free(context);
}

/* Logits, log-probabilities, scores and confidences of one step belong together. */
static void numbers(const dgemma_model *model, const struct given *given) {
    static float log_probs[2 * VOCAB], logits[2 * VOCAB];
    dgemma_context *context = context_with(model, given->prompt);
    dgemma_block *block = NULL;
    dgemma_step step = {.struct_size = sizeof step};
    dgemma_perf perf = {.struct_size = sizeof perf};
    const uint32_t rows[] = {0, 31};
    dgemma_candidate wanted[3];
    uint32_t canvas[CANVAS];
    float scores[3], again[3];
    size_t len = 0;
    double sum = 0;
    OK(dgemma_block_begin(context, NULL, &block));
    OK(dgemma_block_describe(block, &step));
    memcpy(canvas, step.canvas, sizeof canvas);
    OK(dgemma_block_step(block, NULL));
    OK(dgemma_block_describe(block, &step));
    OK(dgemma_block_log_probs(block, rows, 2, log_probs, 2 * VOCAB, &len));
    CHECK(len == 2 * VOCAB);
    OK(dgemma_block_logits(block, rows, 2, logits, 2 * VOCAB, &len));
    CHECK(len == 2 * VOCAB);
    for (size_t i = 0; i < VOCAB; i++) {
        sum += exp(log_probs[i]);
        CHECK(log_probs[step.draft[0]] >= log_probs[i] && fabsf(logits[i]) <= 30.0f);
        CHECK(fabsf((log_probs[i] - log_probs[0]) - (logits[i] - logits[0])) < 1e-4f);
    }
    CHECK(fabs(sum - 1) < 1e-4);
    for (size_t i = 0; i < 3; i++) {
        wanted[i].position = rows[i / 2];
        wanted[i].token = (uint32_t)(7 * i + 280);
    }
    OK(dgemma_block_score(block, wanted, 3, scores));
    for (size_t i = 0; i < 3; i++) CHECK(fabsf(scores[i] - log_probs[i / 2 * VOCAB + wanted[i].token]) < 1e-4f);
    /* One scoring pass over the canvas that the first step started from: the same numbers. */
    OK(dgemma_context_score(context, canvas, CANVAS, wanted, 3, again));
    for (size_t i = 0; i < 3; i++) CHECK(fabsf(scores[i] - again[i]) < 1e-4f);
    OK(dgemma_context_perf(context, &perf));
    CHECK(perf.scorings == 1 && perf.steps == 1 && perf.scoring_seconds > 0);
    dgemma_block_free(block);
    dgemma_context_free(context);
}

/* A short canvas, of which a part is committed; the next block begins behind that. */
static void parts(const dgemma_model *model, const struct given *given) {
    dgemma_context *context = context_with(model, given->prompt);
    dgemma_context_info before = {.struct_size = sizeof before}, after = {.struct_size = sizeof after};
    dgemma_block_params p;
    dgemma_block *block = NULL;
    dgemma_step step = {.struct_size = sizeof step};
    uint32_t found[MOST];
    OK(dgemma_context_describe(context, &before));
    OK(dgemma_block_params_init(&p, sizeof p));
    p.canvas_length = 8;
    OK(dgemma_block_begin(context, &p, &block));
    OK(dgemma_block_step(block, NULL));
    OK(dgemma_block_describe(block, &step));
    CHECK(step.canvas_length == 8);
    OK(dgemma_block_commit(block, 3));
    OK(dgemma_context_describe(context, &after));
    CHECK(after.length == before.length + 3);
    OK(dgemma_context_tokens(context, found, MOST, NULL));
    CHECK(memcmp(found + before.length, step.draft, 3 * sizeof *found) == 0);
    dgemma_block_free(block);
    p.index = 1;
    OK(dgemma_block_begin(context, &p, &block));
    OK(dgemma_block_describe(block, &step));
    CHECK(step.block == 1);
    dgemma_block_free(block);
    dgemma_context_free(context);
}

int main(int argc, char **argv) {
    struct given given = given_of(argc, argv);
    dgemma_model *model = load_model(given.model);
    by_hand(model, &given);
    infilling(model, &given);
    numbers(model, &given);
    parts(model, &given);
    dgemma_model_free(model);
    return finish();
}

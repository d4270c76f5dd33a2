/* Misuse of blocks and of scoring. */
#include "rows.h"

static void begin_rows(void) {
    dgemma_context *c = on.context;
    dgemma_block_params p;
    uint8_t slots[1024];
    uint32_t tokens[1024];
    memset(slots, DGEMMA_SLOT_PINNED, sizeof slots);
    for (size_t i = 0; i < 1024; i++) tokens[i] = on.ids[0];
    NO(dgemma_block_params_init, (NULL, sizeof p), "argument `params`: is NULL");
    NO(dgemma_block_begin, (NULL, NULL, &out.block), "argument `context`: is NULL");
    NO(dgemma_block_begin, (c, NULL, NULL), "argument `out`: is NULL");
    OK(dgemma_block_params_init(&p, sizeof p));
    p.canvas_length = on.canvas + 1;
    NO(dgemma_block_begin, (c, &p, &out.block), "argument `canvas_length`: is ");
    p.canvas_length = UINT32_MAX;
    NO(dgemma_block_begin, (c, &p, &out.block), "argument `canvas_length`: is ");
    p.canvas_length = 0;
    p.slots = slots;
    NO(dgemma_block_begin, (c, &p, &out.block), "argument `tokens`: is NULL, but not all slots are noise");
    p.tokens = (const uint32_t *)(out.bytes + 1);
    NO(dgemma_block_begin, (c, &p, &out.block), "argument `tokens`: is not aligned");
    p.tokens = tokens;
    slots[3] = 3;
    NO(dgemma_block_begin, (c, &p, &out.block), "argument `slots`: has 3 at 3");
    slots[3] = DGEMMA_SLOT_FREE;
    tokens[3] = on.vocab;
    NO(dgemma_block_begin, (c, &p, &out.block), "argument `tokens`: has id ");
    slots[3] = DGEMMA_SLOT_NOISE; /* its token is ignored */
    OK(dgemma_block_begin(c, &p, &out.block));
    dgemma_block_free(out.block);
    NOTHING(dgemma_block_free, (NULL));
}

static void step_rows(void) {
    dgemma_step step = {.struct_size = sizeof step};
    dgemma_block_params p;
    dgemma_block *block = NULL;
    NO(dgemma_block_step, (NULL, &out.flag), "argument `block`: is NULL");
    NO(dgemma_block_describe, (NULL, &step), "argument `block`: is NULL");
    NO(dgemma_block_describe, (on.block, NULL), "argument `out`: is NULL");
    NO(dgemma_block_commit, (NULL, 1), "argument `block`: is NULL");
    NO(dgemma_block_commit, (on.block, SIZE_MAX), "argument `n`: is ");
    FINE(dgemma_block_commit, (on.block, 0));
    /* Before the first step, and out of steps. */
    OK(dgemma_block_params_init(&p, sizeof p));
    dgemma_sampler_params s;
    OK(dgemma_sampler_params_init(&s, sizeof s, on.model));
    s.max_steps = 1;
    p.sampler = &s;
    OK(dgemma_block_begin(on.context, &p, &block));
    NO(dgemma_block_commit, (block, 1), "argument `n`: is 1, but the block's draft has 0 tokens");
    NO(dgemma_block_logits, (block, on.ids, 0, out.floats, 64, &out.len), "argument `block`: has done no step yet");
    NO(dgemma_block_score, (block, NULL, 0, NULL), "argument `block`: has done no step yet");
    FINE(dgemma_block_describe, (block, &step));
    CHECK(step.draft == NULL && step.canvas != NULL);
    FINE(dgemma_block_step, (block, NULL));
    NO(dgemma_block_step, (block, &out.flag), "argument `block`: is done, expected one with steps left");
    /* The other block has lost its hidden states and its place in the context's memory by that. */
    NO(dgemma_block_step, (on.block, &out.flag), "argument `block`: another block was stepped since");
    NO(dgemma_block_logits, (on.block, on.ids, 0, out.floats, 64, &out.len), "argument `block`: its last step is not");
    dgemma_block_free(block);
}

static void row_rows(void) {
    const uint32_t far = on.canvas, near = 0;
    dgemma_block *b = on.block;
    NO(dgemma_block_log_probs, (NULL, &near, 1, out.floats, 64, &out.len), "argument `block`: is NULL");
    NO(dgemma_block_log_probs, (b, NULL, 1, out.floats, 64, &out.len), "argument `rows`: is NULL");
    NO(dgemma_block_log_probs, (b, &far, 1, out.floats, 64, &out.len), "argument `rows`: has ");
    NO(dgemma_block_log_probs, (b, &near, 1, NULL, on.vocab, &out.len), "argument `log_probs`: is NULL");
    SMALL(dgemma_block_log_probs, (b, &near, 1, out.floats, 64, &out.len));
    SMALL(dgemma_block_log_probs, (b, &near, 1, NULL, 0, NULL));
    FINE(dgemma_block_log_probs, (b, NULL, 0, NULL, 0, NULL));
    NO(dgemma_block_logits, (NULL, &near, 1, out.floats, 64, &out.len), "argument `block`: is NULL");
    NO(dgemma_block_logits, (b, NULL, 1, out.floats, 64, &out.len), "argument `rows`: is NULL");
    NO(dgemma_block_logits, (b, &far, 1, out.floats, 64, &out.len), "argument `rows`: has ");
    NO(dgemma_block_logits, (b, &near, 1, NULL, on.vocab, &out.len), "argument `logits`: is NULL");
    SMALL(dgemma_block_logits, (b, &near, 1, out.floats, 64, &out.len));
    FINE(dgemma_block_logits, (b, NULL, 0, NULL, 0, NULL));
}

static void score_rows(void) {
    dgemma_context *c = on.context;
    dgemma_block *b = on.block;
    const dgemma_candidate good = {0, 0}, far = {on.canvas, 0}, odd = {0, on.vocab};
    NO(dgemma_block_score, (NULL, &good, 1, out.floats), "argument `block`: is NULL");
    NO(dgemma_block_score, (b, NULL, 1, out.floats), "argument `candidates`: is NULL");
    NO(dgemma_block_score, (b, &good, 1, NULL), "argument `log_probs`: is NULL");
    NO(dgemma_block_score, (b, &far, 1, out.floats), "argument `candidates`: ask for token 0 at ");
    NO(dgemma_block_score, (b, &odd, 1, out.floats), "argument `candidates`: ask for token ");
    FINE(dgemma_block_score, (b, NULL, 0, NULL));
    NO(dgemma_context_score, (NULL, on.ids, 1, &good, 1, out.floats), "argument `context`: is NULL");
    NO(dgemma_context_score, (c, NULL, 1, &good, 1, out.floats), "argument `canvas`: is NULL");
    NO(dgemma_context_score, (c, NULL, 0, NULL, 0, NULL), "argument `canvas`: expected 1 to ");
    NO(dgemma_context_score, (c, &on.vocab, 1, &good, 1, out.floats), "argument `canvas`: expected 1 to ");
    NO(dgemma_context_score, (c, on.ids, SIZE_MAX, &good, 1, out.floats), "argument `canvas`");
    NO(dgemma_context_score, (c, on.ids, 1, NULL, 1, out.floats), "argument `candidates`: is NULL");
    NO(dgemma_context_score, (c, on.ids, 1, &good, 1, NULL), "argument `log_probs`: is NULL");
    NO(dgemma_context_score, (c, on.ids, 1, &far, 1, out.floats), "argument `candidates`: ask for token 0 at ");
    NO(dgemma_context_score, (c, on.ids, 1, &odd, 1, out.floats), "argument `candidates`: ask for token ");
    FINE(dgemma_context_score, (c, on.ids, 1, NULL, 0, NULL));
}

/* The sequence moves on under a block. */
static void moved_rows(void) {
    dgemma_context *copy = NULL;
    dgemma_block *block = NULL;
    OK(dgemma_context_clone(on.context, &copy));
    OK(dgemma_block_begin(copy, NULL, &block));
    OK(dgemma_block_step(block, NULL));
    OK(dgemma_context_append(copy, on.ids, 1));
    NO(dgemma_block_step, (block, &out.flag), "argument `block`: began at position ");
    NO(dgemma_block_commit, (block, 1), "argument `block`: began at position ");
    OK(dgemma_context_truncate(copy, on.n_tokens));
    FINE(dgemma_block_step, (block, &out.flag));
    OK(dgemma_block_commit(block, 1));
    NO(dgemma_block_commit, (block, 1), "argument `block`: began at position ");
    dgemma_context_free(copy);
    dgemma_block_free(block);
}

void block_rows(void) {
    begin_rows();
    row_rows();
    score_rows();
    moved_rows();
    step_rows();
}

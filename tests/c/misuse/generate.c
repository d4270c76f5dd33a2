/* Misuse of generations and of the sampler's numbers. */
#include "rows.h"
#include <math.h>

static void generate_params_rows(void) {
    dgemma_generate_params p;
    dgemma_context *c = on.context;
    OK(dgemma_generate_params_init(&p, sizeof p));
    p.prompt_kind = 2;
    NO(dgemma_generate, (on.model, "x", &p, &out.generation), "argument `prompt_kind`: is 2");
    p.prompt_kind = 0;
    p.flags = 8;
    NO(dgemma_generate, (on.model, "x", &p, &out.generation), "argument `flags`: is 0x8");
    NO(dgemma_context_generate, (c, &p, &out.generation), "argument `flags`: is 0x8");
    p.flags = 0;
    p.max_steps = 1000001;
    NO(dgemma_generate, (on.model, "x", &p, &out.generation), "argument `max_steps`: is 1000001");
    NO(dgemma_context_generate, (c, &p, &out.generation), "argument `max_steps`: is 1000001");
    p.max_steps = 0;
    p.context_size = on.canvas - 1;
    NO(dgemma_generate, (on.model, "x", &p, &out.generation), "argument `context_size`: is ");
    p.context_size = SIZE_MAX;
    NO(dgemma_generate, (on.model, "x", &p, &out.generation), "argument `context_size`: is ");
    p.context_size = on.canvas;
    ROW(dgemma_generate, (on.model, "x", &p, &out.generation), DGEMMA_STATUS_CONTEXT_FULL, "too small");
}

/* One number of the sampler after the other; `expression` changes it. */
#define SAMPLER(expression, word)                                                       \
    do {                                                                                \
        OK(dgemma_sampler_params_init(&s, sizeof s, on.model));                         \
        expression;                                                                     \
        NO(dgemma_generate, (on.model, "x", &p, &out.generation), word);                \
        NO(dgemma_context_generate, (on.context, &p, &out.generation), word);           \
        NO(dgemma_block_begin, (on.context, &b, &out.block), word);                     \
    } while (0)

static void sampler_rows(void) {
    dgemma_sampler_params s;
    dgemma_generate_params p;
    dgemma_block_params b;
    dgemma_logit_bias bias = {0, 0};
    uint32_t *every = malloc(4 * (size_t)on.vocab);
    if (every == NULL) exit(3);
    for (uint32_t i = 0; i < on.vocab; i++) every[i] = i;
    OK(dgemma_generate_params_init(&p, sizeof p));
    OK(dgemma_block_params_init(&b, sizeof b));
    p.sampler = &s;
    b.sampler = &s;
    SAMPLER(s.max_steps = 0, "argument `max_steps`: is 0, expected 1 to 1000000");
    SAMPLER(s.max_steps = UINT32_MAX, "argument `max_steps`: is 4294967295");
    SAMPLER(s.t_min = 0, "argument `t_min`: is 0");
    SAMPLER(s.t_min = -1, "argument `t_min`: is -1");
    SAMPLER(s.t_min = NAN, "argument `t_min`: is NaN");
    SAMPLER(s.t_max = s.t_min / 2, "argument `t_max`");
    SAMPLER(s.t_max = INFINITY, "argument `t_max`: is inf");
    SAMPLER(s.entropy_bound = -1, "argument `entropy_bound`: is -1");
    SAMPLER(s.entropy_bound = NAN, "argument `entropy_bound`: is NaN");
    SAMPLER(s.confidence = -1, "argument `confidence`: is -1");
    SAMPLER(s.stability = 1025, "argument `stability`: is 1025");
    SAMPLER(s.stable_entropy = NAN, "argument `stable_entropy`: is NaN");
    SAMPLER(s.n_logit_bias = 1, "argument `logit_bias`: is NULL, expected 1 entries");
    SAMPLER((s.n_logit_bias = SIZE_MAX, s.logit_bias = &bias), "argument `logit_bias`");
    SAMPLER((bias.token = on.vocab, s.logit_bias = &bias, s.n_logit_bias = 1), "argument `logit_bias`: has id ");
    SAMPLER((bias.token = 0, bias.bias = 1001, s.logit_bias = &bias, s.n_logit_bias = 1), "argument `logit_bias`: of token 0");
    SAMPLER((bias.bias = NAN, s.logit_bias = &bias, s.n_logit_bias = 1), "argument `logit_bias`: of token 0 is NaN");
    SAMPLER((bias.bias = INFINITY, s.logit_bias = &bias, s.n_logit_bias = 1), "argument `logit_bias`: of token 0 is inf");
    SAMPLER(s.n_banned = 1, "argument `banned`: is NULL, expected 1 entries");
    SAMPLER((s.banned = &on.vocab, s.n_banned = 1), "argument `banned`: has id ");
    SAMPLER((s.banned = every, s.n_banned = on.vocab), "argument `banned`: has all ");
    free(every);
}

/* Noise that the program spoils: what is written is checked. */
static int spoil(const dgemma_noise *noise, void *user_data) {
    uint32_t purpose = *(uint32_t *)user_data;
    if (noise->purpose != purpose) return 0;
    if (noise->tokens != NULL) noise->tokens[noise->canvas_length - 1] = UINT32_MAX;
    if (noise->draws != NULL) noise->draws[0] = 1.0f;
    return 0;
}

static void noise_rows(void) {
    dgemma_generate_params p;
    dgemma_block_params b;
    dgemma_block *block = NULL;
    uint32_t purpose;
    OK(dgemma_generate_params_init(&p, sizeof p));
    OK(dgemma_block_params_init(&b, sizeof b));
    p.on_noise = b.on_noise = spoil;
    p.user_data = b.user_data = &purpose;
    purpose = DGEMMA_NOISE_CANVAS;
    NO(dgemma_context_generate, (on.context, &p, &out.generation), "argument `on_noise`: wrote id 4294967295");
    NO(dgemma_block_begin, (on.context, &b, &out.block), "argument `on_noise`: wrote id 4294967295");
    purpose = DGEMMA_NOISE_DRAWS;
    NO(dgemma_generate, (on.model, "x", &p, &out.generation), "argument `on_noise`: wrote 1, expected");
    OK(dgemma_block_begin(on.context, &b, &block));
    NO(dgemma_block_step, (block, &out.flag), "argument `on_noise`: wrote 1, expected");
    purpose = DGEMMA_NOISE_RENOISE;
    NO(dgemma_block_step, (block, &out.flag), "argument `on_noise`: wrote id 4294967295");
    purpose = 9; /* and can be stepped again */
    FINE(dgemma_block_step, (block, &out.flag));
    dgemma_block_free(block);
}

void generate_rows(void) {
    dgemma_generate_params p;
    dgemma_sampler_params s;
    NO(dgemma_generate_params_init, (NULL, sizeof p), "argument `params`: is NULL");
    NO(dgemma_sampler_params_init, (NULL, sizeof s, on.model), "argument `params`: is NULL");
    FINE(dgemma_sampler_params_init, (&s, sizeof s, NULL));
    CHECK(s.max_steps == 48 && s.t_min > 0.39f && s.t_max > 0.79f);
    NO(dgemma_generate, (NULL, "x", NULL, &out.generation), "argument `model`: is NULL");
    NO(dgemma_generate, (on.model, NULL, NULL, &out.generation), "argument `prompt`: is NULL");
    NO(dgemma_generate, (on.model, not_utf8, NULL, &out.generation), "argument `prompt`: is not UTF-8");
    FINE(dgemma_generate, (on.model, "", NULL, NULL));
    OK(dgemma_generate_params_init(&p, sizeof p));
    p.prompt_kind = DGEMMA_PROMPT_RAW;
    FINE(dgemma_generate, (on.model, "", &p, NULL));
    NO(dgemma_context_generate, (NULL, NULL, &out.generation), "argument `context`: is NULL");
    generate_params_rows();
    sampler_rows();
    noise_rows();
}

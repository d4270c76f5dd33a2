/* Sequences: extended, cut, replaced, encoded ahead, counted; and generations on them with everything that they report. */
#include "check.h"
#include <math.h>

static void sequences(const dgemma_model *model) {
    const uint32_t ids[] = {2, 362, 364, 263, 286, 359, 263, 280, 281, 294}, other[] = {2, 362, 364, 300};
    dgemma_context *context = NULL;
    dgemma_context_params params;
    dgemma_context_info info = {.struct_size = sizeof info};
    uint32_t found[16];
    size_t len = 0, reused = 99;
    OK(dgemma_context_params_init(&params, sizeof params));
    params.context_size = 100;
    params.seed = 5;
    params.chunk = 4;
    params.kv_type = DGEMMA_KV_F16;
    OK(dgemma_context_create(model, &params, &context));
    OK(dgemma_context_describe(context, &info));
    CHECK(info.length == 0 && info.encoded == 0 && info.context_size == 100 && info.seed == 5 && info.chunk == 4);
    CHECK(info.kv_type == DGEMMA_KV_F16);
    OK(dgemma_context_append(context, ids, 6));
    OK(dgemma_context_append(context, ids + 6, 4));
    OK(dgemma_context_tokens(context, found, 16, &len));
    CHECK(len == 10 && memcmp(found, ids, sizeof ids) == 0);
    OK(dgemma_context_prefill(context, NULL, NULL));
    OK(dgemma_context_describe(context, &info));
    CHECK(info.length == 10 && info.encoded == 10);
    OK(dgemma_context_set_tokens(context, other, 4, &reused));
    CHECK(reused == 3);
    OK(dgemma_context_set_tokens(context, ids, 10, &reused));
    CHECK(reused == 3);
    OK(dgemma_context_truncate(context, 2));
    OK(dgemma_context_describe(context, &info));
    CHECK(info.length == 2 && info.encoded == 2);
    OK(dgemma_context_reset(context));
    OK(dgemma_context_describe(context, &info));
    CHECK(info.length == 0 && info.encoded == 0);
    dgemma_context_free(context);
}

struct heard {
    struct text text, early;
    struct tokens tokens;
    size_t encoded, total;
    unsigned prefills, steps, accepted, changed, earlies;
    float first_temperature;
};

static int on_text(const char *bytes, size_t len, void *user_data) {
    return hear_text(bytes, len, &((struct heard *)user_data)->text);
}

static int on_early(const char *bytes, size_t len, void *user_data) {
    struct heard *heard = user_data;
    heard->earlies++;
    heard->early.len = 0; /* replaces the one before */
    return hear_text(bytes, len, &heard->early);
}

static int on_prefill(size_t encoded, size_t total, void *user_data) {
    struct heard *heard = user_data;
    CHECK(encoded > heard->encoded && encoded <= total);
    heard->encoded = encoded;
    heard->total = total;
    heard->prefills++;
    return 0;
}

static int on_tokens(uint32_t block, const uint32_t *tokens, size_t n_tokens, void *user_data) {
    struct heard *heard = user_data;
    CHECK(block == 0 && heard->tokens.len + n_tokens <= MOST);
    memcpy(heard->tokens.ids + heard->tokens.len, tokens, 4 * n_tokens);
    heard->tokens.len += n_tokens;
    return 0;
}

static int on_step(const dgemma_step *step, void *user_data) {
    struct heard *heard = user_data;
    unsigned accepted = 0;
    CHECK(step->struct_size == sizeof *step && step->block == 0 && step->step == heard->steps && step->max_steps == 16);
    CHECK(step->canvas_length == 32 && step->stable_length <= 32 && step->done >= step->converged);
    for (size_t i = 0; i < step->canvas_length; i++) {
        CHECK(step->entropy[i] >= 0.0f && step->entropy[i] <= 6.24f); /* ln 512 */
        CHECK(step->log_prob[i] <= 0.0f && step->draft[i] < 512 && step->canvas[i] < 512 && step->drawn[i] < 512);
        CHECK(step->accepted[i] <= 1 && step->changed[i] <= 1 && step->pinned[i] == 0);
        CHECK(!step->accepted[i] || step->canvas[i] == step->drawn[i]);
        accepted += step->accepted[i];
        heard->changed += step->changed[i];
    }
    CHECK(accepted >= 1);
    if (step->step == 0) heard->first_temperature = step->temperature;
    heard->accepted += accepted;
    heard->steps++;
    return 0;
}

static void generation(const dgemma_model *model, const struct given *given) {
    static struct heard heard;
    dgemma_context *context = context_with(model, given->prompt);
    dgemma_generate_params p;
    dgemma_generation result;
    dgemma_perf perf = {.struct_size = sizeof perf};
    struct tokens prompt = chat_tokens(model, given->prompt), whole;
    char text[64];
    size_t len = 0;
    OK(dgemma_generate_params_init(&p, sizeof p));
    p.seed = 7;
    p.on_text = on_text;
    p.on_step = on_step;
    p.on_tokens = on_tokens;
    p.on_early_text = on_early;
    p.on_prefill = on_prefill;
    p.user_data = &heard;
    OK(dgemma_context_generate(context, &p, &result));
    CHECK(strcmp(heard.text.bytes, given->answer) == 0);
    CHECK(heard.prefills == 1 && heard.encoded == prompt.len && heard.total == prompt.len);
    CHECK(heard.steps >= 2 && heard.changed > 0 && fabsf(heard.first_temperature - 0.8f) < 1e-6f);
    CHECK(heard.earlies == 0 || strncmp(heard.early.bytes, given->answer, heard.early.len) == 0);
    CHECK(result.stop_reason == DGEMMA_STOP_REASON_END_OF_GENERATION && result.blocks == 1 && result.steps == heard.steps);
    CHECK(result.prompt_tokens == prompt.len && result.tokens == heard.tokens.len && result.tokens == 2);
    CHECK(result.total_seconds >= result.denoise_seconds && result.first_canvas_seconds > 0 && result.prefill_seconds > 0);
    OK(dgemma_model_detokenize(model, heard.tokens.ids, heard.tokens.len, 0, text, sizeof text, &len));
    CHECK(strcmp(text, given->answer) == 0);
    /* The sequence has grown by the answer and the token that ends it. */
    OK(dgemma_context_tokens(context, whole.ids, MOST, &whole.len));
    CHECK(whole.len == prompt.len + 3 && dgemma_token_is_end(model, whole.ids[whole.len - 1]));
    OK(dgemma_context_perf(context, &perf));
    CHECK(perf.prefill_tokens == prompt.len && perf.steps == heard.steps && perf.committed_tokens == 3 && perf.scorings == 0);
    CHECK(perf.denoise_seconds > 0 && perf.attention_seconds > 0 && perf.feed_forward_seconds > 0 && perf.head_seconds > 0);
    dgemma_context_free(context);
}

/* In one call, in a context of its own: the same text. */
static void one_call(const dgemma_model *model, const struct given *given) {
    struct text text = {.len = 0}, raw = {.len = 0};
    dgemma_generate_params p;
    dgemma_generation result;
    OK(dgemma_generate_params_init(&p, sizeof p));
    p.seed = 7;
    p.on_text = hear_text;
    p.user_data = &text;
    OK(dgemma_generate(model, given->prompt, &p, &result));
    CHECK(strcmp(text.bytes, given->answer) == 0 && result.tokens == 2);
    p.prompt_kind = DGEMMA_PROMPT_RAW;
    p.flags = DGEMMA_GENERATE_SHOW_SPECIAL | DGEMMA_GENERATE_IGNORE_END;
    p.user_data = &raw;
    OK(dgemma_generate(model, "<|turn>user\nWhat is 7 + 12?<turn|>\n<|turn>model\n", &p, &result));
    CHECK(strncmp(raw.bytes, "19<turn|>", 9) == 0 && result.tokens == 32);
    CHECK(result.stop_reason == DGEMMA_STOP_REASON_MAX_TOKENS);
}

/* A canvas as short as what is wanted; a text cut at its limit; a token that is banned. */
static void limits(const dgemma_model *model, const struct given *given) {
    dgemma_context *context = context_with(model, given->prompt);
    struct tokens prompt = chat_tokens(model, given->prompt);
    struct text text = {.len = 0};
    dgemma_generate_params p;
    dgemma_sampler_params s;
    dgemma_generation result;
    uint32_t nine = 0;
    OK(dgemma_token_find(model, "9", 1, &nine));
    OK(dgemma_generate_params_init(&p, sizeof p));
    p.max_tokens = 1;
    p.on_text = hear_text;
    p.user_data = &text;
    OK(dgemma_context_generate(context, &p, &result));
    CHECK(strcmp(text.bytes, "1") == 0 && result.tokens == 1 && result.stop_reason == DGEMMA_STOP_REASON_MAX_TOKENS);
    OK(dgemma_context_truncate(context, prompt.len));
    text.len = 0;
    p.max_tokens = 3;
    p.flags = DGEMMA_GENERATE_ADAPTIVE_LAST_CANVAS | DGEMMA_GENERATE_IGNORE_END;
    OK(dgemma_context_generate(context, &p, &result));
    CHECK(result.tokens == 3 && result.blocks == 1);
    OK(dgemma_context_truncate(context, prompt.len));
    text.len = 0;
    p.max_tokens = 0;
    p.flags = 0;
    OK(dgemma_sampler_params_init(&s, sizeof s, model));
    CHECK(s.max_steps == 16 && s.stability == 1);
    s.banned = &nine;
    s.n_banned = 1;
    p.sampler = &s;
    OK(dgemma_context_generate(context, &p, &result));
    CHECK(text.len > 0 && strchr(text.bytes, '9') == NULL);
    dgemma_context_free(context);
}

int main(int argc, char **argv) {
    struct given given = given_of(argc, argv);
    dgemma_model *model = load_model(given.model);
    sequences(model);
    generation(model, &given);
    one_call(model, &given);
    limits(model, &given);
    dgemma_model_free(model);
    return finish();
}

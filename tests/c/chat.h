/*
 * A user's message as the tokens that a model answers, and answers as text: what the happy paths begin with.
 */
#ifndef CHAT_H
#define CHAT_H

#include "check.h"

#define MOST 1024

struct tokens {
    uint32_t ids[MOST];
    size_t len;
};

struct text {
    char bytes[8 * MOST];
    size_t len;
};

/* The prompt in the model's chat template. */
static struct tokens chat_tokens(const dgemma_model *model, const char *prompt) {
    static char messages[MOST], rendered[8 * MOST];
    struct tokens tokens;
    size_t len = 0;
    snprintf(messages, sizeof messages, "[{\"role\": \"user\", \"content\": \"%s\"}]", prompt);
    OK(dgemma_chat_render(model, messages, NULL, DGEMMA_CHAT_ADD_GENERATION_PROMPT, rendered, sizeof rendered, &len));
    OK(dgemma_model_tokenize(model, rendered, len, DGEMMA_TOKENIZE_PARSE_SPECIAL, tokens.ids, MOST, &tokens.len));
    return tokens;
}

static int hear_text(const char *bytes, size_t len, void *user_data) {
    struct text *text = user_data;
    CHECK(bytes[len] == '\0' && text->len + len < sizeof text->bytes);
    memcpy(text->bytes + text->len, bytes, len + 1);
    text->len += len;
    return 0;
}

/* What a context with a prompt answers, by a seed. */
static struct text answer_with(dgemma_context *context, dgemma_generate_params *params, uint64_t seed) {
    struct text text;
    text.len = 0;
    text.bytes[0] = '\0';
    params->seed = seed;
    params->on_text = hear_text;
    params->user_data = &text;
    OK(dgemma_context_generate(context, params, NULL));
    params->on_text = NULL;
    params->user_data = NULL;
    return text;
}

static struct text answer_of(dgemma_context *context, uint64_t seed) {
    dgemma_generate_params params;
    OK(dgemma_generate_params_init(&params, sizeof params));
    return answer_with(context, &params, seed);
}

/* A context with a prompt in it. */
static dgemma_context *context_with(const dgemma_model *model, const char *prompt) {
    struct tokens tokens = chat_tokens(model, prompt);
    dgemma_context *context = NULL;
    OK(dgemma_context_create(model, NULL, &context));
    OK(dgemma_context_append(context, tokens.ids, tokens.len));
    return context;
}

#endif

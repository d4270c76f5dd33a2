/* What the C tests share. */
#include "check.h"

_Atomic int failures = 0;
_Atomic unsigned checks = 0;

struct given given_of(int argc, char **argv) {
    struct given given;
    if (argc != 5) {
        fprintf(stderr, "usage: %s MODEL PROMPT ANSWER FOLDER\n", argv[0]);
        exit(2);
    }
    given.model = argv[1];
    given.prompt = argv[2];
    given.answer = argv[3];
    given.folder = argv[4];
    return given;
}

dgemma_model *load_model(const char *path) {
    dgemma_model_params params;
    dgemma_model *model = NULL;
    OK(dgemma_model_params_init(&params, sizeof params));
    params.threads = 2;
    OK(dgemma_model_load(path, &params, &model));
    if (model == NULL) exit(1);
    return model;
}

int finish(void) {
    printf("%u checks, %d failed\n", checks, failures);
    return failures != 0;
}

struct tokens chat_tokens(const dgemma_model *model, const char *prompt) {
    char messages[MOST], rendered[8 * MOST];
    struct tokens tokens;
    size_t len = 0;
    snprintf(messages, sizeof messages, "[{\"role\": \"user\", \"content\": \"%s\"}]", prompt);
    OK(dgemma_chat_render(model, messages, NULL, DGEMMA_CHAT_ADD_GENERATION_PROMPT, rendered, sizeof rendered, &len));
    tokens.len = 0;
    OK(dgemma_model_tokenize(model, rendered, len, DGEMMA_TOKENIZE_PARSE_SPECIAL, tokens.ids, MOST, &tokens.len));
    return tokens;
}

dgemma_context *context_with(const dgemma_model *model, const char *prompt) {
    struct tokens tokens = chat_tokens(model, prompt);
    dgemma_context *context = NULL;
    OK(dgemma_context_create(model, NULL, &context));
    OK(dgemma_context_append(context, tokens.ids, tokens.len));
    return context;
}

int hear_text(const char *bytes, size_t len, void *user_data) {
    struct text *text = user_data;
    if (bytes[len] != '\0' || text->len + len >= sizeof text->bytes) return 1;
    memcpy(text->bytes + text->len, bytes, len + 1);
    text->len += len;
    return 0;
}

struct text answer_of(dgemma_context *context, uint64_t seed) {
    dgemma_generate_params params;
    struct text text;
    text.len = 0;
    text.bytes[0] = '\0';
    OK(dgemma_generate_params_init(&params, sizeof params));
    params.seed = seed;
    params.on_text = hear_text;
    params.user_data = &text;
    OK(dgemma_context_generate(context, &params, NULL));
    return text;
}

/*
 * Every function of the header, misused: the status and the message that the header promises, no output written, and
 * everything still at work afterwards. rows.h is the table's form, coverage.c holds it against the header.
 */
#include "rows.h"

static void make_objects(struct given given) {
    dgemma_model_info info = {.struct_size = sizeof info};
    struct tokens prompt;
    dgemma_context *copy = NULL;
    on.given = given;
    on.model = load_model(given.model);
    OK(dgemma_model_describe(on.model, &info));
    on.vocab = info.vocab_size;
    on.canvas = info.canvas_length;
    prompt = chat_tokens(on.model, given.prompt);
    CHECK(prompt.len > 4 && prompt.len <= 64);
    memcpy(on.ids, prompt.ids, 4 * prompt.len);
    on.n_ids = on.n_tokens = prompt.len;
    on.context = context_with(on.model, given.prompt);
    OK(dgemma_context_prefill(on.context, NULL, NULL));
    OK(dgemma_context_clone(on.context, &copy));
    on.answer = short_answer(copy);
    CHECK(strncmp(on.answer.bytes, given.answer, 2) == 0);
    dgemma_context_free(copy);
    OK(dgemma_block_begin(on.context, NULL, &on.block));
    OK(dgemma_block_step(on.block, NULL));
    OK(dgemma_detokenizer_create(on.model, DGEMMA_DETOKENIZE_SPECIAL, &on.detokenizer));
    OK(dgemma_canceller_create(on.context, &on.canceller));
}

static void free_objects(void) {
    dgemma_block_free(on.block);
    dgemma_context_free(on.context);
    dgemma_detokenizer_free(on.detokenizer);
    dgemma_canceller_free(on.canceller);
    dgemma_model_free(on.model);
}

int main(int argc, char **argv) {
    void (*const sections[])(void) = {library_rows, model_rows, vocabulary_rows, context_rows, keep_rows, size_rows,
                                      block_rows,   generate_rows, stop_rows,    busy_rows,    order_rows, file_rows};
    struct text answer;
    make_objects(given_of(argc, argv));
    for (size_t i = 0; i < sizeof sections / sizeof *sections; i++) {
        sections[i]();
        works();
    }
    answer = answer_of(on.context, 7);
    CHECK(strcmp(answer.bytes, on.given.answer) == 0);
    coverage(HEADER);
    free_objects();
    return finish();
}

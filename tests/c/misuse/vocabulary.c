/* Misuse of vocabulary, detokenizer and chat templates. */
#include "rows.h"

#define TEXT out.text, sizeof out.text, &out.len
#define IDS out.ids, 64, &out.len

static void tokenize_rows(void) {
    const dgemma_model *m = on.model;
    NO(dgemma_model_tokenize, (NULL, "a", 1, 0, out.ids, 64, &out.len), "argument `model`: is NULL");
    NO(dgemma_model_tokenize, (m, NULL, 1, 0, out.ids, 64, &out.len), "argument `text`: is NULL, expected 1 entries");
    NO(dgemma_model_tokenize, (m, not_utf8, 4, 0, out.ids, 64, &out.len), "argument `text`: is not UTF-8");
    NO(dgemma_model_tokenize, (m, "a", SIZE_MAX, 0, out.ids, 64, &out.len), "argument `text`");
    NO(dgemma_model_tokenize, (m, "a", 1, 4, out.ids, 64, &out.len), "argument `flags`: have unknown bits 0x4");
    NO(dgemma_model_tokenize, (m, "a", 1, 0, NULL, 64, &out.len), "argument `tokens`: is NULL, but its cap is 64");
    NO(dgemma_model_tokenize, (m, "a", 1, 0, (uint32_t *)(out.bytes + 1), 4, &out.len), "argument `tokens`: is not aligned");
    SMALL(dgemma_model_tokenize, (m, "a", 1, 0, NULL, 0, &out.len));
    SMALL(dgemma_model_tokenize, (m, "a", 1, 0, NULL, 0, NULL));
    FINE(dgemma_model_tokenize, (m, NULL, 0, 0, NULL, 0, &out.len));
    FINE(dgemma_model_tokenize, (m, "", 0, 0, out.ids, 64, NULL));
    FINE(dgemma_model_tokenize, (m, "a\0b", 3, 0, out.ids, 64, &out.len));

    NO(dgemma_model_detokenize, (NULL, on.ids, 1, 0, TEXT), "argument `model`: is NULL");
    NO(dgemma_model_detokenize, (m, NULL, 1, 0, TEXT), "argument `tokens`: is NULL, expected 1 entries");
    NO(dgemma_model_detokenize, (m, &on.vocab, 1, 0, TEXT), "argument `tokens`: contain id ");
    NO(dgemma_model_detokenize, (m, on.ids, SIZE_MAX / 2, 0, TEXT), "argument `tokens`");
    NO(dgemma_model_detokenize, (m, on.ids, 1, 2, TEXT), "argument `flags`: have unknown bits 0x2");
    NO(dgemma_model_detokenize, (m, on.ids, 1, 0, NULL, 1, &out.len), "argument `buffer`: is NULL");
    SMALL(dgemma_model_detokenize, (m, on.ids, on.n_ids, 0, out.text, 1, &out.len));
    SMALL(dgemma_model_detokenize, (m, NULL, 0, 0, NULL, 0, &out.len)); /* no room for the NUL */
    FINE(dgemma_model_detokenize, (m, NULL, 0, 0, out.text, 1, NULL));
}

static void token_rows(void) {
    const dgemma_model *m = on.model;
    NO(dgemma_token_piece, (NULL, 0, TEXT), "argument `model`: is NULL");
    NO(dgemma_token_piece, (m, on.vocab, TEXT), "argument `token`");
    NO(dgemma_token_piece, (m, UINT32_MAX, TEXT), "argument `token`: 4294967295 is not one of");
    NO(dgemma_token_piece, (m, 0, NULL, 1, &out.len), "argument `buffer`: is NULL");
    SMALL(dgemma_token_piece, (m, 0, NULL, 0, NULL));
    NO(dgemma_token_attributes, (NULL, 0, &out.number), "argument `model`: is NULL");
    NO(dgemma_token_attributes, (m, on.vocab, &out.number), "argument `token`");
    NO(dgemma_token_attributes, (m, 0, NULL), "argument `out`: is NULL");
    VALUE(dgemma_token_is_end, (NULL, 0), == 0);
    VALUE(dgemma_token_is_end, (m, UINT32_MAX), == 0);
    NO(dgemma_token_find, (NULL, "a", 1, &out.number), "argument `model`: is NULL");
    NO(dgemma_token_find, (m, NULL, 1, &out.number), "argument `piece`: is NULL, expected 1 entries");
    NO(dgemma_token_find, (m, not_utf8, 4, &out.number), "argument `piece`: is not UTF-8");
    NO(dgemma_token_find, (m, "a", 1, NULL), "argument `out`: is NULL");
    ROW(dgemma_token_find, (m, NULL, 0, &out.number), DGEMMA_STATUS_NOT_FOUND, "token \"\" not found");
    ROW(dgemma_token_find, (m, "no such token", 13, &out.number), DGEMMA_STATUS_NOT_FOUND, "no such token");
    NO(dgemma_model_special_token, (NULL, 0, &out.number), "argument `model`: is NULL");
    NO(dgemma_model_special_token, (m, 5, &out.number), "argument `role`: is 5");
    NO(dgemma_model_special_token, (m, 0, NULL), "argument `out`: is NULL");
}

static void detokenizer_rows(void) {
    dgemma_detokenizer *d = on.detokenizer;
    NO(dgemma_detokenizer_create, (NULL, 0, &out.detokenizer), "argument `model`: is NULL");
    NO(dgemma_detokenizer_create, (on.model, 2, &out.detokenizer), "argument `flags`: have unknown bits 0x2");
    NO(dgemma_detokenizer_create, (on.model, 0, NULL), "argument `out`: is NULL");
    NO(dgemma_detokenizer_push, (NULL, on.ids, 1, TEXT), "argument `detokenizer`: is NULL");
    NO(dgemma_detokenizer_push, (d, NULL, 1, TEXT), "argument `tokens`: is NULL");
    NO(dgemma_detokenizer_push, (d, &on.vocab, 1, TEXT), "argument `tokens`: contain id ");
    NO(dgemma_detokenizer_push, (d, on.ids, 1, NULL, 1, &out.len), "argument `buffer`: is NULL");
    SMALL(dgemma_detokenizer_push, (d, on.ids, on.n_ids, out.text, 2, &out.len));
    FINE(dgemma_detokenizer_push, (d, NULL, 0, out.text, 1, NULL));
    NO(dgemma_detokenizer_finish, (NULL, TEXT), "argument `detokenizer`: is NULL");
    NO(dgemma_detokenizer_finish, (d, NULL, 1, &out.len), "argument `buffer`: is NULL");
    SMALL(dgemma_detokenizer_finish, (d, NULL, 0, &out.len));
    /* None of that has taken a token. */
    FINE(dgemma_detokenizer_finish, (d, out.text, sizeof out.text, NULL));
    CHECK(out.text[0] == '\0');
    NOTHING(dgemma_detokenizer_free, (NULL));
}

static void chat_rows(void) {
    const dgemma_model *m = on.model;
    const char *hello = "[{\"role\": \"user\", \"content\": \"Hello\"}]";
    NO(dgemma_chat_render, (NULL, hello, NULL, 0, TEXT), "argument `model`: is NULL");
    NO(dgemma_chat_render, (m, NULL, NULL, 0, TEXT), "argument `messages`: is NULL");
    NO(dgemma_chat_render, (m, not_utf8, NULL, 0, TEXT), "argument `messages`: is not UTF-8");
    NO(dgemma_chat_render, (m, "", NULL, 0, TEXT), "argument `messages`: is no JSON");
    NO(dgemma_chat_render, (m, "{\"role\": 1}", NULL, 0, TEXT), "argument `messages`: is no JSON list");
    NO(dgemma_chat_render, (m, "[[[[", NULL, 0, TEXT), "argument `messages`: is no JSON");
    NO(dgemma_chat_render, (m, hello, not_utf8, 0, TEXT), "argument `tools`: is not UTF-8");
    NO(dgemma_chat_render, (m, hello, "7", 0, TEXT), "argument `tools`: is no JSON list");
    NO(dgemma_chat_render, (m, hello, NULL, 2, TEXT), "argument `flags`: have unknown bits 0x2");
    NO(dgemma_chat_render, (m, hello, NULL, 0, NULL, 1, &out.len), "argument `buffer`: is NULL");
    SMALL(dgemma_chat_render, (m, hello, NULL, 0, NULL, 0, &out.len));
    FINE(dgemma_chat_render, (m, "[]", "[]", 0, out.text, sizeof out.text, NULL));
}

void vocabulary_rows(void) {
    tokenize_rows();
    token_rows();
    detokenizer_rows();
    chat_rows();
}

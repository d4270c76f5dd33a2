/* Texts to tokens and back, single tokens, texts that arrive bit by bit, chat templates: with the built-in vocabulary. */
#include "check.h"

static void tokenizing(const dgemma_model *model) {
    const uint32_t with_bos[] = {2, 362, 364, 263, 286, 359, 263, 280, 281, 294}; /* as Hugging Face's tokenizer has it */
    const uint32_t bytes[] = {328, 201, 175, 232, 136, 178};
    const char *question = "What is 7 + 12?";
    uint32_t ids[64];
    char text[64];
    size_t len = 0;
    OK(dgemma_model_tokenize(model, question, strlen(question), DGEMMA_TOKENIZE_ADD_BOS, ids, 64, &len));
    CHECK(len == 10 && memcmp(ids, with_bos, sizeof with_bos) == 0);
    OK(dgemma_model_detokenize(model, ids, len, 0, text, sizeof text, &len));
    CHECK(strcmp(text, question) == 0 && len == strlen(question));
    OK(dgemma_model_detokenize(model, ids, 10, DGEMMA_DETOKENIZE_SPECIAL, text, sizeof text, &len));
    CHECK(strcmp(text, "<bos>What is 7 + 12?") == 0);
    OK(dgemma_model_tokenize(model, "a\xc3\xa9\xe2\x82\xac", 6, 0, ids, 64, &len)); /* a, e acute, euro sign */
    CHECK(len == 6 && memcmp(ids, bytes, sizeof bytes) == 0);
    OK(dgemma_model_detokenize(model, ids, 6, 0, text, sizeof text, &len));
    CHECK(strcmp(text, "a\xc3\xa9\xe2\x82\xac") == 0);
    OK(dgemma_model_detokenize(model, ids, 2, 0, text, sizeof text, &len)); /* half a character: U+FFFD */
    CHECK(strcmp(text, "a\xef\xbf\xbd") == 0);
    OK(dgemma_model_tokenize(model, "<turn|>", 7, DGEMMA_TOKENIZE_PARSE_SPECIAL, ids, 64, &len));
    CHECK(len == 1 && ids[0] == 5);
    OK(dgemma_model_tokenize(model, "<turn|>", 7, 0, ids, 64, &len));
    CHECK(len > 1);
    OK(dgemma_model_tokenize(model, "", 0, 0, ids, 64, &len));
    CHECK(len == 0);
    OK(dgemma_model_detokenize(model, NULL, 0, 0, text, sizeof text, &len));
    CHECK(len == 0 && text[0] == '\0');
}

static void tokens(const dgemma_model *model) {
    const uint32_t roles[][2] = {{DGEMMA_SPECIAL_BOS, 2}, {DGEMMA_SPECIAL_EOS, 1}, {DGEMMA_SPECIAL_UNKNOWN, 3}, {DGEMMA_SPECIAL_PADDING, 0}};
    uint32_t id = 99, attributes = 0;
    char text[32];
    size_t len = 0;
    for (size_t i = 0; i < 4; i++) {
        OK(dgemma_model_special_token(model, roles[i][0], &id));
        CHECK(id == roles[i][1]);
    }
    ANSWERS(dgemma_model_special_token(model, DGEMMA_SPECIAL_MASK, &id), DGEMMA_STATUS_NOT_FOUND, "role 4 not found");
    OK(dgemma_token_piece(model, 364, text, sizeof text, &len));
    CHECK(strcmp(text, "\xe2\x96\x81is") == 0 && len == 5);
    OK(dgemma_token_find(model, text, len, &id));
    CHECK(id == 364);
    OK(dgemma_token_attributes(model, 364, &attributes));
    CHECK(attributes == DGEMMA_TOKEN_NORMAL);
    OK(dgemma_token_attributes(model, 201, &attributes));
    CHECK(attributes == DGEMMA_TOKEN_BYTE);
    OK(dgemma_token_attributes(model, 2, &attributes));
    CHECK(attributes == DGEMMA_TOKEN_CONTROL);
    OK(dgemma_token_attributes(model, 5, &attributes));
    CHECK(attributes == (DGEMMA_TOKEN_CONTROL | DGEMMA_TOKEN_END));
    CHECK(dgemma_token_is_end(model, 5) == 1 && dgemma_token_is_end(model, 1) == 1 && dgemma_token_is_end(model, 364) == 0);
}

/* Token by token, the same text; bytes come out when what follows shows that they are complete. */
static void bit_by_bit(const dgemma_model *model) {
    const uint32_t ids[] = {2, 328, 201, 175, 328, 232, 136, 178, 328};
    const char *pieces[] = {"", "a", "", "", "\xc3\xa9" "a", "", "", "", "\xe2\x82\xac" "a"};
    dgemma_detokenizer *detokenizer = NULL;
    char text[32];
    size_t len = 0;
    OK(dgemma_detokenizer_create(model, 0, &detokenizer));
    for (size_t i = 0; i < 9; i++) {
        OK(dgemma_detokenizer_push(detokenizer, &ids[i], 1, text, sizeof text, &len));
        CHECK(strcmp(text, pieces[i]) == 0 && len == strlen(text));
    }
    /* What a call has no room for is not lost. */
    CHECK(dgemma_detokenizer_push(detokenizer, ids + 2, 3, text, 3, &len) == DGEMMA_STATUS_BUFFER_TOO_SMALL && len == 3);
    OK(dgemma_detokenizer_push(detokenizer, ids + 2, 3, text, 4, &len));
    CHECK(strcmp(text, "\xc3\xa9" "a") == 0);
    /* A character that never comes to its end is shown as such. */
    OK(dgemma_detokenizer_push(detokenizer, ids + 5, 2, text, sizeof text, &len));
    CHECK(len == 0);
    OK(dgemma_detokenizer_finish(detokenizer, text, sizeof text, &len));
    CHECK(strstr(text, "\xef\xbf\xbd") == text);
    OK(dgemma_detokenizer_finish(detokenizer, text, sizeof text, &len));
    CHECK(len == 0);
    dgemma_detokenizer_free(detokenizer);
}

static void chats(const dgemma_model *model) {
    const char *messages = "[{\"role\": \"system\", \"content\": \"Be brief.\"}, {\"role\": \"user\", \"content\": \"Hi\"}]";
    const char *tools = "[{\"type\": \"function\", \"function\": {\"name\": \"get_time\"}}]";
    char text[256];
    size_t len = 0;
    OK(dgemma_chat_render(model, messages, NULL, 0, text, sizeof text, &len));
    CHECK(strcmp(text, "<bos><|turn>system\nBe brief.<turn|>\n<|turn>user\nHi<turn|>\n") == 0 && len == strlen(text));
    OK(dgemma_chat_render(model, messages, tools, DGEMMA_CHAT_ADD_GENERATION_PROMPT, text, sizeof text, &len));
    CHECK(strstr(text, "<turn|>\n<|turn>model\n") != NULL && strcmp(text + len - 6, "model\n") == 0);
}

int main(int argc, char **argv) {
    struct given given = given_of(argc, argv);
    dgemma_model *model = load_model(given.model);
    tokenizing(model);
    tokens(model);
    bit_by_bit(model);
    chats(model);
    dgemma_model_free(model);
    return finish();
}

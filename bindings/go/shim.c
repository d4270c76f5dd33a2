/*
 * What stands between Go and libdgemma, for two reasons.
 *
 * Error texts wait per thread, and a goroutine may be on another thread with its next call: each function here fetches the
 * text inside the C call that failed.
 *
 * Callbacks must be C functions. Those here hand what they hear to Go functions (export.go), which never panic, with the
 * handle of the call as a number: a Go pointer must not wait in C memory.
 */
#include "shim.h"

#include <string.h>

#include "_cgo_export.h"

static dgemma_status kept(dgemma_status status, char **error) {
    if (status != DGEMMA_STATUS_OK && status != DGEMMA_STATUS_BUFFER_TOO_SMALL) *error = strdup(dgemma_last_error());
    return status;
}

/* Callbacks. */

static void on_log(uint32_t level, const char *text, void *user_data) {
    (void)user_data;
    shimHearLog(level, (char *)text);
}

static int on_progress(float fraction, void *user_data) {
    return shimHearProgress((uintptr_t)user_data, fraction);
}

static int on_prefill(size_t encoded, size_t total, void *user_data) {
    return shimHearPrefill((uintptr_t)user_data, encoded, total);
}

static int on_text(const char *text, size_t len, void *user_data) {
    return shimHearText((uintptr_t)user_data, (char *)text, len);
}

static int on_early_text(const char *text, size_t len, void *user_data) {
    return shimHearEarlyText((uintptr_t)user_data, (char *)text, len);
}

static int on_tokens(uint32_t block, const uint32_t *tokens, size_t n_tokens, void *user_data) {
    return shimHearTokens((uintptr_t)user_data, block, (uint32_t *)tokens, n_tokens);
}

static int on_step(const dgemma_step *step, void *user_data) {
    return shimHearStep((uintptr_t)user_data, (dgemma_step *)step);
}

static int on_noise(const dgemma_noise *noise, void *user_data) {
    return shimHearNoise((uintptr_t)user_data, (dgemma_noise *)noise);
}

/* The library as a whole. */

void shim_log_set(int on) {
    dgemma_log_set(on ? on_log : NULL, NULL);
}

dgemma_status shim_device_describe(size_t index, dgemma_device_info *out, char **error) {
    return kept(dgemma_device_describe(index, out), error);
}

/* Models. */

dgemma_status shim_model_load(const char *path, const dgemma_model_params *params, uint32_t hears, uintptr_t call,
                              dgemma_model **out, char **error) {
    dgemma_model_params p = *params;
    p.on_progress = hears & SHIM_HEARS_PROGRESS ? on_progress : NULL;
    p.user_data = (void *)call;
    return kept(dgemma_model_load(path, &p, out), error);
}

dgemma_status shim_model_describe(const dgemma_model *model, dgemma_model_info *out, char **error) {
    return kept(dgemma_model_describe(model, out), error);
}

dgemma_status shim_model_fingerprint(const dgemma_model *model, uint64_t *out, char **error) {
    return kept(dgemma_model_fingerprint(model, out), error);
}

dgemma_status shim_model_memory(const dgemma_model *model, dgemma_memory *out, char **error) {
    return kept(dgemma_model_memory(model, out), error);
}

dgemma_status shim_model_metadata_key(const dgemma_model *model, size_t index, char *buffer, size_t cap, size_t *len,
                                      char **error) {
    return kept(dgemma_model_metadata_key(model, index, buffer, cap, len), error);
}

dgemma_status shim_model_metadata_value(const dgemma_model *model, const char *key, char *buffer, size_t cap,
                                        size_t *len, char **error) {
    return kept(dgemma_model_metadata_value(model, key, buffer, cap, len), error);
}

/* Texts and tokens. */

dgemma_status shim_model_tokenize(const dgemma_model *model, const char *text, size_t text_len, uint32_t flags,
                                  uint32_t *tokens, size_t cap, size_t *len, char **error) {
    return kept(dgemma_model_tokenize(model, text, text_len, flags, tokens, cap, len), error);
}

dgemma_status shim_model_detokenize(const dgemma_model *model, const uint32_t *tokens, size_t n_tokens, uint32_t flags,
                                    char *buffer, size_t cap, size_t *len, char **error) {
    return kept(dgemma_model_detokenize(model, tokens, n_tokens, flags, buffer, cap, len), error);
}

dgemma_status shim_token_piece(const dgemma_model *model, uint32_t token, char *buffer, size_t cap, size_t *len,
                               char **error) {
    return kept(dgemma_token_piece(model, token, buffer, cap, len), error);
}

dgemma_status shim_token_attributes(const dgemma_model *model, uint32_t token, uint32_t *out, char **error) {
    return kept(dgemma_token_attributes(model, token, out), error);
}

dgemma_status shim_token_find(const dgemma_model *model, const char *piece, size_t piece_len, uint32_t *out,
                              char **error) {
    return kept(dgemma_token_find(model, piece, piece_len, out), error);
}

dgemma_status shim_model_special_token(const dgemma_model *model, uint32_t role, uint32_t *out, char **error) {
    return kept(dgemma_model_special_token(model, role, out), error);
}

dgemma_status shim_chat_render(const dgemma_model *model, const char *messages, const char *tools, uint32_t flags,
                               char *buffer, size_t cap, size_t *len, char **error) {
    return kept(dgemma_chat_render(model, messages, tools, flags, buffer, cap, len), error);
}

dgemma_status shim_detokenizer_create(const dgemma_model *model, uint32_t flags, dgemma_detokenizer **out, char **error) {
    return kept(dgemma_detokenizer_create(model, flags, out), error);
}

dgemma_status shim_detokenizer_push(dgemma_detokenizer *detokenizer, const uint32_t *tokens, size_t n_tokens,
                                    char *buffer, size_t cap, size_t *len, char **error) {
    return kept(dgemma_detokenizer_push(detokenizer, tokens, n_tokens, buffer, cap, len), error);
}

dgemma_status shim_detokenizer_finish(dgemma_detokenizer *detokenizer, char *buffer, size_t cap, size_t *len,
                                      char **error) {
    return kept(dgemma_detokenizer_finish(detokenizer, buffer, cap, len), error);
}

/* Contexts. */

dgemma_status shim_context_create(const dgemma_model *model, const dgemma_context_params *params, dgemma_context **out,
                                  char **error) {
    return kept(dgemma_context_create(model, params, out), error);
}

dgemma_status shim_context_append(dgemma_context *context, const uint32_t *tokens, size_t n_tokens, char **error) {
    return kept(dgemma_context_append(context, tokens, n_tokens), error);
}

dgemma_status shim_context_set_tokens(dgemma_context *context, const uint32_t *tokens, size_t n_tokens, size_t *reused,
                                      char **error) {
    return kept(dgemma_context_set_tokens(context, tokens, n_tokens, reused), error);
}

dgemma_status shim_context_truncate(dgemma_context *context, size_t length, char **error) {
    return kept(dgemma_context_truncate(context, length), error);
}

dgemma_status shim_context_reset(dgemma_context *context, char **error) {
    return kept(dgemma_context_reset(context), error);
}

dgemma_status shim_context_tokens(const dgemma_context *context, uint32_t *tokens, size_t cap, size_t *len, char **error) {
    return kept(dgemma_context_tokens(context, tokens, cap, len), error);
}

dgemma_status shim_context_prefill(dgemma_context *context, uint32_t hears, uintptr_t call, char **error) {
    dgemma_prefill_callback hear = hears & SHIM_HEARS_PROGRESS ? on_prefill : NULL;
    return kept(dgemma_context_prefill(context, hear, (void *)call), error);
}

dgemma_status shim_context_describe(const dgemma_context *context, dgemma_context_info *out, char **error) {
    return kept(dgemma_context_describe(context, out), error);
}

dgemma_status shim_context_perf(const dgemma_context *context, dgemma_perf *out, char **error) {
    return kept(dgemma_context_perf(context, out), error);
}

dgemma_status shim_context_generate(dgemma_context *context, const dgemma_generate_params *params, uint32_t hears,
                                    uintptr_t call, dgemma_generation *out, char **error) {
    dgemma_generate_params p = *params;
    p.on_text = hears & SHIM_HEARS_TEXT ? on_text : NULL;
    p.on_early_text = hears & SHIM_HEARS_EARLY_TEXT ? on_early_text : NULL;
    p.on_step = hears & SHIM_HEARS_STEPS ? on_step : NULL;
    p.on_tokens = hears & SHIM_HEARS_TOKENS ? on_tokens : NULL;
    p.on_prefill = hears & SHIM_HEARS_PROGRESS ? on_prefill : NULL;
    p.on_noise = hears & SHIM_HEARS_NOISE ? on_noise : NULL;
    p.user_data = (void *)call;
    return kept(dgemma_context_generate(context, &p, out), error);
}

dgemma_status shim_context_score(dgemma_context *context, const uint32_t *canvas, size_t canvas_length,
                                 const dgemma_candidate *candidates, size_t n_candidates, float *log_probs,
                                 char **error) {
    return kept(dgemma_context_score(context, canvas, canvas_length, candidates, n_candidates, log_probs), error);
}

dgemma_status shim_context_memory(const dgemma_context *context, dgemma_memory *out, char **error) {
    return kept(dgemma_context_memory(context, out), error);
}

dgemma_status shim_context_clone(const dgemma_context *context, dgemma_context **out, char **error) {
    return kept(dgemma_context_clone(context, out), error);
}

dgemma_status shim_context_save(const dgemma_context *context, uint8_t *buffer, size_t cap, size_t *len, char **error) {
    return kept(dgemma_context_save(context, buffer, cap, len), error);
}

dgemma_status shim_context_load(dgemma_context *context, const uint8_t *bytes, size_t n_bytes, char **error) {
    return kept(dgemma_context_load(context, bytes, n_bytes), error);
}

dgemma_status shim_context_save_file(const dgemma_context *context, const char *path, char **error) {
    return kept(dgemma_context_save_file(context, path), error);
}

dgemma_status shim_context_load_file(dgemma_context *context, const char *path, char **error) {
    return kept(dgemma_context_load_file(context, path), error);
}

dgemma_status shim_canceller_create(const dgemma_context *context, dgemma_canceller **out, char **error) {
    return kept(dgemma_canceller_create(context, out), error);
}

/* Blocks. */

dgemma_status shim_block_begin(dgemma_context *context, const dgemma_block_params *params, uint32_t hears,
                               uintptr_t call, dgemma_block **out, char **error) {
    dgemma_block_params p = *params;
    p.on_noise = hears & SHIM_HEARS_NOISE ? on_noise : NULL;
    p.user_data = (void *)call;
    return kept(dgemma_block_begin(context, &p, out), error);
}

dgemma_status shim_block_step(dgemma_block *block, int *done, char **error) {
    return kept(dgemma_block_step(block, done), error);
}

dgemma_status shim_block_describe(const dgemma_block *block, dgemma_step *out, char **error) {
    return kept(dgemma_block_describe(block, out), error);
}

dgemma_status shim_block_log_probs(dgemma_block *block, const uint32_t *rows, size_t n_rows, float *log_probs,
                                   size_t cap, size_t *len, char **error) {
    return kept(dgemma_block_log_probs(block, rows, n_rows, log_probs, cap, len), error);
}

dgemma_status shim_block_logits(dgemma_block *block, const uint32_t *rows, size_t n_rows, float *logits, size_t cap,
                                size_t *len, char **error) {
    return kept(dgemma_block_logits(block, rows, n_rows, logits, cap, len), error);
}

dgemma_status shim_block_commit(dgemma_block *block, size_t n, char **error) {
    return kept(dgemma_block_commit(block, n), error);
}

dgemma_status shim_block_score(dgemma_block *block, const dgemma_candidate *candidates, size_t n_candidates,
                               float *log_probs, char **error) {
    return kept(dgemma_block_score(block, candidates, n_candidates, log_probs), error);
}

/*
 * The one C file between Go and libdgemma, declared. shim.c says what it is for; the functions do what those of
 * <dgemma.h> with the same names do.
 */
#ifndef DGEMMA_GO_SHIM_H
#define DGEMMA_GO_SHIM_H

#include <dgemma.h>

/* Which callbacks of a call reach Go: `hears` of the functions below. */
#define SHIM_HEARS_TEXT 1
#define SHIM_HEARS_EARLY_TEXT 2
#define SHIM_HEARS_STEPS 4
#define SHIM_HEARS_TOKENS 8
#define SHIM_HEARS_PROGRESS 16
#define SHIM_HEARS_NOISE 32

/* `call` is the runtime/cgo.Handle that the callbacks of the call are told. `*error` receives the text of a failure, to be
 * freed by Go; it is left alone on success, and for DGEMMA_STATUS_BUFFER_TOO_SMALL, which Go answers itself. */

void shim_log_set(int on);
dgemma_status shim_device_describe(size_t index, dgemma_device_info *out, char **error);

dgemma_status shim_model_load(const char *path, const dgemma_model_params *params, uint32_t hears, uintptr_t call,
                              dgemma_model **out, char **error);
dgemma_status shim_model_describe(const dgemma_model *model, dgemma_model_info *out, char **error);
dgemma_status shim_model_fingerprint(const dgemma_model *model, uint64_t *out, char **error);
dgemma_status shim_model_memory(const dgemma_model *model, dgemma_memory *out, char **error);
dgemma_status shim_model_metadata_key(const dgemma_model *model, size_t index, char *buffer, size_t cap, size_t *len,
                                      char **error);
dgemma_status shim_model_metadata_value(const dgemma_model *model, const char *key, char *buffer, size_t cap,
                                        size_t *len, char **error);

dgemma_status shim_model_tokenize(const dgemma_model *model, const char *text, size_t text_len, uint32_t flags,
                                  uint32_t *tokens, size_t cap, size_t *len, char **error);
dgemma_status shim_model_detokenize(const dgemma_model *model, const uint32_t *tokens, size_t n_tokens, uint32_t flags,
                                    char *buffer, size_t cap, size_t *len, char **error);
dgemma_status shim_token_piece(const dgemma_model *model, uint32_t token, char *buffer, size_t cap, size_t *len,
                               char **error);
dgemma_status shim_token_attributes(const dgemma_model *model, uint32_t token, uint32_t *out, char **error);
dgemma_status shim_token_find(const dgemma_model *model, const char *piece, size_t piece_len, uint32_t *out,
                              char **error);
dgemma_status shim_model_special_token(const dgemma_model *model, uint32_t role, uint32_t *out, char **error);
dgemma_status shim_chat_render(const dgemma_model *model, const char *messages, const char *tools, uint32_t flags,
                               char *buffer, size_t cap, size_t *len, char **error);

dgemma_status shim_detokenizer_create(const dgemma_model *model, uint32_t flags, dgemma_detokenizer **out, char **error);
dgemma_status shim_detokenizer_push(dgemma_detokenizer *detokenizer, const uint32_t *tokens, size_t n_tokens,
                                    char *buffer, size_t cap, size_t *len, char **error);
dgemma_status shim_detokenizer_finish(dgemma_detokenizer *detokenizer, char *buffer, size_t cap, size_t *len,
                                      char **error);

dgemma_status shim_context_create(const dgemma_model *model, const dgemma_context_params *params, dgemma_context **out,
                                  char **error);
dgemma_status shim_context_append(dgemma_context *context, const uint32_t *tokens, size_t n_tokens, char **error);
dgemma_status shim_context_set_tokens(dgemma_context *context, const uint32_t *tokens, size_t n_tokens, size_t *reused,
                                      char **error);
dgemma_status shim_context_truncate(dgemma_context *context, size_t length, char **error);
dgemma_status shim_context_reset(dgemma_context *context, char **error);
dgemma_status shim_context_tokens(const dgemma_context *context, uint32_t *tokens, size_t cap, size_t *len, char **error);
dgemma_status shim_context_prefill(dgemma_context *context, uint32_t hears, uintptr_t call, char **error);
dgemma_status shim_context_describe(const dgemma_context *context, dgemma_context_info *out, char **error);
dgemma_status shim_context_perf(const dgemma_context *context, dgemma_perf *out, char **error);
dgemma_status shim_context_generate(dgemma_context *context, const dgemma_generate_params *params, uint32_t hears,
                                    uintptr_t call, dgemma_generation *out, char **error);
dgemma_status shim_context_score(dgemma_context *context, const uint32_t *canvas, size_t canvas_length,
                                 const dgemma_candidate *candidates, size_t n_candidates, float *log_probs,
                                 char **error);
dgemma_status shim_context_memory(const dgemma_context *context, dgemma_memory *out, char **error);
dgemma_status shim_context_clone(const dgemma_context *context, dgemma_context **out, char **error);
dgemma_status shim_context_save(const dgemma_context *context, uint8_t *buffer, size_t cap, size_t *len, char **error);
dgemma_status shim_context_load(dgemma_context *context, const uint8_t *bytes, size_t n_bytes, char **error);
dgemma_status shim_context_save_file(const dgemma_context *context, const char *path, char **error);
dgemma_status shim_context_load_file(dgemma_context *context, const char *path, char **error);
dgemma_status shim_canceller_create(const dgemma_context *context, dgemma_canceller **out, char **error);

dgemma_status shim_block_begin(dgemma_context *context, const dgemma_block_params *params, uint32_t hears,
                               uintptr_t call, dgemma_block **out, char **error);
dgemma_status shim_block_step(dgemma_block *block, int *done, char **error);
dgemma_status shim_block_describe(const dgemma_block *block, dgemma_step *out, char **error);
dgemma_status shim_block_log_probs(dgemma_block *block, const uint32_t *rows, size_t n_rows, float *log_probs,
                                   size_t cap, size_t *len, char **error);
dgemma_status shim_block_logits(dgemma_block *block, const uint32_t *rows, size_t n_rows, float *logits, size_t cap,
                                size_t *len, char **error);
dgemma_status shim_block_commit(dgemma_block *block, size_t n, char **error);
dgemma_status shim_block_score(dgemma_block *block, const dgemma_candidate *candidates, size_t n_candidates,
                               float *log_probs, char **error);

#endif

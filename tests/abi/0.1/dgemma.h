/*
 * libdgemma: DiffusionGemma from GGUF files.
 *
 * A whole program:
 *
 *     #include <dgemma.h>
 *     #include <stdio.h>
 *
 *     static int print(const char *text, size_t len, void *user_data) {
 *         (void)user_data;
 *         fwrite(text, 1, len, stdout);
 *         return 0;
 *     }
 *
 *     int main(int argc, char **argv) {
 *         dgemma_model *model = NULL;
 *         dgemma_generate_params params;
 *         dgemma_generate_params_init(&params, sizeof params);
 *         params.on_text = print;
 *         if (argc != 3 || dgemma_model_load(argv[1], NULL, &model) != DGEMMA_STATUS_OK ||
 *             dgemma_generate(model, argv[2], &params, NULL) != DGEMMA_STATUS_OK)
 *             fprintf(stderr, "%s\n", dgemma_last_error());
 *         dgemma_model_free(model);
 *         return 0;
 *     }
 *
 * Conventions. Functions answer with a status and write their outputs only if it is DGEMMA_STATUS_OK; the text of a
 * failure waits in dgemma_last_error(), per thread. What comes through a `T **out` is yours to free; a pointer returned
 * or handed to a callback is lent. Callbacks return 0 to continue. Structs are filled by their init function. Texts are
 * UTF-8. The library never prints, exits or aborts.
 *
 * Threads. A model may be used by any number of threads at once; each dgemma_generate() has a context of its own.
 * Freeing an object must not overlap with its use.
 *
 * Generated from the Rust sources by cbindgen; changes belong there.
 */

#ifndef DGEMMA_H
#define DGEMMA_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#if defined(_WIN32)
#  define DGEMMA_API
#else
#  define DGEMMA_API __attribute__((visibility("default")))
#endif

/**
 * dgemma_model_params.backend: the fast one for processors.
 */
#define DGEMMA_BACKEND_CPU 0

/**
 * dgemma_model_params.backend: the slow and plain one that the others are checked against.
 */
#define DGEMMA_BACKEND_REFERENCE 1

/**
 * dgemma_generate_params.prompt_kind: the prompt is a user's message, put into the model's chat template.
 */
#define DGEMMA_PROMPT_CHAT 0

/**
 * dgemma_generate_params.prompt_kind: the prompt is the text itself, with special tokens parsed and the begin token before it.
 */
#define DGEMMA_PROMPT_RAW 1

/**
 * What a call answers. Every value but DGEMMA_STATUS_OK leaves a text for dgemma_last_error().
 */
enum dgemma_status
#if defined(__cplusplus) || __STDC_VERSION__ >= 202311L
  : int32_t
#endif // defined(__cplusplus) || __STDC_VERSION__ >= 202311L
 {
  /**
   * Done; outputs are written.
   */
  DGEMMA_STATUS_OK = 0,
  /**
   * A pointer is NULL, a number is out of its range, a text is not UTF-8. Correct the call.
   */
  DGEMMA_STATUS_INVALID_ARGUMENT = 1,
  /**
   * The system refused a file: missing, not readable. Check path and rights.
   */
  DGEMMA_STATUS_IO = 2,
  /**
   * The file is no GGUF file of this architecture, or is damaged. Get or convert it again.
   */
  DGEMMA_STATUS_BAD_FILE = 3,
  /**
   * The text cannot be encoded with the model's vocabulary.
   */
  DGEMMA_STATUS_TOKENIZER = 4,
  /**
   * The model's chat template is broken or refuses the prompt. DGEMMA_PROMPT_RAW does without it.
   */
  DGEMMA_STATUS_TEMPLATE = 5,
  /**
   * Prompt and canvas do not fit into the context. Ask for a larger context_size, or shorten the prompt.
   */
  DGEMMA_STATUS_CONTEXT_FULL = 6,
  /**
   * A buffer could not be allocated; nothing was kept.
   */
  DGEMMA_STATUS_OUT_OF_MEMORY = 7,
  /**
   * Given up on request.
   */
  DGEMMA_STATUS_CANCELLED = 8,
  /**
   * The library failed; the text says where. The objects of the call should only be freed.
   */
  DGEMMA_STATUS_INTERNAL = 9,
};
#ifndef __cplusplus
#if __STDC_VERSION__ >= 202311L
typedef enum dgemma_status dgemma_status;
#else
typedef int32_t dgemma_status;
#endif // __STDC_VERSION__ >= 202311L
#endif // __cplusplus

/**
 * Why a generation ended.
 */
enum dgemma_stop_reason
#if defined(__cplusplus) || __STDC_VERSION__ >= 202311L
  : int32_t
#endif // defined(__cplusplus) || __STDC_VERSION__ >= 202311L
 {
  /**
   * The model ended its text.
   */
  DGEMMA_STOP_REASON_END_OF_GENERATION = 0,
  /**
   * max_tokens tokens are there.
   */
  DGEMMA_STOP_REASON_MAX_TOKENS = 1,
  /**
   * No further canvas fits into the context.
   */
  DGEMMA_STOP_REASON_CONTEXT_FULL = 2,
  /**
   * A callback asked to stop; complete canvases were delivered.
   */
  DGEMMA_STOP_REASON_CANCELLED = 3,
};
#ifndef __cplusplus
#if __STDC_VERSION__ >= 202311L
typedef enum dgemma_stop_reason dgemma_stop_reason;
#else
typedef int32_t dgemma_stop_reason;
#endif // __STDC_VERSION__ >= 202311L
#endif // __cplusplus

/**
 * A loaded model. Immutable: any number of threads may use it at once, until one of them frees it.
 */
typedef struct dgemma_model dgemma_model;

/**
 * How to load a model. Fill it with dgemma_model_params_init(), then change fields.
 */
typedef struct dgemma_model_params {
  /**
   * Size of this struct as the caller knows it, in bytes; set by dgemma_model_params_init().
   */
  size_t struct_size;
  /**
   * DGEMMA_BACKEND_CPU (0) or DGEMMA_BACKEND_REFERENCE.
   */
  uint32_t backend;
  /**
   * Threads of the model's own pool, 0 to 1024; 0: one per available core. Not what the text depends on.
   */
  uint32_t threads;
} dgemma_model_params;

/**
 * Receives committed text: `text` is UTF-8 of `len` bytes (also NUL-terminated), lent for the time of the call. Complete
 * characters only. Returns 0 to continue; anything else stops the generation.
 */
typedef int (*dgemma_text_callback)(const char *text, size_t len, void *user_data);

/**
 * One denoising step, lent to dgemma_step_callback for the time of the call. Arrays have canvas_length entries.
 */
typedef struct dgemma_step {
  /**
   * Size of this struct as the library knows it, in bytes.
   */
  size_t struct_size;
  /**
   * The canvas's index within the generation, from 0.
   */
  uint32_t block;
  /**
   * The step's index within the canvas, from 0.
   */
  uint32_t step;
  /**
   * Most steps that a canvas takes.
   */
  uint32_t max_steps;
  /**
   * 1 if the draft is stable and confident, so that this was the canvas's last step; else 0.
   */
  uint32_t converged;
  /**
   * Positions of the canvas.
   */
  size_t canvas_length;
  /**
   * The most probable token of each position: what would be committed now. Ids may be control tokens.
   */
  const uint32_t *draft;
  /**
   * Entropy of each position in nats, 0 (certain) to ln(vocabulary size).
   */
  const float *entropy;
  /**
   * 1 where a position keeps its token for the next step, 0 where it gets fresh noise.
   */
  const uint8_t *accepted;
} dgemma_step;

/**
 * Hears of each denoising step. Returns 0 to continue; anything else stops the generation.
 */
typedef int (*dgemma_step_callback)(const struct dgemma_step *step, void *user_data);

/**
 * What to generate. Fill it with dgemma_generate_params_init(), then change fields. Zero in a field means the default.
 *
 * Callbacks run on the thread that called dgemma_generate(), one at a time.
 */
typedef struct dgemma_generate_params {
  /**
   * Size of this struct as the caller knows it, in bytes; set by dgemma_generate_params_init().
   */
  size_t struct_size;
  /**
   * DGEMMA_PROMPT_CHAT (0) or DGEMMA_PROMPT_RAW.
   */
  uint32_t prompt_kind;
  /**
   * Most denoising steps per canvas, 1 to 1000000; 0: the model's number.
   */
  uint32_t max_steps;
  /**
   * Most tokens to generate; 0: one canvas.
   */
  size_t max_tokens;
  /**
   * Positions of the context, prompt and canvas together; 0: 8192, or the model's limit if that is less.
   */
  size_t context_size;
  /**
   * The same seed gives the same text on any number of threads.
   */
  uint64_t seed;
  /**
   * Receives the text, or NULL.
   */
  dgemma_text_callback on_text;
  /**
   * Hears of each step, or NULL.
   */
  dgemma_step_callback on_step;
  /**
   * Handed to both callbacks as it is.
   */
  void *user_data;
} dgemma_generate_params;

/**
 * How a generation went. Durations are in seconds.
 */
typedef struct dgemma_generation {
  /**
   * Why it ended.
   */
  dgemma_stop_reason stop_reason;
  /**
   * Canvases denoised.
   */
  uint32_t blocks;
  /**
   * Denoising steps in all.
   */
  uint32_t steps;
  /**
   * Prompt tokens.
   */
  size_t prompt_tokens;
  /**
   * Tokens generated.
   */
  size_t tokens;
  /**
   * Time spent encoding the prompt and committed canvases.
   */
  double prefill_seconds;
  /**
   * Time spent in denoising steps.
   */
  double denoise_seconds;
  /**
   * From the call to the first committed canvas; 0 if there was none.
   */
  double first_canvas_seconds;
  /**
   * From the call to its end.
   */
  double total_seconds;
} dgemma_generation;

#ifdef __cplusplus
extern "C" {
#endif // __cplusplus

/**
 * The text of the last call that failed on the calling thread: one line of UTF-8 that names the file, tensor, key or
 * argument and says what was expected. Empty if none failed yet; a call that succeeds leaves it as it is.
 *
 * Lifetime: valid until the next call of the library on this thread. Do not free it.
 *
 * Threads: each has its own text. A binding whose calls move between threads must fetch it on the thread of the failed
 * call, before anything else runs there.
 */
DGEMMA_API
const char *dgemma_last_error(void);

/**
 * Fills `params` with the defaults.
 *
 * `params`: where to write; not NULL. `struct_size`: sizeof(*params) in the calling program.
 *
 * Answers DGEMMA_STATUS_INVALID_ARGUMENT for NULL, and for a size smaller than that of the library's first release or
 * larger than this library's (the program is newer than the library). Threads: any.
 */
DGEMMA_API
dgemma_status dgemma_model_params_init(struct dgemma_model_params *params,
                                       size_t struct_size);

/**
 * Fills `params` with the defaults.
 *
 * `params`: where to write; not NULL. `struct_size`: sizeof(*params) in the calling program.
 *
 * Answers DGEMMA_STATUS_INVALID_ARGUMENT for NULL, and for a size smaller than that of the library's first release or
 * larger than this library's (the program is newer than the library). Threads: any.
 */
DGEMMA_API
dgemma_status dgemma_generate_params_init(struct dgemma_generate_params *params,
                                          size_t struct_size);

/**
 * The library's version, e.g. "0.1.0". Static; do not free it. Threads: any.
 */
DGEMMA_API const char *dgemma_version(void);

/**
 * Loads a GGUF file: maps it, checks it, binds its weights. The file must not change while the model lives.
 *
 * `path`: UTF-8, the file or the first part of a split set; not NULL. `params`: from dgemma_model_params_init(), or NULL
 * for the defaults. `out`: receives the model, to be freed with dgemma_model_free(); not NULL, untouched on failure.
 *
 * Answers DGEMMA_STATUS_INVALID_ARGUMENT, _IO (missing or unreadable), _BAD_FILE (damaged or another architecture),
 * _TOKENIZER (unusable vocabulary) or _OUT_OF_MEMORY. Threads: any.
 */
DGEMMA_API
dgemma_status dgemma_model_load(const char *path,
                                const struct dgemma_model_params *params,
                                struct dgemma_model **out);

/**
 * Frees a model; NULL is fine. No other call may be using it. Threads: any.
 */
DGEMMA_API void dgemma_model_free(struct dgemma_model *model);

/**
 * Generates text behind a prompt, in a context of its own.
 *
 * `model`: not NULL. `prompt`: UTF-8, not NULL; see prompt_kind for what it is. `params`: from
 * dgemma_generate_params_init(), or NULL for the defaults. `out`: receives how it went, or NULL.
 *
 * Answers DGEMMA_STATUS_INVALID_ARGUMENT, _TOKENIZER, _TEMPLATE, _CONTEXT_FULL (the prompt and one canvas do not fit) or
 * _OUT_OF_MEMORY. A generation stopped by a callback is a success with DGEMMA_STOP_REASON_CANCELLED. Text that a
 * callback received stays valid text whatever comes after it.
 *
 * Threads: any number at once over one model. Callbacks may call the library, but must not free the model.
 */
DGEMMA_API
dgemma_status dgemma_generate(const struct dgemma_model *model,
                              const char *prompt,
                              const struct dgemma_generate_params *params,
                              struct dgemma_generation *out);

#ifdef __cplusplus
}  // extern "C"
#endif  // __cplusplus

#endif  /* DGEMMA_H */

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
 *         if (argc != 3) {
 *             fprintf(stderr, "usage: %s MODEL PROMPT\n", argv[0]);
 *             return 2;
 *         }
 *         dgemma_model *model = NULL;
 *         dgemma_generate_params params;
 *         int ok = dgemma_generate_params_init(&params, sizeof params) == DGEMMA_STATUS_OK;
 *         params.on_text = print;
 *         ok = ok && dgemma_model_load(argv[1], NULL, &model) == DGEMMA_STATUS_OK
 *                 && dgemma_generate(model, argv[2], &params, NULL) == DGEMMA_STATUS_OK;
 *         if (ok) puts("");
 *         else fprintf(stderr, "%s\n", dgemma_last_error());
 *         dgemma_model_free(model);
 *         return !ok;
 *     }
 *
 * Link with -ldgemma; `pkg-config --cflags --libs dgemma` and CMake's find_package(dgemma) know where it was installed.
 *
 * Conventions
 *
 * - Functions answer with a status and write their outputs only if it is DGEMMA_STATUS_OK (*len of a buffer excepted, see
 *   below). A NULL where the comment says "not NULL" is answered with DGEMMA_STATUS_INVALID_ARGUMENT.
 * - Beside the statuses that its comment names, each function may answer DGEMMA_STATUS_INTERNAL. Those that run the network
 *   (prefill, generation, beginning and stepping a block, its logits and log-probabilities, scoring) may answer
 *   DGEMMA_STATUS_OUT_OF_MEMORY, and DGEMMA_STATUS_BAD_FILE if the model's mapped file was cut (see dgemma_model_load()).
 * - What comes through a `T **out` is yours, to be freed by its dgemma_T_free(); a pointer returned or handed to a callback
 *   is lent. Children keep their parents alive: objects may be freed in any order.
 * - Callbacks return 0 to continue; anything else stops. They run on the thread that called, during the call. They must not
 *   leave it by longjmp or an exception.
 * - Texts are UTF-8. Token ids are uint32_t below vocab_size.
 * - The library never prints, exits or aborts.
 *
 * Buffers. A result of unknown length goes into a buffer of yours, `cap` entries long. `*len` (which may be NULL) receives
 * the length; if cap is too small, with (NULL, 0) too, the answer is DGEMMA_STATUS_BUFFER_TOO_SMALL, only *len is written,
 * and the call can be repeated. Texts get a NUL behind them: cap must be at least *len + 1 for them.
 *
 * Structs may grow. Options (dgemma_*_params) are filled by their init function, which is told their size; reports
 * (dgemma_*_info, dgemma_memory, dgemma_perf, dgemma_step) have struct_size set by you before the call. A program compiled with an older
 * header gets what it knows, and the defaults for the rest. A program compiled with a newer one may leave what this
 * library does not know at zero, and is refused otherwise; such fields of reports are zero. Structs without struct_size
 * (dgemma_generation, dgemma_logit_bias, dgemma_candidate) stay as they are: an old program could not say how much of a
 * larger one it has room for, and the last two are elements of arrays. What they lack goes into structs that grow.
 *
 * Errors. The text of a failure waits in dgemma_last_error(), per thread. Where the thread of a call is not yours to come
 * back to (goroutines, worker pools), read it in the same foreign call; or take the text from where it follows the call:
 * error_text of the params of dgemma_model_load(), dgemma_context_create(), dgemma_generate() and
 * dgemma_context_generate(), which is written before the call returns, and dgemma_context_last_error() for every call on a
 * context and its blocks, until the next one that fails there. A text is one line that names the file, tensor, key or
 * argument and says what was expected.
 *
 * Threads
 *
 *     object               several threads at once                       from its own callbacks
 *     dgemma_model         yes                                           yes
 *     dgemma_context       one call at a time, others: DGEMMA_STATUS_BUSY    DGEMMA_STATUS_BUSY
 *     dgemma_block         as its context                                DGEMMA_STATUS_BUSY
 *     dgemma_detokenizer   one call at a time, others: DGEMMA_STATUS_BUSY    (has none)
 *     dgemma_canceller     yes                                           yes
 *     the log sink         set it from any; it is called on several      yes
 *
 * Freeing an object is no call at a time: it must not overlap with a call that was given the same pointer on another
 * thread. From the callbacks of params everything may be freed, what the call itself was given too; the log sink must not
 * free what the call under way was given. Contexts over one model are independent and share its threads.
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
 * Of this header: raised by each release that adds to it. A program may run with every library of the same soname whose
 * dgemma_abi_version() is at least this.
 */
#define DGEMMA_ABI_VERSION 3

/**
 * dgemma_log_callback's level: the result may not be what you want.
 */
#define DGEMMA_LOG_WARN 1

/**
 * dgemma_log_callback's level: worth knowing once.
 */
#define DGEMMA_LOG_INFO 2

/**
 * dgemma_model_params.memory: read the file instead of mapping it. Loading takes longer and the memory is not shared with
 * other processes; in exchange the file may be changed or removed afterwards. What was read stays in host memory, also with
 * DGEMMA_BACKEND_CUDA, for which the memory of a mapped file goes back to the system as its weights are uploaded (on Linux).
 */
#define DGEMMA_MEMORY_READ 1

/**
 * dgemma_model_params.memory: keep the file's bytes in memory, never pushed out by the system. Needs the right to lock that
 * much (`ulimit -l`); else loading answers DGEMMA_STATUS_IO.
 */
#define DGEMMA_MEMORY_LOCK 2

/**
 * dgemma_model_params.cpu_level: the best instruction set of the processor.
 */
#define DGEMMA_CPU_BEST 0

/**
 * dgemma_model_params.cpu_level: what every processor of the target has.
 */
#define DGEMMA_CPU_SCALAR 1

/**
 * dgemma_model_params.cpu_level: AVX2 and FMA.
 */
#define DGEMMA_CPU_AVX2 2

/**
 * dgemma_model_params.cpu_level: AVX-512 F, BW, DQ and VL.
 */
#define DGEMMA_CPU_AVX512 3

/**
 * dgemma_model_params.cpu_level: the same with VNNI.
 */
#define DGEMMA_CPU_AVX512_VNNI 4

/**
 * dgemma_model_params.n_gpu_layers: none.
 */
#define DGEMMA_GPU_LAYERS_NONE 4294967295

/**
 * dgemma_model_tokenize(): put the token that begins a text in front. A rendered chat has its own.
 */
#define DGEMMA_TOKENIZE_ADD_BOS 1

/**
 * dgemma_model_tokenize(): control tokens spelled in the text, e.g. "<|turn>", become those tokens. For rendered chats and
 * texts of your own; user input should stay text.
 */
#define DGEMMA_TOKENIZE_PARSE_SPECIAL 2

/**
 * dgemma_model_detokenize(), dgemma_detokenizer_create(): show control tokens, which else are left out.
 */
#define DGEMMA_DETOKENIZE_SPECIAL 1

/**
 * dgemma_token_attributes(): a piece of text.
 */
#define DGEMMA_TOKEN_NORMAL 1

/**
 * dgemma_token_attributes(): stands for what the vocabulary cannot express.
 */
#define DGEMMA_TOKEN_UNKNOWN 2

/**
 * dgemma_token_attributes(): structure, not text; decodes to nothing.
 */
#define DGEMMA_TOKEN_CONTROL 4

/**
 * dgemma_token_attributes(): structure that is always recognised in text and always shown.
 */
#define DGEMMA_TOKEN_USER_DEFINED 8

/**
 * dgemma_token_attributes(): a free slot.
 */
#define DGEMMA_TOKEN_UNUSED 16

/**
 * dgemma_token_attributes(): one byte of UTF-8.
 */
#define DGEMMA_TOKEN_BYTE 32

/**
 * dgemma_token_attributes(): ends an answer.
 */
#define DGEMMA_TOKEN_END 64

/**
 * dgemma_model_special_token(): begins a text.
 */
#define DGEMMA_SPECIAL_BOS 0

/**
 * dgemma_model_special_token(): ends a text. Others may end an answer too: see dgemma_token_is_end().
 */
#define DGEMMA_SPECIAL_EOS 1

/**
 * dgemma_model_special_token(): stands for what the vocabulary cannot express.
 */
#define DGEMMA_SPECIAL_UNKNOWN 2

/**
 * dgemma_model_special_token(): fills a batch.
 */
#define DGEMMA_SPECIAL_PADDING 3

/**
 * dgemma_model_special_token(): `<mask>`; this model's sampler has no use for it.
 */
#define DGEMMA_SPECIAL_MASK 4

/**
 * dgemma_chat_render(): end where the model's answer begins.
 */
#define DGEMMA_CHAT_ADD_GENERATION_PROMPT 1

/**
 * dgemma_noise.purpose: the tokens that a canvas starts from.
 */
#define DGEMMA_NOISE_CANVAS 0

/**
 * dgemma_noise.purpose: where in its distribution each position's token is drawn.
 */
#define DGEMMA_NOISE_DRAWS 1

/**
 * dgemma_noise.purpose: the tokens that positions get which are not accepted.
 */
#define DGEMMA_NOISE_RENOISE 2

/**
 * dgemma_model_params.backend: the fast one for processors.
 */
#define DGEMMA_BACKEND_CPU 0

/**
 * dgemma_model_params.backend: the slow and plain one that the others are checked against.
 */
#define DGEMMA_BACKEND_REFERENCE 1

/**
 * dgemma_model_params.backend: an NVIDIA GPU of compute capability 8.0 or newer, with driver 580 or newer.
 */
#define DGEMMA_BACKEND_CUDA 2

/**
 * dgemma_generate_params.prompt_kind: the prompt is a user's message, put into the model's chat template.
 */
#define DGEMMA_PROMPT_CHAT 0

/**
 * dgemma_generate_params.prompt_kind: the prompt is the text itself, with special tokens parsed and the begin token before it.
 */
#define DGEMMA_PROMPT_RAW 1

/**
 * dgemma_generate_params.flags: go on past tokens that end an answer, which then are part of the text.
 */
#define DGEMMA_GENERATE_IGNORE_END 1

/**
 * dgemma_generate_params.flags: where fewer tokens are wanted, or fit, than a canvas has, make the last canvas that short
 * instead of cutting its text. Cheaper, but not what the model was trained on.
 */
#define DGEMMA_GENERATE_ADAPTIVE_LAST_CANVAS 2

/**
 * dgemma_generate_params.flags: show control tokens in texts.
 */
#define DGEMMA_GENERATE_SHOW_SPECIAL 4

/**
 * dgemma_context_params.kv_type: the library's choice, today DGEMMA_KV_F16, or DGEMMA_KV_F32 for a model loaded `exact`.
 */
#define DGEMMA_KV_DEFAULT 0

/**
 * dgemma_context_params.kv_type: 4 bytes a number, exact.
 */
#define DGEMMA_KV_F32 1

/**
 * dgemma_context_params.kv_type: 2 bytes a number, relative error up to 2^-11.
 */
#define DGEMMA_KV_F16 2

/**
 * dgemma_context_params.kv_type: 2 bytes a number, relative error up to 2^-8.
 */
#define DGEMMA_KV_BF16 3

/**
 * dgemma_block_params.slots: starts from a random token.
 */
#define DGEMMA_SLOT_NOISE 0

/**
 * dgemma_block_params.slots: starts from the program's token and may change like any other position.
 */
#define DGEMMA_SLOT_FREE 1

/**
 * dgemma_block_params.slots: the program's token stays: in the canvas at every step, and in the draft.
 */
#define DGEMMA_SLOT_PINNED 2

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
   * The file's vocabulary cannot be used, or cannot encode the text.
   */
  DGEMMA_STATUS_TOKENIZER = 4,
  /**
   * The model's chat template is broken or refuses the messages. DGEMMA_PROMPT_RAW does without it.
   */
  DGEMMA_STATUS_TEMPLATE = 5,
  /**
   * Prompt and canvas do not fit into the context. Ask for a larger context_size, or shorten the prompt.
   */
  DGEMMA_STATUS_CONTEXT_FULL = 6,
  /**
   * A buffer could not be allocated, or a GPU has too little memory, and the text says what would fit; nothing was kept.
   */
  DGEMMA_STATUS_OUT_OF_MEMORY = 7,
  /**
   * Given up on request.
   */
  DGEMMA_STATUS_CANCELLED = 8,
  /**
   * The library failed; the text says where. The objects of the call answer so from now on and should be freed;
   * others are not concerned.
   */
  DGEMMA_STATUS_INTERNAL = 9,
  /**
   * What was asked for is not there: a key, a token. Not always a mistake.
   */
  DGEMMA_STATUS_NOT_FOUND = 10,
  /**
   * The buffer cannot take the result. Its length is reported: call again with room for it.
   */
  DGEMMA_STATUS_BUFFER_TOO_SMALL = 11,
  /**
   * Another call is using the object: on another thread, or further up this one, whose callback you are in. Wait for it.
   */
  DGEMMA_STATUS_BUSY = 12,
  /**
   * The GPU or its driver failed, or there is none that can be used; the text names the driver's call. After a failure
   * during a generation, free the objects of the call.
   */
  DGEMMA_STATUS_DEVICE = 13,
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
   * A callback or a dgemma_canceller asked to stop; complete canvases were delivered. So it is for a callback that stops on
   * the last canvas, whatever else would have ended the text there.
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
 * A canvas being denoised behind the sequence of a context. It holds the context; calls on it use the context, so at most
 * one call on either runs at a time, and others are answered with DGEMMA_STATUS_BUSY. Several blocks can exist, but once
 * one has done its first step, a step of another one ends it.
 */
typedef struct dgemma_block dgemma_block;

/**
 * A context's stop button for other threads. It may outlive the context.
 */
typedef struct dgemma_canceller dgemma_canceller;

/**
 * A sequence of tokens being read and written, with the memory that this takes. One call at a time: a second one, from
 * another thread or from a callback of the first, is answered with DGEMMA_STATUS_BUSY and changes nothing. It keeps the
 * model it was made from alive.
 */
typedef struct dgemma_context dgemma_context;

/**
 * Decodes a text token by token: what it gives back is complete characters, and together the text of all tokens at once.
 * It keeps the model it was made from alive.
 */
typedef struct dgemma_detokenizer dgemma_detokenizer;

/**
 * A loaded model. Immutable: any number of threads may use it at once.
 */
typedef struct dgemma_model dgemma_model;

/**
 * Something that can run a model. Set struct_size before the call that fills it.
 */
typedef struct dgemma_device_info {
  /**
   * sizeof(dgemma_device_info) in the calling program.
   */
  size_t struct_size;
  /**
   * The DGEMMA_BACKEND_* that runs on it.
   */
  uint32_t backend;
  /**
   * Processor cores that the process may use, or a GPU's multiprocessors; 0 where that says nothing.
   */
  uint32_t cores;
  /**
   * Memory in bytes; 0: unknown.
   */
  uint64_t memory_bytes;
  /**
   * Of which free when asked, of a GPU all of it; 0: unknown.
   */
  uint64_t free_bytes;
  /**
   * Its name, UTF-8 with a NUL behind it, cut if it is longer.
   */
  char name[128];
} dgemma_device_info;

/**
 * Receives a message: `level` is a DGEMMA_LOG_* value, `text` one line of UTF-8, lent for the time of the call.
 */
typedef void (*dgemma_log_callback)(uint32_t level, const char *text, void *user_data);

/**
 * Hears how far loading is: `fraction` is 0 to 1. Returns 0 to continue; anything else gives up, and the load answers
 * DGEMMA_STATUS_CANCELLED.
 */
typedef int (*dgemma_progress_callback)(float fraction, void *user_data);

/**
 * How to load a model. Fill it with dgemma_model_params_init(), then change fields.
 */
typedef struct dgemma_model_params {
  /**
   * Size of this struct as the program knows it, in bytes; set by dgemma_model_params_init().
   */
  size_t struct_size;
  /**
   * DGEMMA_BACKEND_CPU (0), DGEMMA_BACKEND_REFERENCE or DGEMMA_BACKEND_CUDA.
   */
  uint32_t backend;
  /**
   * Threads of the model's own pool, 0 to 1024; 0: one per available core. Not what the text depends on.
   */
  uint32_t threads;
  /**
   * DGEMMA_MEMORY_* values added up, or 0.
   */
  uint64_t memory;
  /**
   * Hears how far loading is, on the calling thread, or NULL.
   */
  dgemma_progress_callback on_progress;
  /**
   * Handed to on_progress as it is.
   */
  void *user_data;
  /**
   * Also receives the text of a failure (cut if need be, always with a NUL), or NULL. For bindings whose calls change
   * threads: see "Errors" above.
   */
  char *error_text;
  /**
   * Bytes that error_text has room for.
   */
  size_t error_text_cap;
  /**
   * 1: DGEMMA_BACKEND_CPU computes all products in f32, DGEMMA_BACKEND_CUDA as accurately. 0: those with quantized weights
   * round their other operand to 8 bits, which is several times faster and moves logits a little (DGEMMA_BACKEND_CUDA on
   * GPUs of data centers, compute capability 8.0, 9.0, 10.0 and 10.3: both to bf16, but for experts); those with weights of
   * 16-bit floats round both to bf16, with DGEMMA_BACKEND_CPU only where the processor has AVX-512 BF16. The text of a seed
   * differs between the two.
   */
  uint32_t exact;
  /**
   * DGEMMA_CPU_* that DGEMMA_BACKEND_CPU uses; DGEMMA_CPU_BEST (0) but for comparisons.
   */
  uint32_t cpu_level;
  /**
   * Which GPU DGEMMA_BACKEND_CUDA uses, from 0: dgemma_device_describe(1 + device).
   */
  uint32_t device;
  /**
   * Positions of the context that DGEMMA_BACKEND_CUDA must leave room for; 0: 8192, or the model's limit if that is less.
   * Where weights and such a context do not fit the GPU together, loading answers DGEMMA_STATUS_OUT_OF_MEMORY, with a text
   * that says what would fit. Other contexts can be made later, as long as there is memory. Other backends do not look at
   * it.
   */
  size_t planned_context_size;
  /**
   * How many layers DGEMMA_BACKEND_CUDA keeps on the GPU, the last ones; 0, or more than there are: all;
   * DGEMMA_GPU_LAYERS_NONE: none. The matrices of the others stay in page-locked host memory and are copied over, layer by
   * layer, ahead of their use, in every pass: texts are the same, and a step takes as long as the link to the GPU needs for
   * those bytes. Embedding, head and self-conditioning are always on the GPU. Other backends refuse anything but 0.
   */
  uint32_t n_gpu_layers;
  /**
   * How many layers, the first ones, have their experts (nine tenths of a layer) in host memory, in the same way; 0: none.
   * Of layers that are not on the GPU anyway nothing changes. Other backends refuse anything but 0.
   */
  uint32_t n_cpu_experts;
  /**
   * DGEMMA_KV_* of the context that planned_context_size speaks of.
   */
  uint32_t planned_kv_type;
} dgemma_model_params;

/**
 * The sizes of a model. Set struct_size before the call that fills it.
 */
typedef struct dgemma_model_info {
  /**
   * sizeof(dgemma_model_info) in the calling program.
   */
  size_t struct_size;
  /**
   * Tokens in the vocabulary: ids are below it.
   */
  uint32_t vocab_size;
  /**
   * Positions of a canvas.
   */
  uint32_t canvas_length;
  /**
   * Most positions of a context: what the model was trained for.
   */
  uint32_t context_length;
  /**
   * Layers.
   */
  uint32_t layers;
  /**
   * Width of the residual stream.
   */
  uint32_t hidden_size;
  /**
   * Experts of each layer.
   */
  uint32_t experts;
  /**
   * Experts chosen for each token.
   */
  uint32_t experts_used;
  /**
   * DGEMMA_BACKEND_* that it was loaded for.
   */
  uint32_t backend;
  /**
   * Weights in all.
   */
  uint64_t parameters;
  /**
   * Bytes of the file, or of all files of a split set.
   */
  uint64_t file_bytes;
  /**
   * Bytes of the tensors in them.
   */
  uint64_t tensor_bytes;
  /**
   * Files: 1, or the parts of a split set.
   */
  uint32_t files;
  /**
   * Tensors in them.
   */
  uint32_t tensors;
} dgemma_model_info;

/**
 * Added to a token's logit at every position, before the temperature divides it.
 */
typedef struct dgemma_logit_bias {
  /**
   * The token, below vocab_size.
   */
  uint32_t token;
  /**
   * -1000 to 1000, or negative infinity, which bans the token.
   */
  float bias;
} dgemma_logit_bias;

/**
 * The numbers of the entropy-bound sampler. Fill it with dgemma_sampler_params_init(), then change fields.
 */
typedef struct dgemma_sampler_params {
  /**
   * Size of this struct as the program knows it, in bytes; set by dgemma_sampler_params_init().
   */
  size_t struct_size;
  /**
   * Most denoising steps per canvas, 1 to 1000000.
   */
  uint32_t max_steps;
  /**
   * Stop once the draft equals that many previous drafts, 0 to 1024; 0 asks only for confidence.
   */
  uint32_t stability;
  /**
   * Temperature that the schedule approaches, > 0.
   */
  float t_min;
  /**
   * Temperature of the first step, at least t_min.
   */
  float t_max;
  /**
   * Bound in nats on the summed entropy of the positions that are accepted in a step, >= 0.
   */
  float entropy_bound;
  /**
   * Stop only below this mean entropy in nats, >= 0.
   */
  float confidence;
  /**
   * For stable_length and early text: a position is stable when its draft stayed the same for so many steps ...
   */
  uint32_t stable_steps;
  /**
   * ... and its entropy in nats is at most this. Both have no influence on the text.
   */
  float stable_entropy;
  /**
   * n_logit_bias entries, read during the call that gets these params; NULL if there are none. Biases of a token listed
   * twice add up.
   */
  const struct dgemma_logit_bias *logit_bias;
  /**
   * Entries of logit_bias.
   */
  size_t n_logit_bias;
  /**
   * n_banned tokens that are never drawn or drafted, read during the call that gets these params; NULL if there are
   * none. One token must be left.
   */
  const uint32_t *banned;
  /**
   * Entries of banned.
   */
  size_t n_banned;
} dgemma_sampler_params;

/**
 * Receives text: `text` is UTF-8 of `len` bytes (also NUL-terminated), lent for the time of the call. Complete characters
 * only. Returns 0 to continue; anything else stops the generation.
 */
typedef int (*dgemma_text_callback)(const char *text, size_t len, void *user_data);

/**
 * One denoising step. Handed to dgemma_step_callback for the time of the call, with struct_size as the library knows it;
 * or filled by dgemma_block_describe(), with struct_size set by the program. Arrays have canvas_length entries.
 */
typedef struct dgemma_step {
  /**
   * Size of this struct, in bytes, as the side that made it knows it.
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
  /**
   * The canvas that the next step starts from.
   */
  const uint32_t *canvas;
  /**
   * The token drawn at each position.
   */
  const uint32_t *drawn;
  /**
   * Natural logarithm of the probability of each position's draft: its confidence.
   */
  const float *log_prob;
  /**
   * 1 where the draft is not that of the step before; at the first step, not what the canvas started from.
   */
  const uint8_t *changed;
  /**
   * 1 where the program pinned the token.
   */
  const uint8_t *pinned;
  /**
   * Leading positions that are unlikely to change any more (dgemma_sampler_params.stable_steps). The number can shrink.
   */
  size_t stable_length;
  /**
   * The step's temperature.
   */
  float temperature;
  /**
   * 1 if the canvas takes no further step: converged, or out of steps.
   */
  uint32_t done;
} dgemma_step;

/**
 * Hears of each denoising step. Returns 0 to continue; anything else stops the generation.
 */
typedef int (*dgemma_step_callback)(const struct dgemma_step *step, void *user_data);

/**
 * Receives the `n_tokens` committed tokens of canvas number `block`, lent for the time of the call. Returns 0 to continue;
 * anything else stops the generation.
 */
typedef int (*dgemma_tokens_callback)(uint32_t block, const uint32_t *tokens, size_t n_tokens, void *user_data);

/**
 * Hears how far encoding is: `encoded` of `total` tokens. Returns 0 to continue; anything else stops the call.
 */
typedef int (*dgemma_prefill_callback)(size_t encoded, size_t total, void *user_data);

/**
 * Noise that is about to be used, one number for each position of a canvas. It comes filled from the seed. What the program
 * writes into the array is used instead, so that a recording of all of it gives the same text again: on another backend,
 * after a change of the library, from another implementation.
 */
typedef struct dgemma_noise {
  /**
   * Size of this struct as the library knows it, in bytes.
   */
  size_t struct_size;
  /**
   * DGEMMA_NOISE_* value.
   */
  uint32_t purpose;
  /**
   * The canvas's index within the generation, from 0.
   */
  uint32_t block;
  /**
   * The step's index within the canvas, from 0; 0 for DGEMMA_NOISE_CANVAS.
   */
  uint32_t step;
  /**
   * Positions of the canvas, and entries of the array.
   */
  uint32_t canvas_length;
  /**
   * Ids below vocab_size; NULL for DGEMMA_NOISE_DRAWS.
   */
  uint32_t *tokens;
  /**
   * Numbers above 0 and below 1; NULL unless DGEMMA_NOISE_DRAWS.
   */
  float *draws;
} dgemma_noise;

/**
 * Hears of noise before it is used; `noise` and its array are lent for the time of the call. Returns 0 to continue;
 * anything else stops the call as a dgemma_canceller does. A step that is repeated after a failure asks again.
 */
typedef int (*dgemma_noise_callback)(const struct dgemma_noise *noise, void *user_data);

/**
 * What to generate. Fill it with dgemma_generate_params_init(), then change fields. Zero in a field means the default.
 *
 * Callbacks run on the thread that called, one at a time.
 */
typedef struct dgemma_generate_params {
  /**
   * Size of this struct as the program knows it, in bytes; set by dgemma_generate_params_init().
   */
  size_t struct_size;
  /**
   * DGEMMA_PROMPT_CHAT (0) or DGEMMA_PROMPT_RAW. Only for dgemma_generate().
   */
  uint32_t prompt_kind;
  /**
   * Most denoising steps per canvas, 1 to 1000000; 0: the sampler's or the model's number.
   */
  uint32_t max_steps;
  /**
   * Most tokens to generate; 0: one canvas.
   */
  size_t max_tokens;
  /**
   * Positions of the context, prompt and canvas together; 0: 8192, or the model's limit if that is less. Only for
   * dgemma_generate().
   */
  size_t context_size;
  /**
   * The same seed gives the same text on any number of threads. 0: the context's seed, if it has one.
   */
  uint64_t seed;
  /**
   * Receives the committed text, or NULL. Final: joined together it is the whole answer.
   */
  dgemma_text_callback on_text;
  /**
   * Hears of each step, or NULL.
   */
  dgemma_step_callback on_step;
  /**
   * Handed to all callbacks as it is.
   */
  void *user_data;
  /**
   * DGEMMA_GENERATE_* values added up, or 0.
   */
  uint64_t flags;
  /**
   * The sampler's numbers, read during the call; NULL: the model's.
   */
  const struct dgemma_sampler_params *sampler;
  /**
   * Receives the committed tokens of each canvas, just before on_text gets their text; or NULL.
   */
  dgemma_tokens_callback on_tokens;
  /**
   * Receives text before it is final, or NULL: the stable beginning of the canvas under way. Each such text replaces the
   * one before, and the next on_text replaces it for good. It rarely differs from what is committed then, but may.
   */
  dgemma_text_callback on_early_text;
  /**
   * Hears how far the prompt is encoded, or NULL.
   */
  dgemma_prefill_callback on_prefill;
  /**
   * Also receives the text of a failure (cut if need be, always with a NUL), or NULL; see "Errors" above.
   */
  char *error_text;
  /**
   * Bytes that error_text has room for.
   */
  size_t error_text_cap;
  /**
   * Hears of all noise before it is used, and may replace it; or NULL.
   */
  dgemma_noise_callback on_noise;
} dgemma_generate_params;

/**
 * How a generation went. Durations are in seconds. Written as a whole, without struct_size, so that it stays as it is;
 * what else there may once be to say about a generation goes into dgemma_perf, which grows.
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
   * Tokens before the generated ones.
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

/**
 * How to make a context. Fill it with dgemma_context_params_init(), then change fields.
 */
typedef struct dgemma_context_params {
  /**
   * Size of this struct as the program knows it, in bytes; set by dgemma_context_params_init().
   */
  size_t struct_size;
  /**
   * Positions, prompt and canvas together; 0: 8192, or the model's limit if that is less.
   */
  size_t context_size;
  /**
   * Seed of the generations and blocks that name none (seed 0).
   */
  uint64_t seed;
  /**
   * Prompt tokens encoded per pass; 0: 256. The text does not depend on it.
   */
  uint32_t chunk;
  /**
   * How cached keys and values are stored: a DGEMMA_KV_* value.
   */
  uint32_t kv_type;
  /**
   * Also receives the text of a failure (cut if need be, always with a NUL), or NULL; see "Errors" above.
   */
  char *error_text;
  /**
   * Bytes that error_text has room for.
   */
  size_t error_text_cap;
} dgemma_context_params;

/**
 * The state of a context. Set struct_size before the call that fills it.
 */
typedef struct dgemma_context_info {
  /**
   * sizeof(dgemma_context_info) in the calling program.
   */
  size_t struct_size;
  /**
   * Tokens of the sequence.
   */
  size_t length;
  /**
   * Of which encoded.
   */
  size_t encoded;
  /**
   * Positions that the context holds at most, prompt and canvas together.
   */
  size_t context_size;
  /**
   * Seed of the generations and blocks that name none.
   */
  uint64_t seed;
  /**
   * Prompt tokens encoded per pass.
   */
  uint32_t chunk;
  /**
   * DGEMMA_KV_* of the cached keys and values; never DGEMMA_KV_DEFAULT.
   */
  uint32_t kv_type;
} dgemma_context_info;

/**
 * What a context did since it was made or reset. Durations are in seconds. Set struct_size before the call that fills it.
 */
typedef struct dgemma_perf {
  /**
   * sizeof(dgemma_perf) in the calling program.
   */
  size_t struct_size;
  /**
   * Tokens encoded.
   */
  uint64_t prefill_tokens;
  /**
   * Denoising steps.
   */
  uint64_t steps;
  /**
   * Tokens committed.
   */
  uint64_t committed_tokens;
  /**
   * Scoring passes.
   */
  uint64_t scorings;
  /**
   * Time spent encoding.
   */
  double prefill_seconds;
  /**
   * Time spent in denoising steps.
   */
  double denoise_seconds;
  /**
   * Time spent scoring.
   */
  double scoring_seconds;
  /**
   * Of all three, time spent in attention, projections included.
   */
  double attention_seconds;
  /**
   * Of all three, time spent in dense layers, routers and experts.
   */
  double feed_forward_seconds;
  /**
   * Of all three, time spent in the output head: logits, statistics, draws and soft embedding.
   */
  double head_seconds;
} dgemma_perf;

/**
 * Where memory is, in bytes. Set struct_size before the call that fills it.
 */
typedef struct dgemma_memory {
  /**
   * sizeof(dgemma_memory) in the calling program.
   */
  size_t struct_size;
  /**
   * The model's files, mapped (the system holds what is in use, once for all processes) or read. Shared by all contexts
   * of the model.
   */
  uint64_t weight_bytes;
  /**
   * Cached keys and values at their full size; the system hands out the pages as they are filled. 0 for a model.
   */
  uint64_t kv_bytes;
  /**
   * Activations; a step needs some more for its time. 0 for a model.
   */
  uint64_t activation_bytes;
} dgemma_memory;

/**
 * What a block starts from. Fill it with dgemma_block_params_init(), then change fields.
 *
 * | to | slots |
 * |---|---|
 * | continue a text | none |
 * | fill a gap | PINNED around it, NOISE in it |
 * | edit | PINNED for what stays, FREE for what may be rewritten |
 * | start from an earlier draft | FREE |
 */
typedef struct dgemma_block_params {
  /**
   * Size of this struct as the program knows it, in bytes; set by dgemma_block_params_init().
   */
  size_t struct_size;
  /**
   * The block's place in the noise: blocks of one text count from 0, as dgemma_context_generate() counts them.
   */
  uint32_t index;
  /**
   * Positions, and entries of tokens and slots: 1 to the model's canvas_length; 0: that. The model was trained on whole
   * canvases; a shorter one is cheaper, but its text is another one.
   */
  uint32_t canvas_length;
  /**
   * Seed of the noise; 0: the context's.
   */
  uint64_t seed;
  /**
   * The sampler's numbers, read during the call; NULL: the model's.
   */
  const struct dgemma_sampler_params *sampler;
  /**
   * A token for each position, ignored where the slot is noise; NULL: all slots are noise.
   */
  const uint32_t *tokens;
  /**
   * DGEMMA_SLOT_* of each position; NULL: all free if there are tokens.
   */
  const uint8_t *slots;
  /**
   * Hears of the block's noise before it is used, in dgemma_block_begin() and dgemma_block_step(), and may replace it; or
   * NULL.
   */
  dgemma_noise_callback on_noise;
  /**
   * Handed to on_noise as it is; must stay valid for it as long as the block is stepped.
   */
  void *user_data;
} dgemma_block_params;

/**
 * A token whose probability is asked for.
 */
typedef struct dgemma_candidate {
  /**
   * Position in the canvas, from 0.
   */
  uint32_t position;
  /**
   * The token, below vocab_size.
   */
  uint32_t token;
} dgemma_candidate;

#ifdef __cplusplus
extern "C" {
#endif // __cplusplus

/**
 * The name of a status in words, e.g. "context full", for logs; of an unknown number "unknown status".
 *
 * Lifetime: static; do not free it. Threads: any.
 */
DGEMMA_API const char *dgemma_status_text(int32_t status);

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
 * The library's version, e.g. "0.1.0". Static; do not free it. Threads: any.
 */
DGEMMA_API const char *dgemma_version(void);

/**
 * The DGEMMA_ABI_VERSION of the library that runs. Threads: any.
 */
DGEMMA_API uint32_t dgemma_abi_version(void);

/**
 * How the library was built and what it found here: one line of `key=value` pairs separated by spaces, e.g.
 * "version=0.1.0 abi=3 target=x86_64-linux backends=cpu,reference,cuda cpu=avx512 kernels=embedded".
 * Keys may be added. "kernels" (of the CUDA backend) is "embedded", or "sources" in a library that compiles them at run time.
 *
 * Lifetime: static; do not free it. Threads: any.
 */
DGEMMA_API
const char *dgemma_build_info(void);

/**
 * How many devices dgemma_device_describe() knows: the processor, then the GPUs that DGEMMA_BACKEND_CUDA can use, looked for
 * at the first call. Threads: any.
 */
DGEMMA_API
size_t dgemma_device_count(void);

/**
 * Describes device `index`, from 0.
 *
 * `out`: not NULL, struct_size set. Answers DGEMMA_STATUS_INVALID_ARGUMENT for NULL, a wrong struct_size, or an index
 * that is not below dgemma_device_count(). Threads: any.
 */
DGEMMA_API
dgemma_status dgemma_device_describe(size_t index,
                                     struct dgemma_device_info *out);

/**
 * Sends the messages of the whole process to `callback`, or nowhere (NULL, which is how it starts). `user_data` is handed
 * to it as it is.
 *
 * Answers DGEMMA_STATUS_OK.
 *
 * Threads: any. The callback runs on the thread whose call has something to say, so on several at once when several are
 * at work; a call that is under way elsewhere may still use the previous callback for a moment after this one returns.
 * It may call the library, but must not free what the call under way was given.
 */
DGEMMA_API
dgemma_status dgemma_log_set(dgemma_log_callback callback,
                             void *user_data);

/**
 * Fills `params` with the defaults.
 *
 * `params`: where to write; not NULL. `struct_size`: sizeof(*params) in the calling program.
 *
 * Answers DGEMMA_STATUS_INVALID_ARGUMENT for NULL, and for a size smaller than that of the library's first release.
 * Threads: any.
 */
DGEMMA_API
dgemma_status dgemma_model_params_init(struct dgemma_model_params *params,
                                       size_t struct_size);

/**
 * Loads a GGUF file: maps it, checks it, binds its weights.
 *
 * A mapped file must stay as it is while the model or anything made from it lives. Removing it, or replacing it by a new
 * file of the same name (as `mv` and package managers do), is fine: the old one stays mapped. Overwriting it in place
 * changes the weights. Cutting it ends in DGEMMA_STATUS_BAD_FILE from prefill, generation, step and scoring until it is
 * restored; if it was cut in the middle of a load or a pass, or its disk failed, the call answers the same, and so does
 * every later one with this model. Where a file may be overwritten or cut, ask for DGEMMA_MEMORY_READ: then nothing that
 * happens to it matters any more.
 *
 * On Linux the first load of a mapped file installs a handler of SIGBUS for this, which passes on every signal that is not
 * about a model's file; a program that sets a handler of its own later should do the same, or such a cut ends it.
 * Loads with DGEMMA_MEMORY_READ install nothing.
 *
 * `path`: UTF-8, the file or the first part of a split set; not NULL. `params`: from dgemma_model_params_init(), or NULL
 * for the defaults. `out`: receives the model, to be freed with dgemma_model_free(); not NULL, untouched on failure.
 *
 * Answers DGEMMA_STATUS_INVALID_ARGUMENT, _IO (missing, unreadable, not lockable), _BAD_FILE (damaged or another architecture),
 * _TOKENIZER (unusable vocabulary), _OUT_OF_MEMORY, _DEVICE or _CANCELLED (by on_progress). Threads: any.
 */
DGEMMA_API
dgemma_status dgemma_model_load(const char *path,
                                const struct dgemma_model_params *params,
                                struct dgemma_model **out);

/**
 * Frees a model; NULL is fine. Contexts, blocks and detokenizers made from it stay usable: they hold what they need, and
 * memory goes back when the last of them is freed. Calls that were given this very pointer must have returned.
 * Threads: any.
 */
DGEMMA_API
void dgemma_model_free(struct dgemma_model *model);

/**
 * Reports the sizes of a model.
 *
 * `model`: not NULL. `out`: not NULL, struct_size set. Answers DGEMMA_STATUS_INVALID_ARGUMENT. Threads: any.
 */
DGEMMA_API
dgemma_status dgemma_model_describe(const struct dgemma_model *model,
                                    struct dgemma_model_info *out);

/**
 * A number that says which model it is: a hash of architecture keys, tensor table and a sample of every tensor. The same
 * for a file and its split form; another one after requantizing. Saved contexts carry it.
 *
 * `model`: not NULL. `out`: receives the number; not NULL. The first call on a model reads a page or two of each tensor.
 *
 * Answers DGEMMA_STATUS_INVALID_ARGUMENT. Threads: any.
 */
DGEMMA_API
dgemma_status dgemma_model_fingerprint(const struct dgemma_model *model,
                                       uint64_t *out);

/**
 * How many keys the file's metadata has; 0 for NULL. Threads: any.
 */
DGEMMA_API size_t dgemma_model_metadata_count(const struct dgemma_model *model);

/**
 * Key number `index` of the file's metadata, in file order, e.g. "general.architecture".
 *
 * `model`: not NULL. `index`: below dgemma_model_metadata_count(). `buffer`, `cap`, `len`: see "Buffers" above.
 *
 * Answers DGEMMA_STATUS_INVALID_ARGUMENT or _BUFFER_TOO_SMALL. Threads: any.
 */
DGEMMA_API
dgemma_status dgemma_model_metadata_key(const struct dgemma_model *model,
                                        size_t index,
                                        char *buffer,
                                        size_t cap,
                                        size_t *len);

/**
 * The value of a key of the file's metadata: a string as it is, anything else as JSON.
 *
 * `model`: not NULL. `key`: UTF-8, not NULL. `buffer`, `cap`, `len`: see "Buffers" above.
 *
 * Answers DGEMMA_STATUS_INVALID_ARGUMENT, _NOT_FOUND (no such key) or _BUFFER_TOO_SMALL. Threads: any.
 */
DGEMMA_API
dgemma_status dgemma_model_metadata_value(const struct dgemma_model *model,
                                          const char *key,
                                          char *buffer,
                                          size_t cap,
                                          size_t *len);

/**
 * Encodes a text.
 *
 * `model`: not NULL. `text`: `text_len` bytes of UTF-8; NULL is fine when there are none. `flags`: DGEMMA_TOKENIZE_*
 * values added up, or 0. `tokens`, `cap`, `len`: see "Buffers" above; text_len + 2 entries are always enough.
 *
 * Answers DGEMMA_STATUS_INVALID_ARGUMENT, _TOKENIZER or _BUFFER_TOO_SMALL. Threads: any.
 */
DGEMMA_API
dgemma_status dgemma_model_tokenize(const struct dgemma_model *model,
                                    const char *text,
                                    size_t text_len,
                                    uint32_t flags,
                                    uint32_t *tokens,
                                    size_t cap,
                                    size_t *len);

/**
 * Decodes tokens to text. Pieces that are no valid UTF-8 become U+FFFD; see dgemma_detokenizer for text that arrives bit
 * by bit.
 *
 * `model`: not NULL. `tokens`: `n_tokens` ids; NULL is fine when there are none. `flags`: DGEMMA_DETOKENIZE_SPECIAL or 0.
 * `buffer`, `cap`, `len`: see "Buffers" above.
 *
 * Answers DGEMMA_STATUS_INVALID_ARGUMENT (an id not below vocab_size, too) or _BUFFER_TOO_SMALL. Threads: any.
 */
DGEMMA_API
dgemma_status dgemma_model_detokenize(const struct dgemma_model *model,
                                      const uint32_t *tokens,
                                      size_t n_tokens,
                                      uint32_t flags,
                                      char *buffer,
                                      size_t cap,
                                      size_t *len);

/**
 * The text of one token as the vocabulary spells it: spaces as U+2581, bytes as "<0x41>".
 *
 * `model`: not NULL. `token`: below vocab_size. `buffer`, `cap`, `len`: see "Buffers" above.
 *
 * Answers DGEMMA_STATUS_INVALID_ARGUMENT or _BUFFER_TOO_SMALL. Threads: any.
 */
DGEMMA_API
dgemma_status dgemma_token_piece(const struct dgemma_model *model,
                                 uint32_t token,
                                 char *buffer,
                                 size_t cap,
                                 size_t *len);

/**
 * What a token is: one of DGEMMA_TOKEN_NORMAL to DGEMMA_TOKEN_BYTE, plus DGEMMA_TOKEN_END if it ends an answer.
 *
 * `model`: not NULL. `token`: below vocab_size. `out`: not NULL. Answers DGEMMA_STATUS_INVALID_ARGUMENT. Threads: any.
 */
DGEMMA_API
dgemma_status dgemma_token_attributes(const struct dgemma_model *model,
                                      uint32_t token,
                                      uint32_t *out);

/**
 * 1 if the token ends an answer; 0 if not, if there is no such token, and for NULL. Threads: any.
 */
DGEMMA_API int dgemma_token_is_end(const struct dgemma_model *model, uint32_t token);

/**
 * The token with exactly this text, spelled as dgemma_token_piece() spells it.
 *
 * `model`: not NULL. `piece`: `piece_len` bytes of UTF-8. `out`: receives the id; not NULL.
 *
 * Answers DGEMMA_STATUS_INVALID_ARGUMENT or _NOT_FOUND. Threads: any.
 */
DGEMMA_API
dgemma_status dgemma_token_find(const struct dgemma_model *model,
                                const char *piece,
                                size_t piece_len,
                                uint32_t *out);

/**
 * The token with a role.
 *
 * `model`: not NULL. `role`: a DGEMMA_SPECIAL_* value. `out`: receives the id; not NULL.
 *
 * Answers DGEMMA_STATUS_INVALID_ARGUMENT or _NOT_FOUND (the vocabulary has none). Threads: any.
 */
DGEMMA_API
dgemma_status dgemma_model_special_token(const struct dgemma_model *model,
                                         uint32_t role,
                                         uint32_t *out);

/**
 * Makes a detokenizer at the beginning of a text.
 *
 * `model`: not NULL. `flags`: DGEMMA_DETOKENIZE_SPECIAL or 0. `out`: receives it, to be freed with
 * dgemma_detokenizer_free(); not NULL.
 *
 * Answers DGEMMA_STATUS_INVALID_ARGUMENT. Threads: any.
 */
DGEMMA_API
dgemma_status dgemma_detokenizer_create(const struct dgemma_model *model,
                                        uint32_t flags,
                                        struct dgemma_detokenizer **out);

/**
 * Takes the next tokens and gives the text that they complete, which may be none.
 *
 * `detokenizer`: not NULL. `tokens`: `n_tokens` ids; NULL is fine when there are none. `buffer`, `cap`, `len`: see
 * "Buffers" above; a call that fails, also with DGEMMA_STATUS_BUFFER_TOO_SMALL, has taken none of the tokens.
 *
 * Answers DGEMMA_STATUS_INVALID_ARGUMENT, _BUFFER_TOO_SMALL or _BUSY. Threads: one at a time.
 */
DGEMMA_API
dgemma_status dgemma_detokenizer_push(struct dgemma_detokenizer *detokenizer,
                                      const uint32_t *tokens,
                                      size_t n_tokens,
                                      char *buffer,
                                      size_t cap,
                                      size_t *len);

/**
 * Ends the text: gives what was held back, and is at the beginning of a new text then.
 *
 * `detokenizer`: not NULL. `buffer`, `cap`, `len`: see "Buffers" above; a call that fails changes nothing.
 *
 * Answers DGEMMA_STATUS_INVALID_ARGUMENT, _BUFFER_TOO_SMALL or _BUSY. Threads: one at a time.
 */
DGEMMA_API
dgemma_status dgemma_detokenizer_finish(struct dgemma_detokenizer *detokenizer,
                                        char *buffer,
                                        size_t cap,
                                        size_t *len);

/**
 * Frees a detokenizer; NULL is fine. No other call may be using it. Threads: any.
 */
DGEMMA_API void dgemma_detokenizer_free(struct dgemma_detokenizer *detokenizer);

/**
 * Renders a conversation through the model's chat template. Tokenize the result with DGEMMA_TOKENIZE_PARSE_SPECIAL and
 * without DGEMMA_TOKENIZE_ADD_BOS: the template writes the beginning itself.
 *
 * `model`: not NULL. `messages`: a JSON list as templates in the Hugging Face form expect it, e.g.
 * [{"role": "user", "content": "Hello"}]; UTF-8, not NULL. `tools`: a JSON list of function schemas, or NULL. `flags`:
 * DGEMMA_CHAT_ADD_GENERATION_PROMPT or 0. `buffer`, `cap`, `len`: see "Buffers" above.
 *
 * Answers DGEMMA_STATUS_INVALID_ARGUMENT (no JSON, no list), _TEMPLATE (broken, or refuses the messages) or
 * _BUFFER_TOO_SMALL. Threads: any.
 */
DGEMMA_API
dgemma_status dgemma_chat_render(const struct dgemma_model *model,
                                 const char *messages,
                                 const char *tools,
                                 uint32_t flags,
                                 char *buffer,
                                 size_t cap,
                                 size_t *len);

/**
 * Fills `params` with a model's own numbers.
 *
 * `params`: where to write; not NULL. `struct_size`: sizeof(*params) in the calling program. `model`: whose numbers; NULL
 * for those of the reference implementation.
 *
 * Answers DGEMMA_STATUS_INVALID_ARGUMENT for NULL params, and for a size smaller than that of the struct's first release.
 * Threads: any.
 */
DGEMMA_API
dgemma_status dgemma_sampler_params_init(struct dgemma_sampler_params *params,
                                         size_t struct_size,
                                         const struct dgemma_model *model);

/**
 * Fills `params` with the defaults.
 *
 * `params`: where to write; not NULL. `struct_size`: sizeof(*params) in the calling program.
 *
 * Answers DGEMMA_STATUS_INVALID_ARGUMENT for NULL, and for a size smaller than that of the library's first release.
 * Threads: any.
 */
DGEMMA_API
dgemma_status dgemma_generate_params_init(struct dgemma_generate_params *params,
                                          size_t struct_size);

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
 * Threads: any number at once over one model. Callbacks may call the library, also to free the model.
 */
DGEMMA_API
dgemma_status dgemma_generate(const struct dgemma_model *model,
                              const char *prompt,
                              const struct dgemma_generate_params *params,
                              struct dgemma_generation *out);

/**
 * Generates behind the sequence of a context, which grows by the committed tokens; the token that ends an answer is among
 * them, so that the next turn of a conversation finds it (see dgemma_context_set_tokens()).
 *
 * `context`: not NULL. `params`: from dgemma_generate_params_init(), or NULL for the defaults; prompt_kind and
 * context_size have no meaning here. `out`: receives how it went, or NULL.
 *
 * Answers DGEMMA_STATUS_INVALID_ARGUMENT, _CONTEXT_FULL (no canvas fits behind the sequence) or _BUSY. A generation
 * stopped by a callback or a dgemma_canceller is a success with DGEMMA_STOP_REASON_CANCELLED; complete canvases stay in
 * the sequence.
 *
 * Threads: one at a time. Callbacks may call the library; calls with this context are answered with DGEMMA_STATUS_BUSY.
 */
DGEMMA_API
dgemma_status dgemma_context_generate(struct dgemma_context *context,
                                      const struct dgemma_generate_params *params,
                                      struct dgemma_generation *out);

/**
 * Fills `params` with the defaults.
 *
 * `params`: where to write; not NULL. `struct_size`: sizeof(*params) in the calling program.
 *
 * Answers DGEMMA_STATUS_INVALID_ARGUMENT for NULL, and for a size smaller than that of the struct's first release.
 * Threads: any.
 */
DGEMMA_API
dgemma_status dgemma_context_params_init(struct dgemma_context_params *params,
                                         size_t struct_size);

/**
 * Makes an empty context and allocates its memory.
 *
 * `model`: not NULL; may be freed before the context. `params`: from dgemma_context_params_init(), or NULL for the
 * defaults. `out`: receives the context, to be freed with dgemma_context_free(); not NULL.
 *
 * Answers DGEMMA_STATUS_INVALID_ARGUMENT (context_size below one canvas or above the model's limit, too) or
 * _OUT_OF_MEMORY. Threads: any.
 */
DGEMMA_API
dgemma_status dgemma_context_create(const struct dgemma_model *model,
                                    const struct dgemma_context_params *params,
                                    struct dgemma_context **out);

/**
 * Frees a context; NULL is fine. Blocks made from it stay usable and hold its memory until they are freed. May be called
 * from a callback of a call on the context: that call goes on to its end. No other thread may be in a call with this
 * pointer. Threads: any.
 */
DGEMMA_API
void dgemma_context_free(struct dgemma_context *context);

/**
 * Adds tokens at the end. They are encoded when they are needed, or by dgemma_context_prefill().
 *
 * `context`: not NULL. `tokens`: `n_tokens` ids below vocab_size; NULL is fine when there are none.
 *
 * Answers DGEMMA_STATUS_INVALID_ARGUMENT, _CONTEXT_FULL (nothing was added) or _BUSY. Threads: one at a time.
 */
DGEMMA_API
dgemma_status dgemma_context_append(struct dgemma_context *context,
                                    const uint32_t *tokens,
                                    size_t n_tokens);

/**
 * Makes `tokens` the whole sequence and keeps what is encoded of the longest prefix that old and new have in common: the
 * cheap way to continue a conversation, or to regenerate from a changed place.
 *
 * `context`: not NULL. `tokens`: `n_tokens` ids below vocab_size; NULL is fine when there are none. `reused`: receives how
 * many tokens need not be encoded again, or NULL.
 *
 * Answers DGEMMA_STATUS_INVALID_ARGUMENT, _CONTEXT_FULL (nothing was changed) or _BUSY. Threads: one at a time.
 */
DGEMMA_API
dgemma_status dgemma_context_set_tokens(struct dgemma_context *context,
                                        const uint32_t *tokens,
                                        size_t n_tokens,
                                        size_t *reused);

/**
 * Keeps the first `length` tokens.
 *
 * `context`: not NULL. `length`: at most the length of the sequence. On models with sliding attention a deep cut can make
 * it necessary to encode what is left again; the library does so when it is needed.
 *
 * Answers DGEMMA_STATUS_INVALID_ARGUMENT or _BUSY. Threads: one at a time.
 */
DGEMMA_API
dgemma_status dgemma_context_truncate(struct dgemma_context *context,
                                      size_t length);

/**
 * Empties a context: no tokens, no pending cancel, counters at zero. Its memory is kept for the next sequence.
 *
 * `context`: not NULL. Answers DGEMMA_STATUS_INVALID_ARGUMENT or _BUSY. Threads: one at a time.
 */
DGEMMA_API
dgemma_status dgemma_context_reset(struct dgemma_context *context);

/**
 * The sequence's tokens.
 *
 * `context`: not NULL. `tokens`, `cap`, `len`: see "Buffers" above; with tokens NULL and cap 0 only its length.
 *
 * Answers DGEMMA_STATUS_INVALID_ARGUMENT, _BUFFER_TOO_SMALL or _BUSY. Threads: one at a time.
 */
DGEMMA_API
dgemma_status dgemma_context_tokens(const struct dgemma_context *context,
                                    uint32_t *tokens,
                                    size_t cap,
                                    size_t *len);

/**
 * Encodes the tokens that are not encoded yet, so that the next generation starts at once.
 *
 * `context`: not NULL. `on_prefill`: hears of each chunk on the calling thread, or NULL. `user_data`: handed to it.
 *
 * Answers DGEMMA_STATUS_INVALID_ARGUMENT, _CANCELLED (by the callback or a dgemma_canceller; what is encoded stays so) or
 * _BUSY. Threads: one at a time.
 */
DGEMMA_API
dgemma_status dgemma_context_prefill(struct dgemma_context *context,
                                     dgemma_prefill_callback on_prefill,
                                     void *user_data);

/**
 * Reports the state of a context.
 *
 * `context`: not NULL. `out`: not NULL, struct_size set. Answers DGEMMA_STATUS_INVALID_ARGUMENT or _BUSY. Threads: one at
 * a time.
 */
DGEMMA_API
dgemma_status dgemma_context_describe(const struct dgemma_context *context,
                                      struct dgemma_context_info *out);

/**
 * Reports the performance counters of a context.
 *
 * `context`: not NULL. `out`: not NULL, struct_size set. Answers DGEMMA_STATUS_INVALID_ARGUMENT or _BUSY. Threads: one at
 * a time.
 */
DGEMMA_API
dgemma_status dgemma_context_perf(const struct dgemma_context *context,
                                  struct dgemma_perf *out);

/**
 * The text of the last call that failed on this context or on a block of it, whatever thread it ran on: what a binding
 * reads whose calls change threads. DGEMMA_STATUS_BUSY and NULL arguments leave no text here.
 *
 * `context`: not NULL; may be in use. `buffer`, `cap`, `len`: see "Buffers" above.
 *
 * Answers DGEMMA_STATUS_INVALID_ARGUMENT or _BUFFER_TOO_SMALL. Threads: any.
 */
DGEMMA_API
dgemma_status dgemma_context_last_error(const struct dgemma_context *context,
                                        char *buffer,
                                        size_t cap,
                                        size_t *len);

/**
 * Copies a context: its sequence, what is encoded of it, its sizes and seed. The copy goes its own way: it has its own
 * cancellers and counters, and blocks of the original stay with the original. The cheap way to try several continuations.
 *
 * `context`: not NULL. `out`: receives the copy, to be freed with dgemma_context_free(); not NULL.
 *
 * Answers DGEMMA_STATUS_INVALID_ARGUMENT, _OUT_OF_MEMORY or _BUSY. Threads: one at a time.
 */
DGEMMA_API
dgemma_status dgemma_context_clone(const struct dgemma_context *context,
                                   struct dgemma_context **out);

/**
 * Saves a context into memory: its sequence and what is encoded of it, with a version, the model's fingerprint and a
 * checksum. Seed, counters and blocks under way are not part of it. dgemma_context_load() takes it back, in this process or
 * another, without encoding anything again.
 *
 * `context`: not NULL. `buffer`, `cap`, `len`: see "Buffers" above, in bytes; no NUL is added.
 *
 * Answers DGEMMA_STATUS_INVALID_ARGUMENT, _BUFFER_TOO_SMALL or _BUSY. Threads: one at a time.
 */
DGEMMA_API
dgemma_status dgemma_context_save(const struct dgemma_context *context,
                                  uint8_t *buffer,
                                  size_t cap,
                                  size_t *len);

/**
 * Takes over what dgemma_context_save() wrote: the context's sequence becomes the saved one, encoded as it was. The context
 * may have another size, chunk and seed than the saved one, but needs the same model and the same kv_type.
 *
 * `context`: not NULL. `bytes`: `n_bytes` bytes, not NULL. Bytes from elsewhere do no harm: everything is checked
 * before anything is taken over. (The checksum notices accidents; it is no signature.)
 *
 * Answers DGEMMA_STATUS_INVALID_ARGUMENT (not a saved context, of another version, damaged, of another model, of another
 * kv_type), _CONTEXT_FULL (more tokens than the context holds) or _BUSY; nothing was changed then. Threads: one at a time.
 */
DGEMMA_API
dgemma_status dgemma_context_load(struct dgemma_context *context,
                                  const uint8_t *bytes,
                                  size_t n_bytes);

/**
 * dgemma_context_save() into a file, which appears when it is complete; an older one of that name is replaced.
 *
 * `context`: not NULL. `path`: UTF-8, not NULL.
 *
 * Answers DGEMMA_STATUS_INVALID_ARGUMENT, _IO (the system refuses: no such folder, no right, disk full; an older file is
 * as it was) or _BUSY. Threads: one at a time.
 */
DGEMMA_API
dgemma_status dgemma_context_save_file(const struct dgemma_context *context,
                                       const char *path);

/**
 * dgemma_context_load() from a file.
 *
 * `context`: not NULL. `path`: UTF-8, not NULL.
 *
 * Answers DGEMMA_STATUS_INVALID_ARGUMENT, _IO (missing, not readable), _BAD_FILE (what dgemma_context_load() refuses in
 * bytes), _CONTEXT_FULL or _BUSY; nothing was changed then. Threads: one at a time.
 */
DGEMMA_API
dgemma_status dgemma_context_load_file(struct dgemma_context *context,
                                       const char *path);

/**
 * Reports what memory a model takes; its contexts add theirs.
 *
 * `model`: not NULL. `out`: not NULL, struct_size set. Answers DGEMMA_STATUS_INVALID_ARGUMENT. Threads: any.
 */
DGEMMA_API dgemma_status dgemma_model_memory(const struct dgemma_model *model, struct dgemma_memory *out);

/**
 * Reports what memory a context takes; a fresh one answers what its full size will take.
 *
 * `context`: not NULL. `out`: not NULL, struct_size set. Answers DGEMMA_STATUS_INVALID_ARGUMENT or _BUSY. Threads: one at
 * a time.
 */
DGEMMA_API
dgemma_status dgemma_context_memory(const struct dgemma_context *context,
                                    struct dgemma_memory *out);

/**
 * Makes a stop button for a context.
 *
 * `context`: not NULL; may be in use. `out`: receives the canceller, to be freed with dgemma_canceller_free(); not NULL.
 *
 * Answers DGEMMA_STATUS_INVALID_ARGUMENT. Threads: any.
 */
DGEMMA_API
dgemma_status dgemma_canceller_create(const struct dgemma_context *context,
                                      struct dgemma_canceller **out);

/**
 * Stops the call that runs on the context within the time of one layer: a generation ends as a success with
 * DGEMMA_STOP_REASON_CANCELLED, prefill, step and scoring answer DGEMMA_STATUS_CANCELLED. If nothing runs, the next of
 * those calls stops at once; dgemma_canceller_clear() takes that back.
 *
 * `canceller`: not NULL. Answers DGEMMA_STATUS_INVALID_ARGUMENT. Threads: any.
 */
DGEMMA_API
dgemma_status dgemma_canceller_cancel(const struct dgemma_canceller *canceller);

/**
 * Takes back a cancel that no call has used up. Before a call that must not be stopped by a cancel meant for the one
 * before it.
 *
 * `canceller`: not NULL. Answers DGEMMA_STATUS_INVALID_ARGUMENT. Threads: any.
 */
DGEMMA_API
dgemma_status dgemma_canceller_clear(const struct dgemma_canceller *canceller);

/**
 * Frees a canceller; NULL is fine. No other call may be using it. Threads: any.
 */
DGEMMA_API void dgemma_canceller_free(struct dgemma_canceller *canceller);

/**
 * Fills `params` with the defaults.
 *
 * `params`: where to write; not NULL. `struct_size`: sizeof(*params) in the calling program.
 *
 * Answers DGEMMA_STATUS_INVALID_ARGUMENT for NULL, and for a size smaller than that of the struct's first release.
 * Threads: any.
 */
DGEMMA_API
dgemma_status dgemma_block_params_init(struct dgemma_block_params *params,
                                       size_t struct_size);

/**
 * Encodes what is not encoded yet and begins a block behind the context's sequence.
 *
 * `context`: not NULL. `params`: from dgemma_block_params_init(), or NULL for the defaults. `out`: receives the block, to
 * be freed with dgemma_block_free(); not NULL.
 *
 * Answers DGEMMA_STATUS_INVALID_ARGUMENT, _CONTEXT_FULL (the canvas does not fit), _CANCELLED or _BUSY. Threads: one at a
 * time.
 */
DGEMMA_API
dgemma_status dgemma_block_begin(struct dgemma_context *context,
                                 const struct dgemma_block_params *params,
                                 struct dgemma_block **out);

/**
 * Does one denoising step. A step that fails, also by a cancel, leaves the block as it was; it can be stepped again.
 *
 * `block`: not NULL, with steps left, and the context's sequence as it was when the block began. `done`: receives 1 if
 * this was the last step (converged, or out of steps), else 0; or NULL.
 *
 * Answers DGEMMA_STATUS_INVALID_ARGUMENT (no steps left, the sequence changed, another block was stepped since),
 * _CANCELLED or _BUSY. Threads: one at a time.
 */
DGEMMA_API
dgemma_status dgemma_block_step(struct dgemma_block *block,
                                int *done);

/**
 * Reports what the last step found. Before the first one only index, canvas_length, max_steps and canvas have a meaning,
 * and the other arrays are NULL.
 *
 * `block`: not NULL. `out`: not NULL, struct_size set. Its arrays are lent until the next dgemma_block_step() or
 * dgemma_block_free() of this block.
 *
 * Answers DGEMMA_STATUS_INVALID_ARGUMENT or _BUSY. Threads: one at a time.
 */
DGEMMA_API
dgemma_status dgemma_block_describe(const struct dgemma_block *block,
                                    struct dgemma_step *out);

/**
 * Log-probabilities over the whole vocabulary at chosen positions, as the block's last step computed them: the model's
 * own, at temperature 1 and without bias. Must come before the context does anything else.
 *
 * `block`: not NULL. `rows`: `n_rows` positions of the canvas; NULL is fine when there are none. `log_probs`, `cap`,
 * `len`: see "Buffers" above; n_rows times vocab_size floats, row by row.
 *
 * Answers DGEMMA_STATUS_INVALID_ARGUMENT (a position outside the canvas, no step yet, the context moved on),
 * _BUFFER_TOO_SMALL, _OUT_OF_MEMORY or _BUSY. Threads: one at a time.
 */
DGEMMA_API
dgemma_status dgemma_block_log_probs(struct dgemma_block *block,
                                     const uint32_t *rows,
                                     size_t n_rows,
                                     float *log_probs,
                                     size_t cap,
                                     size_t *len);

/**
 * The logits that dgemma_block_log_probs() makes its numbers from, soft-capped. Everything else is as there.
 */
DGEMMA_API
dgemma_status dgemma_block_logits(struct dgemma_block *block,
                                  const uint32_t *rows,
                                  size_t n_rows,
                                  float *logits,
                                  size_t cap,
                                  size_t *len);

/**
 * Appends the first `n` tokens of the block's draft to the context's sequence. The block is over then.
 *
 * `block`: not NULL, with a step done, and the context's sequence as it was when the block began. `n`: at most its
 * canvas_length.
 *
 * Answers DGEMMA_STATUS_INVALID_ARGUMENT or _BUSY. Threads: one at a time.
 */
DGEMMA_API
dgemma_status dgemma_block_commit(struct dgemma_block *block,
                                  size_t n);

/**
 * Frees a block; NULL is fine. No other call may be using it. Threads: any.
 */
DGEMMA_API void dgemma_block_free(struct dgemma_block *block);

/**
 * Scores tokens by one pass over a canvas behind the context's sequence, which stays as it is: the natural logarithm of
 * each candidate's probability at its position, at temperature 1 and without bias.
 *
 * `context`: not NULL. `canvas`: `canvas_length` ids, 1 to the model's canvas_length. `candidates`: `n_candidates`
 * entries; NULL is fine when there are none. `log_probs`: receives n_candidates numbers in their order; not NULL unless
 * there are none.
 *
 * Answers DGEMMA_STATUS_INVALID_ARGUMENT, _CONTEXT_FULL (the canvas does not fit), _CANCELLED or _BUSY. Threads: one at a
 * time.
 */
DGEMMA_API
dgemma_status dgemma_context_score(struct dgemma_context *context,
                                   const uint32_t *canvas,
                                   size_t canvas_length,
                                   const struct dgemma_candidate *candidates,
                                   size_t n_candidates,
                                   float *log_probs);

/**
 * The same numbers from a block's last step: what the model thought there. Must come before the context does anything
 * else.
 *
 * `block`: not NULL. `candidates`, `n_candidates`, `log_probs`: as for dgemma_context_score().
 *
 * Answers DGEMMA_STATUS_INVALID_ARGUMENT (a position or token out of range, no step yet, the context moved on),
 * _CANCELLED or _BUSY. Threads: one at a time.
 */
DGEMMA_API
dgemma_status dgemma_block_score(struct dgemma_block *block,
                                 const struct dgemma_candidate *candidates,
                                 size_t n_candidates,
                                 float *log_probs);

#ifdef __cplusplus
}  // extern "C"
#endif  // __cplusplus

#endif  /* DGEMMA_H */

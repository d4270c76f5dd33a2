/*
 * Structs with a struct_size that is wrong, older or newer than the library's. Options: refused, defaults for what is
 * missing, refused if what the library does not know is not zero. Reports: refused, cut, zeros behind.
 */
#include "rows.h"

#define NEWER 64 /* bytes that the library does not know */
#define PATTERN 0x5a

/* Aligned room for any struct, and then some. */
static union {
    size_t size;
    void *pointer;
    double number;
    unsigned char bytes[8192];
} room;

static const size_t bad_sizes[] = {0, 1, 8, 4104, 1 << 20, SIZE_MAX - 7, SIZE_MAX};
#define N_BAD (sizeof bad_sizes / sizeof *bad_sizes)

#define REFUSED_SIZES(call, own)                                              \
    do {                                                                      \
        for (size_t i = 0; i < N_BAD; i++) {                                  \
            room.size = bad_sizes[i];                                         \
            REFUSED(call, "argument `struct_size`: is ");                     \
        }                                                                     \
        room.size = (own) + 4; /* no struct with pointers has such a size */  \
        REFUSED(call, "argument `struct_size`: is ");                         \
    } while (0)

/* The struct that `init` fills goes to `call`; `undo` frees what the call makes. */
#define OPTIONS(function, position, type, init, call, undo)                                                  \
    do {                                                                                                     \
        size_t own = sizeof(type), least = 16;                                                               \
        row_sized(#function, position);                                                                      \
        REFUSED_SIZES(call, own);                                                                            \
        OK(init(own + NEWER));                                                                               \
        OK(call);                                                                                            \
        undo;                                                                                                \
        room.bytes[own + 5] = 1;                                                                             \
        REFUSED(call, "argument `params`: has a field at byte ");                                            \
        while (least < own && init(least) != DGEMMA_STATUS_OK) least += 8;                                   \
        OK(init(least)); /* an old program: what lies behind its struct is not read */                       \
        memset(room.bytes + least, 0xff, own);                                                               \
        OK(call);                                                                                            \
        undo;                                                                                                \
    } while (0)

/* An init function by itself. */
#define INIT(function, type, call)                                                            \
    do {                                                                                      \
        size_t own = sizeof(type), size, i;                                                   \
        row_sized(#function, 0);                                                              \
        for (i = 0; i < N_BAD; i++) REFUSED(call(bad_sizes[i]), "argument `struct_size`: is "); \
        REFUSED(call(own + 4), "argument `struct_size`: is ");                                \
        for (size = 16; size <= own + NEWER; size += 8) {                                     \
            memset(room.bytes, PATTERN, sizeof room.bytes);                                   \
            if (call(size) != DGEMMA_STATUS_OK) {                                             \
                CHECK(size < own && room.bytes[0] == PATTERN);                                \
                continue;                                                                     \
            }                                                                                 \
            CHECK(room.size == size && room.bytes[size] == PATTERN);                          \
            for (i = own; i < size; i++) CHECK(room.bytes[i] == 0);                           \
        }                                                                                     \
    } while (0)

#define REPORT(function, position, type, call)                                   \
    do {                                                                         \
        size_t own = sizeof(type), size, i;                                      \
        row_sized(#function, position);                                          \
        REFUSED_SIZES(call, own);                                                \
        for (size = 16; size <= own + NEWER; size += 8) {                        \
            memset(room.bytes, PATTERN, sizeof room.bytes);                      \
            room.size = size;                                                    \
            if ((call) != DGEMMA_STATUS_OK) {                                    \
                CHECK(size < own && room.bytes[sizeof(size_t)] == PATTERN);      \
                continue;                                                        \
            }                                                                    \
            CHECK(room.size == size && room.bytes[size] == PATTERN);             \
            for (i = own; i < size; i++) CHECK(room.bytes[i] == 0);              \
        }                                                                        \
    } while (0)

#define MODEL_INIT(size) dgemma_model_params_init((dgemma_model_params *)room.bytes, size)
#define CONTEXT_INIT(size) dgemma_context_params_init((dgemma_context_params *)room.bytes, size)
#define GENERATE_INIT(size) dgemma_generate_params_init((dgemma_generate_params *)room.bytes, size)
#define BLOCK_INIT(size) dgemma_block_params_init((dgemma_block_params *)room.bytes, size)
#define SAMPLER_INIT(size) dgemma_sampler_params_init((dgemma_sampler_params *)room.bytes, size, on.model)

static void option_rows(void) {
    dgemma_model *model = NULL;
    dgemma_context *context = NULL;
    dgemma_block *block = NULL;
    dgemma_generate_params generate;
    INIT(dgemma_model_params_init, dgemma_model_params, MODEL_INIT);
    INIT(dgemma_context_params_init, dgemma_context_params, CONTEXT_INIT);
    INIT(dgemma_generate_params_init, dgemma_generate_params, GENERATE_INIT);
    INIT(dgemma_block_params_init, dgemma_block_params, BLOCK_INIT);
    INIT(dgemma_sampler_params_init, dgemma_sampler_params, SAMPLER_INIT);
    OPTIONS(dgemma_model_load, 1, dgemma_model_params, MODEL_INIT,
            dgemma_model_load(on.given.model, (dgemma_model_params *)room.bytes, &model), dgemma_model_free(model));
    OPTIONS(dgemma_context_create, 1, dgemma_context_params, CONTEXT_INIT,
            dgemma_context_create(on.model, (dgemma_context_params *)room.bytes, &context), dgemma_context_free(context));
    OPTIONS(dgemma_generate, 2, dgemma_generate_params, GENERATE_INIT,
            dgemma_generate(on.model, on.given.prompt, (dgemma_generate_params *)room.bytes, NULL), (void)0);
    OK(dgemma_context_clone(on.context, &context));
    OPTIONS(dgemma_context_generate, 1, dgemma_generate_params, GENERATE_INIT,
            dgemma_context_generate(context, (dgemma_generate_params *)room.bytes, NULL), (void)0);
    OPTIONS(dgemma_block_begin, 1, dgemma_block_params, BLOCK_INIT,
            dgemma_block_begin(context, (dgemma_block_params *)room.bytes, &block), dgemma_block_free(block));
    /* The sampler's numbers, a struct behind a field. */
    OK(dgemma_generate_params_init(&generate, sizeof generate));
    generate.sampler = (dgemma_sampler_params *)room.bytes;
    OPTIONS(sampler, 0, dgemma_sampler_params, SAMPLER_INIT, dgemma_context_generate(context, &generate, NULL), (void)0);
    dgemma_context_free(context);
}

void size_rows(void) {
    option_rows();
    REPORT(dgemma_device_describe, 1, dgemma_device_info, dgemma_device_describe(0, (dgemma_device_info *)room.bytes));
    REPORT(dgemma_model_describe, 1, dgemma_model_info, dgemma_model_describe(on.model, (dgemma_model_info *)room.bytes));
    REPORT(dgemma_model_memory, 1, dgemma_memory, dgemma_model_memory(on.model, (dgemma_memory *)room.bytes));
    REPORT(dgemma_context_memory, 1, dgemma_memory, dgemma_context_memory(on.context, (dgemma_memory *)room.bytes));
    REPORT(dgemma_context_describe, 1, dgemma_context_info,
           dgemma_context_describe(on.context, (dgemma_context_info *)room.bytes));
    REPORT(dgemma_context_perf, 1, dgemma_perf, dgemma_context_perf(on.context, (dgemma_perf *)room.bytes));
    REPORT(dgemma_block_describe, 1, dgemma_step, dgemma_block_describe(on.block, (dgemma_step *)room.bytes));
}

/*
 * Structs that grow, in both directions, through the real library.
 *
 *     the program is     options                                    reports
 *     older (smaller)    no byte behind its size is touched or      no byte behind its size is touched
 *                        read: the defaults hold there
 *     newer (larger)     what the library does not know must be     what the library does not know comes back as zero
 *                        zero, else the call is refused
 *
 * Arguments: a model file, a prompt that it answers, the answer. Prints a line for each check that fails.
 */
#include <dgemma.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define LARGE 4096 /* bytes that stand for a struct of any size */
#define MORE 24    /* bytes that a newer program's struct has behind ours */
#define MARK 0xA5

static unsigned checks = 0, failures = 0;
static const char *now = "";

#define CHECK(condition)                                                                                    \
    do {                                                                                                    \
        checks++;                                                                                           \
        if (!(condition)) {                                                                                 \
            fprintf(stderr, "%s:%d: %s: %s (%s)\n", __FILE__, __LINE__, now, #condition, dgemma_last_error()); \
            failures++;                                                                                     \
        }                                                                                                   \
    } while (0)

/* What the calls below work on. */
static const char *path, *prompt, *answer;
static dgemma_model *model = NULL;
static dgemma_context *context = NULL;
static dgemma_block *block = NULL;

/* A struct of `size` bytes at the beginning of marked memory. */
static union {
    size_t struct_size;
    unsigned char bytes[LARGE];
} room;

static void begin(size_t size) {
    memset(&room, MARK, sizeof room);
    room.struct_size = size;
}

static int all(unsigned char value, size_t from, size_t to) {
    for (size_t i = from; i < to; i++)
        if (room.bytes[i] != value) return 0;
    return 1;
}

/* Options: how they are filled, and a call that takes them. The call frees what it makes. */
struct options {
    const char *name;
    size_t first; /* the struct's size in its first release */
    size_t size;  /* in this header */
    dgemma_status (*init)(void *params, size_t size);
    dgemma_status (*call)(const void *params);
};

static dgemma_status model_init(void *p, size_t size) { return dgemma_model_params_init(p, size); }
static dgemma_status context_init(void *p, size_t size) { return dgemma_context_params_init(p, size); }
static dgemma_status generate_init(void *p, size_t size) { return dgemma_generate_params_init(p, size); }
static dgemma_status block_init(void *p, size_t size) { return dgemma_block_params_init(p, size); }
static dgemma_status sampler_init(void *p, size_t size) { return dgemma_sampler_params_init(p, size, model); }

static dgemma_status model_call(const void *params) {
    dgemma_model *out = NULL;
    dgemma_status status = dgemma_model_load(path, params, &out);
    dgemma_model_free(out);
    return status;
}

static dgemma_status context_call(const void *params) {
    dgemma_context *out = NULL;
    dgemma_status status = dgemma_context_create(model, params, &out);
    dgemma_context_free(out);
    return status;
}

static dgemma_status generate_call(const void *params) { return dgemma_generate(model, prompt, params, NULL); }

static dgemma_status block_call(const void *params) {
    dgemma_block *out = NULL;
    dgemma_status status = dgemma_block_begin(context, params, &out);
    dgemma_block_free(out);
    return status;
}

static dgemma_status sampler_call(const void *sampler) {
    dgemma_generate_params params;
    dgemma_generate_params_init(&params, sizeof params);
    params.sampler = sampler;
    return dgemma_generate(model, prompt, &params, NULL);
}

static void check_options(const struct options *o) {
    size_t newer = o->size + MORE;
    now = o->name;
    CHECK(o->init(&room, o->first - 8) == DGEMMA_STATUS_INVALID_ARGUMENT);
    for (size_t size = o->first; size <= o->size; size += 8) { /* every older program */
        begin(size);
        CHECK(o->init(&room, size) == DGEMMA_STATUS_OK && room.struct_size == size);
        CHECK(all(MARK, size, LARGE));
        CHECK(o->call(&room) == DGEMMA_STATUS_OK); /* the marks are no options */
    }
    begin(newer);
    CHECK(o->init(&room, newer) == DGEMMA_STATUS_OK && room.struct_size == newer);
    CHECK(all(0, o->size, newer) && all(MARK, newer, LARGE));
    CHECK(o->call(&room) == DGEMMA_STATUS_OK);
    for (size_t at = o->size; at < newer; at++) {
        room.bytes[at] = 1;
        CHECK(o->call(&room) == DGEMMA_STATUS_INVALID_ARGUMENT);
        CHECK(strstr(dgemma_last_error(), "that this library does not know; expected zero there") != NULL);
        room.bytes[at] = 0;
    }
    CHECK(o->call(&room) == DGEMMA_STATUS_OK);
}

/* Reports: a call that fills one. */
struct report {
    const char *name;
    size_t first, size;
    dgemma_status (*call)(void *out);
};

static dgemma_status device(void *out) {
    const size_t end = offsetof(dgemma_device_info, free_bytes) + sizeof(uint64_t);
    dgemma_device_info *info = out;
    dgemma_status status = dgemma_device_describe(0, out);
    /* What is free is another number each time. */
    if (status == DGEMMA_STATUS_OK && info->struct_size >= end) info->free_bytes = 0;
    return status;
}
static dgemma_status model_info(void *out) { return dgemma_model_describe(model, out); }
static dgemma_status model_memory(void *out) { return dgemma_model_memory(model, out); }
static dgemma_status context_info(void *out) { return dgemma_context_describe(context, out); }
static dgemma_status context_memory(void *out) { return dgemma_context_memory(context, out); }
static dgemma_status perf(void *out) { return dgemma_context_perf(context, out); }
static dgemma_status step(void *out) { return dgemma_block_describe(block, out); }

static void check_report(const struct report *r) {
    unsigned char whole[LARGE];
    size_t newer = r->size + MORE;
    now = r->name;
    begin(r->first - 8);
    CHECK(r->call(&room) == DGEMMA_STATUS_INVALID_ARGUMENT && all(MARK, sizeof(size_t), LARGE));
    begin(newer);
    CHECK(r->call(&room) == DGEMMA_STATUS_OK && room.struct_size == newer);
    CHECK(all(0, r->size, newer) && all(MARK, newer, LARGE));
    memcpy(whole, &room, LARGE);
    for (size_t size = r->first; size <= r->size; size += 8) { /* every older program gets the beginning of it */
        begin(size);
        CHECK(r->call(&room) == DGEMMA_STATUS_OK && room.struct_size == size);
        CHECK(memcmp(room.bytes + 8, whole + 8, size - 8) == 0);
        CHECK(all(MARK, size, LARGE));
    }
}

/* Sizes of first releases are those that src/capi accepts as the least. */
static const struct options OPTIONS[] = {
    {"dgemma_model_params", 16, sizeof(dgemma_model_params), model_init, model_call},
    {"dgemma_context_params", 48, sizeof(dgemma_context_params), context_init, context_call},
    {"dgemma_generate_params", 64, sizeof(dgemma_generate_params), generate_init, generate_call},
    {"dgemma_block_params", 48, sizeof(dgemma_block_params), block_init, block_call},
    {"dgemma_sampler_params", 72, sizeof(dgemma_sampler_params), sampler_init, sampler_call},
};
static const struct report REPORTS[] = {
    {"dgemma_device_info", 160, sizeof(dgemma_device_info), device},
    {"dgemma_model_info", 72, sizeof(dgemma_model_info), model_info},
    {"dgemma_memory of a model", 32, sizeof(dgemma_memory), model_memory},
    {"dgemma_context_info", 32, sizeof(dgemma_context_info), context_info},
    {"dgemma_memory", 32, sizeof(dgemma_memory), context_memory},
    {"dgemma_perf", 64, sizeof(dgemma_perf), perf},
    {"dgemma_step", 56, sizeof(dgemma_step), step},
};

int main(int argc, char **argv) {
    if (argc < 4) return 2;
    path = argv[1], prompt = argv[2], answer = argv[3];
    if (dgemma_model_load(path, NULL, &model) != DGEMMA_STATUS_OK ||
        dgemma_context_create(model, NULL, &context) != DGEMMA_STATUS_OK ||
        dgemma_block_begin(context, NULL, &block) != DGEMMA_STATUS_OK ||
        dgemma_block_step(block, NULL) != DGEMMA_STATUS_OK) {
        fprintf(stderr, "%s\n", dgemma_last_error());
        return 1;
    }
    for (size_t i = 0; i < sizeof REPORTS / sizeof REPORTS[0]; i++) check_report(&REPORTS[i]);
    for (size_t i = 0; i < sizeof OPTIONS / sizeof OPTIONS[0]; i++) check_options(&OPTIONS[i]);
    for (size_t i = 0; i < sizeof OPTIONS / sizeof OPTIONS[0]; i++) printf("%s\n", OPTIONS[i].name);
    for (size_t i = 0; i < sizeof REPORTS / sizeof REPORTS[0]; i++) printf("%s\n", REPORTS[i].name);
    printf("%u checks, %u failed\n", checks, failures);
    dgemma_block_free(block);
    dgemma_context_free(context);
    dgemma_model_free(model);
    return failures != 0;
}

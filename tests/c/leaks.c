/*
 * Load, generate, free, a thousand times: resident memory stays flat.
 *
 * The bound: after a tenth of the cycles, which is when the allocator's arenas and the stacks of the pools' threads have
 * their size, memory may grow by 2 MiB in all. The allocator's rounding stays well below that (measured: see the output);
 * a leak of 2.4 KiB a cycle, half a thousandth of the model, does not. Small leaks are valgrind's, which finds
 * each (tests/c_programs.rs).
 */
#include "check.h"

#define CYCLES 1000
#define BOUND (2048L * 1024)

/* Resident bytes by the kernel's word. */
static long resident(void) {
    FILE *file = fopen("/proc/self/statm", "r");
    long size = 0, pages = 0;
    if (file == NULL || fscanf(file, "%ld %ld", &size, &pages) != 2) exit(3);
    fclose(file);
    return pages * 4096;
}

/* Everything that can be made, used and freed once; and failures, whose texts are memory, too. */
static void cycle(const struct given *given, int i) {
    dgemma_model_params params;
    dgemma_model *model = NULL, *none = NULL;
    dgemma_context *context, *copy = NULL;
    dgemma_block *block = NULL;
    dgemma_detokenizer *detokenizer = NULL;
    dgemma_canceller *canceller = NULL;
    struct text text;
    OK(dgemma_model_params_init(&params, sizeof params));
    params.threads = 2;
    params.memory = i % 2 == 0 ? 0 : DGEMMA_MEMORY_READ;
    OK(dgemma_model_load(given->model, &params, &model));
    context = context_with(model, given->prompt);
    OK(dgemma_context_prefill(context, NULL, NULL));
    OK(dgemma_context_clone(context, &copy));
    text = answer_of(context, 7);
    CHECK(strcmp(text.bytes, given->answer) == 0);
    OK(dgemma_block_begin(copy, NULL, &block));
    OK(dgemma_block_step(block, NULL));
    OK(dgemma_detokenizer_create(model, 0, &detokenizer));
    OK(dgemma_canceller_create(copy, &canceller));
    ANSWERS(dgemma_model_load("no/such/file", NULL, &none), DGEMMA_STATUS_IO, "no/such/file");
    REFUSED(dgemma_context_truncate(copy, SIZE_MAX), "argument `length`");
    dgemma_model_free(model);
    dgemma_canceller_free(canceller);
    dgemma_detokenizer_free(detokenizer);
    dgemma_block_free(block);
    dgemma_context_free(copy);
    dgemma_context_free(context);
}

int main(int argc, char **argv) {
    struct given given = given_of(argc, argv);
    long warm = 0, most = 0, now = 0;
    for (int i = 0; i < CYCLES; i++) {
        cycle(&given, i);
        now = resident();
        if (i < CYCLES / 10) warm = now > warm ? now : warm;
        if (now > most) most = now;
    }
    CHECK(most - warm <= BOUND);
    printf("%d cycles, %ld KiB after a tenth of them, %+ld at most, %+ld in the end; ", CYCLES, warm / 1024,
           (most - warm) / 1024, (now - warm) / 1024);
    return finish();
}

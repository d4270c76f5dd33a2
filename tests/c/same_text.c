/*
 * Prints the texts of tests/golden/same_text.json: MODEL, then a prompt, a seed and a limit for each. A text is followed
 * by a NUL.
 */
#include <dgemma.h>
#include <stdio.h>
#include <stdlib.h>

static int print(const char *text, size_t len, void *user_data) {
    (void)user_data;
    fwrite(text, 1, len, stdout);
    return 0;
}

int main(int argc, char **argv) {
    dgemma_model *model = NULL;
    dgemma_generate_params params;
    int failed = dgemma_model_load(argv[1], NULL, &model) != DGEMMA_STATUS_OK;
    for (int i = 2; i + 2 < argc && !failed; i += 3) {
        dgemma_generate_params_init(&params, sizeof params);
        params.seed = strtoull(argv[i + 1], NULL, 10);
        params.max_tokens = strtoull(argv[i + 2], NULL, 10);
        params.on_text = print;
        failed = dgemma_generate(model, argv[i], &params, NULL) != DGEMMA_STATUS_OK;
        putchar('\0');
    }
    if (failed) fprintf(stderr, "%s\n", dgemma_last_error());
    dgemma_model_free(model);
    return failed;
}

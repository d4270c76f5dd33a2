#include <dgemma.h>
#include <stdio.h>

static int print(const char *text, size_t len, void *user_data) {
    (void)user_data;
    fwrite(text, 1, len, stdout);
    return 0; /* continue */
}

int main(int argc, char **argv) {
    if (argc != 3) {
        fprintf(stderr, "usage: %s MODEL PROMPT\n", argv[0]);
        return 2;
    }
    dgemma_model *model = NULL;
    dgemma_generate_params params;
    int ok = dgemma_generate_params_init(&params, sizeof params) == DGEMMA_STATUS_OK;
    params.on_text = print;
    ok = ok && dgemma_model_load(argv[1], NULL, &model) == DGEMMA_STATUS_OK
            && dgemma_generate(model, argv[2], &params, NULL) == DGEMMA_STATUS_OK;
    if (ok) puts("");
    else fprintf(stderr, "%s\n", dgemma_last_error());
    dgemma_model_free(model);
    return !ok;
}

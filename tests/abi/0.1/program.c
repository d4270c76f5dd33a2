/*
 * Every function of the C API, once as it should be used and once as it should not. Arguments: a model file and a prompt
 * that it answers. Prints the answer; exit status 1 with a line on stderr for each check that fails.
 */
#include <dgemma.h>
#include <stdio.h>
#include <string.h>

static int failures = 0;

#define CHECK(condition)                                                                  \
    do {                                                                                  \
        if (!(condition)) {                                                               \
            fprintf(stderr, "%s:%d: %s (%s)\n", __FILE__, __LINE__, #condition, dgemma_last_error()); \
            failures++;                                                                   \
        }                                                                                 \
    } while (0)

struct heard {
    char text[4096];
    size_t len;
    unsigned steps;
    unsigned accepted;
    int stop_at_step; /* 0: never */
    int bad_step;
};

static int on_text(const char *text, size_t len, void *user_data) {
    struct heard *heard = user_data;
    if (text[len] != '\0' || heard->len + len >= sizeof heard->text) return 1;
    memcpy(heard->text + heard->len, text, len);
    heard->len += len;
    return 0;
}

static int on_step(const dgemma_step *step, void *user_data) {
    struct heard *heard = user_data;
    heard->steps++;
    for (size_t i = 0; i < step->canvas_length; i++) {
        heard->accepted += step->accepted[i];
        if (!(step->entropy[i] >= 0.0f && step->entropy[i] < 20.0f)) heard->bad_step = 1;
    }
    if (step->struct_size < sizeof *step || step->step >= step->max_steps) heard->bad_step = 1;
    return heard->stop_at_step != 0 && (int)heard->steps >= heard->stop_at_step;
}

static void misuse(const char *path) {
    dgemma_model *model = NULL;
    dgemma_model_params params;
    CHECK(dgemma_model_load(NULL, NULL, &model) == DGEMMA_STATUS_INVALID_ARGUMENT);
    CHECK(strcmp(dgemma_last_error(), "argument `path`: is NULL") == 0);
    CHECK(dgemma_model_load(path, NULL, NULL) == DGEMMA_STATUS_INVALID_ARGUMENT);
    CHECK(dgemma_model_load("no/such/file.gguf", NULL, &model) == DGEMMA_STATUS_IO);
    CHECK(strstr(dgemma_last_error(), "no/such/file.gguf") != NULL);
    CHECK(dgemma_model_load("\xff", NULL, &model) == DGEMMA_STATUS_INVALID_ARGUMENT);
    CHECK(dgemma_model_load(__FILE__, NULL, &model) == DGEMMA_STATUS_BAD_FILE);
    CHECK(dgemma_model_params_init(NULL, sizeof params) == DGEMMA_STATUS_INVALID_ARGUMENT);
    CHECK(dgemma_model_params_init(&params, 3) == DGEMMA_STATUS_INVALID_ARGUMENT);
    CHECK(dgemma_model_params_init(&params, sizeof params) == DGEMMA_STATUS_OK);
    params.backend = 77;
    CHECK(dgemma_model_load(path, &params, &model) == DGEMMA_STATUS_INVALID_ARGUMENT);
    CHECK(strstr(dgemma_last_error(), "argument `backend`: is 77") != NULL);
    CHECK(model == NULL);
    CHECK(dgemma_generate(NULL, "x", NULL, NULL) == DGEMMA_STATUS_INVALID_ARGUMENT);
    dgemma_model_free(NULL);
}

static void stopped(dgemma_model *model, const char *prompt) {
    dgemma_generate_params params;
    dgemma_generation result;
    struct heard heard;
    memset(&heard, 0, sizeof heard);
    heard.stop_at_step = 1;
    CHECK(dgemma_generate_params_init(&params, sizeof params) == DGEMMA_STATUS_OK);
    params.on_step = on_step;
    params.user_data = &heard;
    CHECK(dgemma_generate(model, prompt, &params, &result) == DGEMMA_STATUS_OK);
    CHECK(result.stop_reason == DGEMMA_STOP_REASON_CANCELLED && heard.steps == 1 && result.tokens == 0);
    params.context_size = 1;
    CHECK(dgemma_generate(model, prompt, &params, &result) == DGEMMA_STATUS_INVALID_ARGUMENT);
    params.context_size = 0;
    params.prompt_kind = 9;
    CHECK(dgemma_generate(model, prompt, &params, &result) == DGEMMA_STATUS_INVALID_ARGUMENT);
    CHECK(dgemma_generate(model, NULL, NULL, &result) == DGEMMA_STATUS_INVALID_ARGUMENT);
}

int main(int argc, char **argv) {
    dgemma_model_params load;
    dgemma_model *model = NULL;
    dgemma_generate_params params;
    dgemma_generation result;
    struct heard heard, again;
    if (argc != 3) return 2;
    memset(&heard, 0, sizeof heard);
    memset(&again, 0, sizeof again);
    CHECK(strcmp(dgemma_last_error(), "") == 0);
    CHECK(strlen(dgemma_version()) >= 5);
    misuse(argv[1]);

    CHECK(dgemma_model_params_init(&load, sizeof load) == DGEMMA_STATUS_OK);
    load.threads = 2;
    if (dgemma_model_load(argv[1], &load, &model) != DGEMMA_STATUS_OK) {
        fprintf(stderr, "%s\n", dgemma_last_error());
        return 1;
    }
    CHECK(dgemma_generate_params_init(&params, sizeof params) == DGEMMA_STATUS_OK);
    params.seed = 7;
    params.on_text = on_text;
    params.on_step = on_step;
    params.user_data = &heard;
    CHECK(dgemma_generate(model, argv[2], &params, &result) == DGEMMA_STATUS_OK);
    CHECK(result.steps == heard.steps && result.steps >= 1 && heard.accepted >= heard.steps && !heard.bad_step);
    CHECK(result.blocks == 1 && result.prompt_tokens > 0 && result.tokens > 0);
    CHECK(result.stop_reason == DGEMMA_STOP_REASON_END_OF_GENERATION);
    CHECK(result.total_seconds >= result.denoise_seconds && result.first_canvas_seconds > 0);

    params.user_data = &again; /* the same seed, the same text */
    CHECK(dgemma_generate(model, argv[2], &params, NULL) == DGEMMA_STATUS_OK);
    CHECK(heard.len == again.len && memcmp(heard.text, again.text, heard.len) == 0);

    stopped(model, argv[2]);
    dgemma_model_free(model);
    printf("%.*s", (int)heard.len, heard.text);
    return failures != 0;
}

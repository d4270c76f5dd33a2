/* The library and its models as they should be used: what they say about themselves, loading with progress, the log sink. */
#include "check.h"

static void versions(void) {
    const char *info = dgemma_build_info();
    char abi[32];
    snprintf(abi, sizeof abi, " abi=%u ", (unsigned)DGEMMA_ABI_VERSION);
    CHECK(strlen(dgemma_version()) >= 5 && dgemma_abi_version() == DGEMMA_ABI_VERSION);
    CHECK(strstr(info, dgemma_version()) != NULL && strstr(info, abi) != NULL && strstr(info, " cpu=") != NULL);
    CHECK(strcmp(dgemma_last_error(), "") == 0);
    for (int status = DGEMMA_STATUS_OK; status <= DGEMMA_STATUS_BUSY; status++)
        CHECK(strcmp(dgemma_status_text(status), "unknown status") != 0);
    CHECK(strcmp(dgemma_status_text(DGEMMA_STATUS_CONTEXT_FULL), "context full") == 0);
}

static void devices(void) {
    dgemma_device_info device = {.struct_size = sizeof device};
    CHECK(dgemma_device_count() >= 1);
    OK(dgemma_device_describe(0, &device));
    CHECK(device.backend == DGEMMA_BACKEND_CPU && device.cores >= 1 && device.name[0] != '\0');
    CHECK(device.memory_bytes > 0 && device.free_bytes <= device.memory_bytes);
    CHECK(memchr(device.name, '\0', sizeof device.name) != NULL);
}

struct progress {
    float last;
    unsigned calls;
};

static int hear_progress(float fraction, void *user_data) {
    struct progress *progress = user_data;
    CHECK(fraction >= progress->last && fraction <= 1.0f);
    progress->last = fraction;
    progress->calls++;
    return 0;
}

/* Every way of loading gives the same answer. */
static void loading(const struct given *given) {
    const struct {
        uint32_t backend, exact;
        uint64_t memory;
    } ways[] = {{DGEMMA_BACKEND_CPU, 0, 0},
                {DGEMMA_BACKEND_CPU, 1, DGEMMA_MEMORY_READ},
                {DGEMMA_BACKEND_REFERENCE, 0, 0}};
    for (size_t i = 0; i < sizeof ways / sizeof *ways; i++) {
        struct progress progress = {0, 0};
        dgemma_model_params params;
        dgemma_model *model = NULL;
        dgemma_model_info info = {.struct_size = sizeof info};
        dgemma_context *context;
        struct text text;
        OK(dgemma_model_params_init(&params, sizeof params));
        params.backend = ways[i].backend;
        params.exact = ways[i].exact;
        params.memory = ways[i].memory;
        params.threads = 1;
        params.on_progress = hear_progress;
        params.user_data = &progress;
        OK(dgemma_model_load(given->model, &params, &model));
        OK(dgemma_model_describe(model, &info));
        CHECK(progress.last == 1.0f && progress.calls == info.layers && info.backend == ways[i].backend);
        context = context_with(model, given->prompt);
        text = answer_of(context, 7);
        CHECK(strcmp(text.bytes, given->answer) == 0);
        dgemma_context_free(context);
        dgemma_model_free(model);
    }
}

/* The numbers of examples/tiny. */
static void sizes(const dgemma_model *model) {
    dgemma_model_info info = {.struct_size = sizeof info};
    OK(dgemma_model_describe(model, &info));
    CHECK(info.vocab_size == 512 && info.canvas_length == 32 && info.context_length == 4096 && info.layers == 6);
    CHECK(info.hidden_size == 64 && info.experts == 8 && info.experts_used == 2 && info.backend == DGEMMA_BACKEND_CPU);
    CHECK(info.parameters == 1047196 && info.file_bytes == 4213440 && info.tensor_bytes == 4 * info.parameters);
    CHECK(info.files == 1 && info.tensors == 144);
}

static void metadata(const dgemma_model *model) {
    size_t n = dgemma_model_metadata_count(model), len = 0;
    char text[64];
    int seen = 0;
    CHECK(n > 40);
    for (size_t i = 0; i < n; i++) {
        OK(dgemma_model_metadata_key(model, i, text, sizeof text, &len));
        CHECK(strlen(text) == len && len > 0);
        seen += strcmp(text, "diffusion.canvas_length") == 0;
    }
    CHECK(seen == 1);
    OK(dgemma_model_metadata_value(model, "general.architecture", text, sizeof text, &len));
    CHECK(strcmp(text, "diffusion-gemma") == 0 && len == 15);
    OK(dgemma_model_metadata_value(model, "diffusion.canvas_length", text, sizeof text, &len));
    CHECK(strcmp(text, "32") == 0);
    OK(dgemma_model_metadata_value(model, "diffusion-gemma.attention.head_count_kv", text, sizeof text, &len));
    CHECK(strcmp(text, "[2,2,2,2,2,1]") == 0);
    OK(dgemma_model_metadata_value(model, "diffusion-gemma.attention.causal", text, sizeof text, &len));
    CHECK(strcmp(text, "false") == 0);
    CHECK(dgemma_model_metadata_value(model, "tokenizer.chat_template", NULL, 0, &len) == DGEMMA_STATUS_BUFFER_TOO_SMALL);
    CHECK(len == 201);
}

struct log {
    unsigned lines;
    uint32_t level;
    char last[256];
};

static void hear_log(uint32_t level, const char *text, void *user_data) {
    struct log *log = user_data;
    log->lines++;
    log->level = level;
    snprintf(log->last, sizeof log->last, "%s", text);
}

/* A text that already has the first token: worth a warning. */
static void logs(const dgemma_model *model) {
    const uint32_t flags = DGEMMA_TOKENIZE_ADD_BOS | DGEMMA_TOKENIZE_PARSE_SPECIAL;
    struct log log = {0, 0, ""};
    uint32_t ids[8];
    size_t len = 0;
    OK(dgemma_log_set(hear_log, &log));
    OK(dgemma_model_tokenize(model, "<bos>a", 6, flags, ids, 8, &len));
    CHECK(len == 3 && ids[0] == 2 && ids[1] == 2);
    CHECK(log.lines == 1 && log.level == DGEMMA_LOG_WARN && strstr(log.last, "twice") != NULL);
    OK(dgemma_log_set(NULL, NULL));
    OK(dgemma_model_tokenize(model, "<bos>a", 6, flags, ids, 8, &len));
    CHECK(log.lines == 1);
}

int main(int argc, char **argv) {
    struct given given = given_of(argc, argv);
    dgemma_model *model;
    versions();
    devices();
    loading(&given);
    model = load_model(given.model);
    sizes(model);
    metadata(model);
    logs(model);
    dgemma_model_free(model);
    return finish();
}

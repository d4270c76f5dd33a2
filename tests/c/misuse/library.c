/* Misuse of what is about the library itself, and of loading. */
#include "rows.h"

static int stop_loading(float fraction, void *user_data) {
    *(int *)user_data += fraction >= 0.0f && fraction <= 1.0f;
    return 1;
}

void library_rows(void) {
    dgemma_device_info device = {.struct_size = sizeof device};
    VALUE(dgemma_version, (), != NULL);
    VALUE(dgemma_abi_version, (), == DGEMMA_ABI_VERSION);
    VALUE(dgemma_build_info, (), != NULL);
    VALUE(dgemma_last_error, (), != NULL);
    VALUE(dgemma_device_count, (), >= 1);
    CHECK(strcmp(dgemma_status_text(-1), "unknown status") == 0);
    VALUE(dgemma_status_text, (1000000), != NULL);
    NO(dgemma_device_describe, (0, NULL), "argument `out`: is NULL");
    NO(dgemma_device_describe, (dgemma_device_count(), &device), "argument `index`: is 1, expected less than 1");
    NO(dgemma_device_describe, (SIZE_MAX, &device), "argument `index`");
    FINE(dgemma_device_describe, (0, &device));
    FINE(dgemma_log_set, (NULL, NULL));
}

static void load_rows(void) {
    const char *path = on.given.model;
    dgemma_model_params p;
    int calls = 0;
    NO(dgemma_model_params_init, (NULL, sizeof p), "argument `params`: is NULL");
    NO(dgemma_model_load, (NULL, NULL, &out.model), "argument `path`: is NULL");
    NO(dgemma_model_load, (path, NULL, NULL), "argument `out`: is NULL");
    NO(dgemma_model_load, (not_utf8, NULL, &out.model), "argument `path`: is not UTF-8");
    ROW(dgemma_model_load, ("", NULL, &out.model), DGEMMA_STATUS_IO, ": ");
    ROW(dgemma_model_load, ("no/such/file.gguf", NULL, &out.model), DGEMMA_STATUS_IO, "no/such/file.gguf: ");
    ROW(dgemma_model_load, (on.given.folder, NULL, &out.model), DGEMMA_STATUS_BAD_FILE, "is not a regular file");
    ROW(dgemma_model_load, (__FILE__, NULL, &out.model), DGEMMA_STATUS_BAD_FILE, "is not a GGUF file");
    OK(dgemma_model_params_init(&p, sizeof p));
    p.backend = 77;
    NO(dgemma_model_load, (path, &p, &out.model), "argument `backend`: is 77");
    p.backend = DGEMMA_BACKEND_CPU;
    p.threads = 1025;
    NO(dgemma_model_load, (path, &p, &out.model), "argument `threads`: is 1025, expected 0 to 1024");
    p.threads = 1;
    p.memory = 4;
    NO(dgemma_model_load, (path, &p, &out.model), "argument `memory`: is 0x4");
    p.memory = 0;
    p.exact = 2;
    NO(dgemma_model_load, (path, &p, &out.model), "argument `exact`: is 2, expected 0 or 1");
    p.exact = 0;
    p.cpu_level = 99;
    NO(dgemma_model_load, (path, &p, &out.model), "argument `cpu_level`: is 99");
    p.cpu_level = 0;
    p.n_gpu_layers = DGEMMA_GPU_LAYERS_NONE;
    NO(dgemma_model_load, (path, &p, &out.model), "argument `n_gpu_layers`: is set, but only the CUDA backend");
    p.n_gpu_layers = 0;
    p.n_cpu_experts = 1;
    NO(dgemma_model_load, (path, &p, &out.model), "argument `n_cpu_experts`: is set, but only the CUDA backend");
    p.n_cpu_experts = 0;
    p.planned_kv_type = 4;
    NO(dgemma_model_load, (path, &p, &out.model), "argument `planned_kv_type`: is 4, expected a DGEMMA_KV_* value");
    p.planned_kv_type = 0;
    p.on_progress = stop_loading;
    p.user_data = &calls;
    ROW(dgemma_model_load, (path, &p, &out.model), DGEMMA_STATUS_CANCELLED, "cancelled");
    CHECK(calls == 1);
}

/* error_text receives what dgemma_last_error() says, cut to its room, never more. */
static void error_text_rows(void) {
    dgemma_model_params p;
    char text[16];
    OK(dgemma_model_params_init(&p, sizeof p));
    memset(text, '#', sizeof text);
    p.error_text = text;
    p.error_text_cap = 0;
    NO(dgemma_model_load, (NULL, &p, &out.model), "argument `path`");
    CHECK(text[0] == '#');
    p.error_text_cap = 1;
    NO(dgemma_model_load, (NULL, &p, &out.model), "argument `path`");
    CHECK(text[0] == '\0' && text[1] == '#');
    p.error_text_cap = 12;
    NO(dgemma_model_load, (NULL, &p, &out.model), "argument `path`");
    CHECK(memcmp(text, "argument `p\0####", sizeof text) == 0);
    p.error_text = NULL;
    NO(dgemma_model_load, (NULL, &p, &out.model), "argument `path`");
}

void model_rows(void) {
    const dgemma_model *m = on.model;
    dgemma_model_info info = {.struct_size = sizeof info};
    dgemma_memory memory = {.struct_size = sizeof memory};
    size_t keys = dgemma_model_metadata_count(m);
    load_rows();
    error_text_rows();
    NOTHING(dgemma_model_free, (NULL));
    NO(dgemma_model_describe, (NULL, &info), "argument `model`: is NULL");
    NO(dgemma_model_describe, (m, NULL), "argument `out`: is NULL");
    NO(dgemma_model_memory, (NULL, &memory), "argument `model`: is NULL");
    NO(dgemma_model_memory, (m, NULL), "argument `out`: is NULL");
    NO(dgemma_model_fingerprint, (NULL, &out.large), "argument `model`: is NULL");
    NO(dgemma_model_fingerprint, (m, NULL), "argument `out`: is NULL");
    VALUE(dgemma_model_metadata_count, (NULL), == 0);
    NO(dgemma_model_metadata_key, (NULL, 0, out.text, sizeof out.text, &out.len), "argument `model`: is NULL");
    NO(dgemma_model_metadata_key, (m, keys, out.text, sizeof out.text, &out.len), "argument `index`: is ");
    NO(dgemma_model_metadata_key, (m, SIZE_MAX, out.text, sizeof out.text, &out.len), "argument `index`");
    NO(dgemma_model_metadata_key, (m, 0, NULL, 1, &out.len), "argument `buffer`: is NULL, but its cap is 1");
    SMALL(dgemma_model_metadata_key, (m, 0, NULL, 0, &out.len));
    SMALL(dgemma_model_metadata_key, (m, 0, out.text, 1, NULL));
    FINE(dgemma_model_metadata_key, (m, 0, out.text, sizeof out.text, NULL));
    NO(dgemma_model_metadata_value, (NULL, "x", out.text, sizeof out.text, &out.len), "argument `model`: is NULL");
    NO(dgemma_model_metadata_value, (m, NULL, out.text, sizeof out.text, &out.len), "argument `key`: is NULL");
    NO(dgemma_model_metadata_value, (m, not_utf8, out.text, sizeof out.text, &out.len), "argument `key`: is not UTF-8");
    ROW(dgemma_model_metadata_value, (m, "", out.text, sizeof out.text, &out.len), DGEMMA_STATUS_NOT_FOUND, "key ``");
    ROW(dgemma_model_metadata_value, (m, "a.b", out.text, sizeof out.text, &out.len), DGEMMA_STATUS_NOT_FOUND, "`a.b`");
    NO(dgemma_model_metadata_value, (m, "general.architecture", NULL, 9, &out.len), "argument `buffer`: is NULL");
    SMALL(dgemma_model_metadata_value, (m, "tokenizer.ggml.tokens", out.text, sizeof out.text, &out.len));
    FINE(dgemma_model_metadata_value, (m, "general.architecture", out.text, sizeof out.text, NULL));
}

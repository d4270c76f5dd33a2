/*
 * Contexts copied, saved and loaded; memory; noise recorded and replayed; exact products.
 */
#include "check.h"

#define PATH 4096

static void copies(const dgemma_model *model, const struct given *given) {
    dgemma_context *context = context_with(model, given->prompt), *copy = NULL;
    dgemma_context_info info = {.struct_size = sizeof info}, same = {.struct_size = sizeof same};
    struct text text;
    OK(dgemma_context_prefill(context, NULL, NULL));
    OK(dgemma_context_clone(context, &copy));
    OK(dgemma_context_describe(context, &info));
    OK(dgemma_context_describe(copy, &same));
    CHECK(memcmp(&info, &same, sizeof info) == 0 && info.encoded == info.length && info.length > 0);
    CHECK(info.kv_type == DGEMMA_KV_F16 && info.chunk == 256);
    OK(dgemma_context_reset(context));
    dgemma_context_free(context);
    text = answer_of(copy, 7);
    CHECK(strcmp(text.bytes, given->answer) == 0);
    dgemma_context_free(copy);
}

static void memory(const dgemma_model *model) {
    dgemma_memory of_model = {.struct_size = sizeof of_model}, of_context = {.struct_size = sizeof of_context};
    dgemma_model_info info = {.struct_size = sizeof info};
    dgemma_context_params params;
    dgemma_context *context = NULL;
    uint64_t f32_bytes;
    OK(dgemma_model_describe(model, &info));
    OK(dgemma_model_memory(model, &of_model));
    CHECK(of_model.weight_bytes == info.file_bytes && of_model.kv_bytes == 0 && of_model.activation_bytes == 0);
    OK(dgemma_context_params_init(&params, sizeof params));
    params.kv_type = DGEMMA_KV_F32;
    OK(dgemma_context_create(model, &params, &context));
    OK(dgemma_context_memory(context, &of_context));
    CHECK(of_context.weight_bytes == info.file_bytes && of_context.kv_bytes > 0 && of_context.activation_bytes > 0);
    f32_bytes = of_context.kv_bytes;
    dgemma_context_free(context);
    params.kv_type = DGEMMA_KV_BF16;
    OK(dgemma_context_create(model, &params, &context));
    OK(dgemma_context_memory(context, &of_context));
    CHECK(2 * of_context.kv_bytes == f32_bytes);
    dgemma_context_free(context);
}

static void saves(const dgemma_model *model, const struct given *given) {
    dgemma_context *context = context_with(model, given->prompt), *other = NULL;
    char path[PATH];
    uint8_t *bytes;
    size_t len = 0, again = 0;
    struct text text;
    struct tokens prompt = chat_tokens(model, given->prompt), loaded;
    OK(dgemma_context_prefill(context, NULL, NULL));
    CHECK(dgemma_context_save(context, NULL, 0, &len) == DGEMMA_STATUS_BUFFER_TOO_SMALL);
    CHECK(len > 4 * prompt.len);
    bytes = malloc(len);
    if (bytes == NULL) exit(1);
    CHECK(dgemma_context_save(context, bytes, len - 1, &again) == DGEMMA_STATUS_BUFFER_TOO_SMALL && again == len);
    OK(dgemma_context_save(context, bytes, len, &again));
    CHECK(again == len && memcmp(bytes, "DGEMMACX", 8) == 0);

    OK(dgemma_context_create(model, NULL, &other));
    OK(dgemma_context_load(other, bytes, len));
    OK(dgemma_context_tokens(other, loaded.ids, MOST, &loaded.len));
    CHECK(loaded.len == prompt.len && memcmp(loaded.ids, prompt.ids, 4 * prompt.len) == 0);
    text = answer_of(other, 7);
    CHECK(strcmp(text.bytes, given->answer) == 0);

    bytes[len / 2] ^= 1;
    REFUSED(dgemma_context_load(other, bytes, len), "argument `bytes`: has a wrong checksum");
    bytes[len / 2] ^= 1;
    bytes[8] = 77;
    REFUSED(dgemma_context_load(other, bytes, len), "version 77, expected 1");
    bytes[8] = 1;
    REFUSED(dgemma_context_load(other, bytes, len - 1), "argument `bytes`");
    OK(dgemma_context_load(other, bytes, len));

    snprintf(path, sizeof path, "%s/saved-context", given->folder);
    OK(dgemma_context_save_file(context, path));
    OK(dgemma_context_reset(other));
    OK(dgemma_context_load_file(other, path));
    text = answer_of(other, 7);
    CHECK(strcmp(text.bytes, given->answer) == 0);
    remove(path);
    ANSWERS(dgemma_context_load_file(other, path), DGEMMA_STATUS_IO, "saved-context");
    ANSWERS(dgemma_context_load_file(other, given->model), DGEMMA_STATUS_BAD_FILE, "is not a saved context");
    free(bytes);
    dgemma_context_free(context);
    dgemma_context_free(other);
}

/* A recording of everything that on_noise hears, in order. */
struct recording {
    uint32_t numbers[1 << 16]; /* tokens as they are, draws by their bytes */
    size_t len, at;
    int replay;
    unsigned of[3]; /* calls of each purpose */
    uint32_t drawn[MOST];
};

static int hear_noise(const dgemma_noise *noise, void *user_data) {
    struct recording *r = user_data;
    void *data = noise->purpose == DGEMMA_NOISE_DRAWS ? (void *)noise->draws : (void *)noise->tokens;
    CHECK(noise->struct_size == sizeof *noise && noise->purpose <= DGEMMA_NOISE_RENOISE && data != NULL);
    CHECK((noise->tokens == NULL) != (noise->draws == NULL));
    r->of[noise->purpose]++;
    if (r->at + noise->canvas_length > sizeof r->numbers / 4) return 1;
    if (r->replay)
        memcpy(data, r->numbers + r->at, 4 * noise->canvas_length);
    else
        memcpy(r->numbers + r->at, data, 4 * noise->canvas_length);
    r->at += noise->canvas_length;
    return 0;
}

static int keep_drawn(const dgemma_step *step, void *user_data) {
    struct recording *r = user_data;
    if (step->canvas_length > MOST) return 1;
    memcpy(r->drawn, step->drawn, 4 * step->canvas_length);
    return 0;
}

/* One canvas at high temperature: what was drawn depends on the noise. */
static void noisy(const dgemma_model *model, const char *prompt, struct recording *r, uint64_t seed, int heard) {
    dgemma_context *context = context_with(model, prompt);
    dgemma_generate_params params;
    dgemma_sampler_params sampler;
    OK(dgemma_generate_params_init(&params, sizeof params));
    OK(dgemma_sampler_params_init(&sampler, sizeof sampler, model));
    sampler.t_max = sampler.t_min = 3.0f;
    sampler.max_steps = 2;
    params.sampler = &sampler;
    params.seed = seed;
    params.on_step = keep_drawn;
    params.on_noise = heard ? hear_noise : NULL;
    params.user_data = r;
    OK(dgemma_context_generate(context, &params, NULL));
    dgemma_context_free(context);
}

static void noise(const dgemma_model *model, const struct given *given) {
    static struct recording r, other;
    uint32_t first[MOST];
    noisy(model, given->prompt, &r, 1, 1);
    CHECK(r.of[DGEMMA_NOISE_CANVAS] == 1 && r.of[DGEMMA_NOISE_DRAWS] == 2 && r.of[DGEMMA_NOISE_RENOISE] == 2);
    memcpy(first, r.drawn, sizeof first);
    noisy(model, given->prompt, &other, 2, 0);
    CHECK(memcmp(first, other.drawn, sizeof first) != 0);
    r.replay = 1;
    r.at = 0;
    noisy(model, given->prompt, &r, 2, 1);
    CHECK(memcmp(first, r.drawn, sizeof first) == 0);
}

static void exact(const struct given *given) {
    dgemma_model_params params;
    dgemma_model *model = NULL;
    dgemma_context *context;
    dgemma_context_info info = {.struct_size = sizeof info};
    uint64_t fingerprint = 0, same_file = 0;
    struct text text;
    OK(dgemma_model_params_init(&params, sizeof params));
    CHECK(params.exact == 0 && params.cpu_level == DGEMMA_CPU_BEST);
    params.exact = 1;
    params.cpu_level = DGEMMA_CPU_SCALAR;
    OK(dgemma_model_load(given->model, &params, &model));
    context = context_with(model, given->prompt);
    OK(dgemma_context_describe(context, &info));
    CHECK(info.kv_type == DGEMMA_KV_F32);
    text = answer_of(context, 7);
    CHECK(strcmp(text.bytes, given->answer) == 0);
    OK(dgemma_model_fingerprint(model, &fingerprint));
    dgemma_context_free(context);
    dgemma_model_free(model);
    model = load_model(given->model);
    OK(dgemma_model_fingerprint(model, &same_file));
    CHECK(fingerprint != 0 && fingerprint == same_file);
    dgemma_model_free(model);
    params.exact = 2;
    REFUSED(dgemma_model_load(given->model, &params, &model), "argument `exact`: is 2");
    params.exact = 0;
    params.cpu_level = 5;
    REFUSED(dgemma_model_load(given->model, &params, &model), "argument `cpu_level`: is 5");
}

int main(int argc, char **argv) {
    struct given given = given_of(argc, argv);
    dgemma_model *model = load_model(given.model);
    copies(model, &given);
    memory(model);
    saves(model, &given);
    noise(model, &given);
    exact(&given);
    dgemma_model_free(model);
    return finish();
}

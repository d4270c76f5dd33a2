/*
 * Sixteen threads over one model, a context each, all generating at once: the texts that one thread alone gets. Then once
 * more, while other threads press the stop buttons of all contexts: every generation ends in its own text, or says that it
 * was stopped, and what it has then is the beginning of it; and each context still works.
 */
#define _POSIX_C_SOURCE 200809L
#include "check.h"
#include <pthread.h>
#include <stdatomic.h>
#include <time.h>

#ifdef LIGHT /* for tools that make everything fifty times slower */
#define THREADS 5
#define STEPS 1
#define TOKENS 4
#define ROUNDS 1
#else
#define THREADS 16
#define STEPS 4
#define TOKENS 100
#define ROUNDS 3
#endif
#define CANCELLERS 2

static const char *const questions[] = {"What is 7 + 12?", "What is 3 + 4?", "What is 20 + 21?", "What is 9 + 9?"};

/* What a generation committed. */
struct said {
    uint32_t ids[256];
    size_t len;
};

struct job {
    const dgemma_model *model;
    dgemma_context *context;
    dgemma_canceller *canceller;
    struct tokens prompt;
    uint64_t seed;
    struct said alone, together;
    unsigned stopped, whole;
};

static int hear_tokens(uint32_t block, const uint32_t *tokens, size_t n_tokens, void *user_data) {
    struct said *said = user_data;
    CHECK(block < 4 && said->len + n_tokens <= 256);
    memcpy(said->ids + said->len, tokens, 4 * n_tokens);
    said->len += n_tokens;
    return 0;
}

/* Some canvases at a high temperature, past the end of the answer: much that could go wrong. */
static dgemma_stop_reason generate(struct job *job, struct said *said) {
    dgemma_generate_params p;
    dgemma_sampler_params s;
    dgemma_generation result;
    OK(dgemma_generate_params_init(&p, sizeof p));
    OK(dgemma_sampler_params_init(&s, sizeof s, job->model));
    s.t_min = 2.0f;
    s.t_max = 4.0f;
    s.max_steps = STEPS;
    p.sampler = &s;
    p.seed = job->seed;
    p.max_tokens = TOKENS;
    p.flags = DGEMMA_GENERATE_IGNORE_END | DGEMMA_GENERATE_ADAPTIVE_LAST_CANVAS;
    p.on_tokens = hear_tokens;
    p.user_data = said;
    said->len = 0;
    OK(dgemma_context_set_tokens(job->context, job->prompt.ids, job->prompt.len, NULL));
    OK(dgemma_context_generate(job->context, &p, &result));
    return result.stop_reason;
}

/* Canvases are committed whole: what is there is a beginning. */
static int begins(const struct said *whole, const struct said *part) {
    return part->len <= whole->len && memcmp(whole->ids, part->ids, 4 * part->len) == 0;
}

static int same(const struct said *a, const struct said *b) {
    return a->len == b->len && begins(a, b);
}

static void *together(void *argument) {
    struct job *job = argument;
    CHECK(generate(job, &job->together) == DGEMMA_STOP_REASON_MAX_TOKENS);
    return NULL;
}

static void *under_fire(void *argument) {
    struct job *job = argument;
    for (int i = 0; i < ROUNDS; i++) {
        dgemma_stop_reason reason = generate(job, &job->together);
        CHECK(reason == DGEMMA_STOP_REASON_MAX_TOKENS || reason == DGEMMA_STOP_REASON_CANCELLED);
        CHECK(begins(&job->alone, &job->together));
        if (reason == DGEMMA_STOP_REASON_CANCELLED)
            job->stopped++;
        else
            job->whole++;
    }
    return NULL;
}

static struct job jobs[THREADS];
static atomic_int over;

static void *press(void *argument) {
    unsigned at = *(unsigned *)argument;
    const struct timespec pause = {0, 2000000}; /* a few presses per generation */
    while (!atomic_load(&over)) {
        at = (at * 1103515245u + 12345u) % (1u << 31);
        OK(dgemma_canceller_cancel(jobs[at / 7 % THREADS].canceller));
        if (at % 3 == 0) OK(dgemma_canceller_clear(jobs[at / 7 % THREADS].canceller));
        nanosleep(&pause, NULL);
    }
    return NULL;
}

static void run_all(void *(*work)(void *)) {
    pthread_t threads[THREADS];
    for (int i = 0; i < THREADS; i++) CHECK(pthread_create(&threads[i], NULL, work, &jobs[i]) == 0);
    for (int i = 0; i < THREADS; i++) pthread_join(threads[i], NULL);
}

int main(int argc, char **argv) {
    struct given given = given_of(argc, argv);
    dgemma_model *model = load_model(given.model);
    pthread_t pressers[CANCELLERS];
    unsigned seeds[CANCELLERS] = {1, 2}, stopped = 0, whole = 0;
    for (int i = 0; i < THREADS; i++) {
        struct job *job = &jobs[i];
        job->model = model;
        job->seed = (uint64_t)i + 1;
        job->prompt = chat_tokens(model, questions[i % 4]);
        OK(dgemma_context_create(model, NULL, &job->context));
        OK(dgemma_canceller_create(job->context, &job->canceller));
        generate(job, &job->alone);
    }
    CHECK(jobs[0].alone.len == TOKENS);
    CHECK(STEPS == 1 || !same(&jobs[0].alone, &jobs[4].alone)); /* one question, two seeds */

    run_all(together);
    for (int i = 0; i < THREADS; i++) CHECK(same(&jobs[i].alone, &jobs[i].together));

    for (int i = 0; i < CANCELLERS; i++) CHECK(pthread_create(&pressers[i], NULL, press, &seeds[i]) == 0);
    run_all(under_fire);
    atomic_store(&over, 1);
    for (int i = 0; i < CANCELLERS; i++) pthread_join(pressers[i], NULL);
    for (int i = 0; i < THREADS; i++) {
        OK(dgemma_canceller_clear(jobs[i].canceller));
        CHECK(generate(&jobs[i], &jobs[i].together) == DGEMMA_STOP_REASON_MAX_TOKENS);
        CHECK(same(&jobs[i].alone, &jobs[i].together));
        stopped += jobs[i].stopped;
        whole += jobs[i].whole;
        dgemma_canceller_free(jobs[i].canceller);
        dgemma_context_free(jobs[i].context);
    }
    CHECK((ROUNDS == 1 || stopped > 0) && stopped + whole == ROUNDS * THREADS);
    dgemma_model_free(model);
    printf("%u of %u generations stopped; ", stopped, stopped + whole);
    return finish();
}

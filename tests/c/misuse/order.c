/* One of everything, freed in every order; what is left works until it is freed itself. */
#include "rows.h"

#ifdef LIGHT /* for tools that make everything fifty times slower */
#define EVERY 11 /* no divisor of the factorials: all kinds come first, and last */
#else
#define EVERY 1
#endif

enum kind { MODEL, CONTEXT, BLOCK, DETOKENIZER, CANCELLER, KINDS };

struct family {
    dgemma_model *model;
    dgemma_context *context;
    dgemma_block *block;
    dgemma_detokenizer *detokenizer;
    dgemma_canceller *canceller;
    int done; /* the block is */
};

static struct family born(void) {
    struct family f = {0};
    dgemma_block_params one; /* position: this is about lifetimes, not about text */
    OK(dgemma_block_params_init(&one, sizeof one));
    one.canvas_length = 1;
    f.model = load_model(on.given.model);
    OK(dgemma_context_create(f.model, NULL, &f.context));
    OK(dgemma_context_append(f.context, on.ids, 1));
    OK(dgemma_block_begin(f.context, &one, &f.block));
    OK(dgemma_detokenizer_create(f.model, 0, &f.detokenizer));
    OK(dgemma_canceller_create(f.context, &f.canceller));
    return f;
}

static void use(struct family *f) {
    char text[256];
    uint32_t id;
    if (f->model != NULL) OK(dgemma_model_special_token(f->model, DGEMMA_SPECIAL_EOS, &id));
    if (f->detokenizer != NULL) OK(dgemma_detokenizer_push(f->detokenizer, on.ids, 1, text, sizeof text, NULL));
    if (f->canceller != NULL) {
        OK(dgemma_canceller_cancel(f->canceller));
        OK(dgemma_canceller_clear(f->canceller));
    }
    if (f->context != NULL) OK(dgemma_context_score(f->context, on.ids, 1, NULL, 0, NULL));
    if (f->block != NULL && !f->done) OK(dgemma_block_step(f->block, &f->done));
}

static void drop(struct family *f, enum kind kind) {
    switch (kind) {
    case MODEL: dgemma_model_free(f->model); f->model = NULL; break;
    case CONTEXT: dgemma_context_free(f->context); f->context = NULL; break;
    case BLOCK: dgemma_block_free(f->block); f->block = NULL; break;
    case DETOKENIZER: dgemma_detokenizer_free(f->detokenizer); f->detokenizer = NULL; break;
    case CANCELLER: dgemma_canceller_free(f->canceller); f->canceller = NULL; break;
    case KINDS: break;
    }
}

/* Every order of `order[from..]`. */
static unsigned orders(enum kind *order, unsigned from) {
    unsigned n = 0;
    if (from == KINDS) {
        static unsigned number = 0;
        struct family f;
        if (number++ % EVERY != 0) return 1;
        f = born();
        for (unsigned i = 0; i < KINDS; i++) {
            drop(&f, order[i]);
            use(&f);
        }
        return 1;
    }
    for (unsigned i = from; i < KINDS; i++) {
        enum kind first = order[i];
        order[i] = order[from];
        order[from] = first;
        n += orders(order, from + 1);
        order[from] = order[i];
        order[i] = first;
    }
    return n;
}

void order_rows(void) {
    enum kind order[KINDS] = {MODEL, CONTEXT, BLOCK, DETOKENIZER, CANCELLER};
    CHECK(orders(order, 0) == 120);
}

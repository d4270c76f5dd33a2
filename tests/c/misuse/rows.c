/* The rows of the misuse table: kept, and judged. */
#include "rows.h"

struct outputs out;
struct objects on;
const char not_utf8[] = "caf\xe9";

#define ROWS 1000
#define PATTERN 0xa5

static struct {
    const char *function, *args;
} rows[ROWS];
static unsigned n_rows = 0;

static struct {
    const char *function;
    unsigned position;
} sized[ROWS];
static unsigned n_sized = 0;

void row_begin(const char *function, const char *args) {
    if (n_rows == ROWS) exit(3);
    rows[n_rows].function = function;
    rows[n_rows].args = args;
    n_rows++;
    memset(&out, PATTERN, sizeof out);
}

/* The context's sequence has its length, and the block is still its. */
static int unchanged(void) {
    dgemma_context_info info = {.struct_size = sizeof info};
    return on.context == NULL ||
           (dgemma_context_describe(on.context, &info) == DGEMMA_STATUS_OK && info.length == on.n_tokens);
}

/* Nothing was written; the length may be when it is what the call reports. */
static int untouched(dgemma_status got) {
    const unsigned char *bytes = (const unsigned char *)&out;
    size_t n = got == DGEMMA_STATUS_BUFFER_TOO_SMALL ? offsetof(struct outputs, len) : sizeof out;
    for (size_t i = 0; i < n; i++)
        if (bytes[i] != PATTERN) return 0;
    return 1;
}

void row_end(dgemma_status got, dgemma_status expected, const char *word, const char *file, int line) {
    const char *function = rows[n_rows - 1].function, *args = rows[n_rows - 1].args, *text = dgemma_last_error();
    checks++;
    if (got != expected || (got != DGEMMA_STATUS_OK && strstr(text, word) == NULL)) {
        fprintf(stderr, "%s:%d: %s%s: %s: %s; expected %s: ... %s ...\n", file, line, function, args,
                dgemma_status_text(got), text, dgemma_status_text(expected), word);
        failures++;
    }
    if (got != DGEMMA_STATUS_OK && !untouched(got)) {
        fprintf(stderr, "%s:%d: %s%s failed and wrote an output\n", file, line, function, args);
        failures++;
    }
    if (!unchanged()) {
        fprintf(stderr, "%s:%d: %s%s changed the context\n", file, line, function, args);
        failures++;
    }
}

void row_value(int holds, const char *file, int line) {
    checks++;
    if (holds && unchanged()) return;
    fprintf(stderr, "%s:%d: %s%s\n", file, line, rows[n_rows - 1].function, rows[n_rows - 1].args);
    failures++;
}

void row_sized(const char *function, unsigned position) {
    if (n_sized == ROWS) exit(3);
    sized[n_sized].function = function;
    sized[n_sized].position = position;
    n_sized++;
}

int row_exists(const char *function) {
    for (unsigned i = 0; i < n_rows; i++)
        if (strcmp(rows[i].function, function) == 0) return 1;
    return 0;
}

/* Argument number `position` of "(a, b(c, d), e)", compared. */
static int argument_is(const char *args, unsigned position, const char *wanted) {
    const char *at = args + 1, *end;
    int depth = 0;
    for (;;) {
        while (*at == ' ') at++;
        for (end = at; *end != '\0' && (depth > 0 || (*end != ',' && *end != ')')); end++)
            depth += (*end == '(' || *end == '{' || *end == '[') - (*end == ')' || *end == '}' || *end == ']');
        if (position == 0) return (size_t)(end - at) == strlen(wanted) && memcmp(at, wanted, strlen(wanted)) == 0;
        if (*end != ',') return 0;
        position--;
        at = end + 1;
    }
}

int row_has(const char *function, unsigned position, const char *argument) {
    for (unsigned i = 0; i < n_rows; i++)
        if (strcmp(rows[i].function, function) == 0 && argument_is(rows[i].args, position, argument)) return 1;
    return 0;
}

int row_is_sized(const char *function, unsigned position) {
    for (unsigned i = 0; i < n_sized; i++)
        if (sized[i].position == position && strcmp(sized[i].function, function) == 0) return 1;
    return 0;
}

struct text short_answer(dgemma_context *context) {
    dgemma_generate_params p;
    struct text text = {.len = 0};
    OK(dgemma_generate_params_init(&p, sizeof p));
    p.seed = 7;
    p.max_tokens = 4;
    p.flags = DGEMMA_GENERATE_ADAPTIVE_LAST_CANVAS | DGEMMA_GENERATE_SHOW_SPECIAL | DGEMMA_GENERATE_IGNORE_END;
    p.on_text = hear_text;
    p.user_data = &text;
    OK(dgemma_context_generate(context, &p, NULL));
    return text;
}

void answers(const dgemma_model *model) {
    dgemma_context *context = NULL;
    struct text text;
    OK(dgemma_context_create(model, NULL, &context));
    OK(dgemma_context_append(context, on.ids, on.n_ids));
    text = short_answer(context);
    CHECK(text.len == on.answer.len && memcmp(text.bytes, on.answer.bytes, text.len) == 0);
    dgemma_context_free(context);
}

void works(void) {
    dgemma_context *copy = NULL;
    struct text text;
    OK(dgemma_context_clone(on.context, &copy));
    text = short_answer(copy);
    CHECK(text.len == on.answer.len && memcmp(text.bytes, on.answer.bytes, text.len) == 0);
    dgemma_context_free(copy);
    answers(on.model);
}

/*
 * The misuse table against the header: a function without rows fails, and so do a pointer that never was NULL, a text that
 * always was UTF-8, and a struct with a size whose size always was right.
 */
#include "rows.h"

#define LONGEST 2000

static char *contents(const char *path) {
    FILE *file = fopen(path, "rb");
    char *text = malloc(1 << 20);
    size_t n;
    if (file == NULL || text == NULL) exit(3);
    n = fread(text, 1, (1 << 20) - 1, file);
    fclose(file);
    text[n] = '\0';
    return text;
}

/* Whether the header's struct of this name begins with its size. */
static int has_size(const char *header, const char *name) {
    char opening[300];
    const char *at, *end, *first;
    snprintf(opening, sizeof opening, "typedef struct %s {", name);
    at = strstr(header, opening);
    if (at == NULL) return 0;
    end = strchr(at, ';');
    first = strstr(at, "size_t struct_size;");
    return first != NULL && first < end;
}

/* One parameter of a function, e.g. "const char *path". */
static void check_parameter(const char *header, const char *function, unsigned position, const char *parameter) {
    char type[200] = "";
    const char *at = strncmp(parameter, "const ", 6) == 0 ? parameter + 6 : parameter;
    int is_callback = strstr(parameter, "_callback ") != NULL, is_pointer = strchr(parameter, '*') != NULL;
    if (strncmp(at, "struct ", 7) == 0) at += 7;
    sscanf(at, "%199[a-z0-9_]", type);
    checks++;
    if ((is_pointer || is_callback) && !row_has(function, position, "NULL"))
        FAIL("%s: no row with NULL for `%s`", function, parameter);
    if (strncmp(parameter, "const char *", 12) == 0 && !row_has(function, position, "not_utf8"))
        FAIL("%s: no row with not_utf8 for `%s`", function, parameter);
    if (is_pointer && has_size(header, type) && !row_is_sized(function, position))
        FAIL("%s: the sizes of `%s` were not tried", function, parameter);
}

/* A declaration behind "DGEMMA_API", on one line: "dgemma_status dgemma_model_load(const char *path, ...)". */
static void check_function(const char *header, char *declaration) {
    char function[200] = "", *open = strchr(declaration, '('), *at, *end;
    char *name = open;
    unsigned position = 0;
    while (name > declaration && name[-1] != ' ' && name[-1] != '*') name--;
    snprintf(function, sizeof function, "%.*s", (int)(open - name), name);
    checks++;
    if (!row_exists(function)) FAIL("%s has no row in the misuse table", function);
    if (strcmp(open, "(void)") == 0) return;
    for (at = open + 1; *at != '\0'; at = end + 1) {
        end = at + strcspn(at, ",)");
        *end = '\0';
        while (*at == ' ') at++;
        check_parameter(header, function, position++, at);
    }
}

void coverage(const char *path) {
    char *header = contents(path), *at = header, declaration[LONGEST];
    unsigned functions = 0;
    while ((at = strstr(at, "\nDGEMMA_API")) != NULL) {
        const char *end = strchr(at, ';');
        size_t n = 0;
        at += strlen("\nDGEMMA_API");
        for (; at < end && n < LONGEST - 1; at++) {
            char c = *at == '\n' ? ' ' : *at;
            if (c == ' ' && (n == 0 || declaration[n - 1] == ' ')) continue;
            declaration[n++] = c;
        }
        declaration[n] = '\0';
        check_function(header, declaration);
        functions++;
    }
    CHECK(functions > 60);
    printf("%u functions of the header have their rows; ", functions);
    free(header);
}

/*
 * What the C++ tests share. A program gets a model file, a prompt that it answers, the answer, and a folder for files of its
 * own; it prints a line for each check that fails and exits with 1 then.
 */
#ifndef CHECK_HPP
#define CHECK_HPP

#include <dgemma.hpp>

#include <cstdio>
#include <cstdlib>
#include <string>

inline int failures = 0;
inline unsigned checks = 0;

#define CHECK(...)                                                                 \
    do {                                                                           \
        checks++;                                                                  \
        if (!(__VA_ARGS__)) {                                                      \
            std::fprintf(stderr, "%s:%d: %s\n", __FILE__, __LINE__, #__VA_ARGS__); \
            failures++;                                                            \
        }                                                                          \
    } while (0)

/* What a program is given. */
struct Given {
    std::string model, prompt, answer, folder;

    Given(int argc, char **argv) {
        if (argc != 5) {
            std::fprintf(stderr, "usage: %s MODEL PROMPT ANSWER FOLDER\n", argv[0]);
            std::exit(2);
        }
        model = argv[1], prompt = argv[2], answer = argv[3], folder = argv[4];
    }
};

/* How it went, for the log of the test; the exit status. */
inline int finish() {
    std::printf("%u checks, %d failed\n", checks, failures);
    return failures != 0;
}

#if DGEMMA_HPP_EXCEPTIONS
/* The call must throw an Error of this status with this word in its text. */
template <class F>
bool throws(dgemma::Status status, const std::string &word, F call) {
    try {
        call();
    } catch (const dgemma::Error &e) {
        if (e.status() == status && std::string(e.what()).find(word) != std::string::npos) return true;
        std::fprintf(stderr, "threw %d: %s\n", static_cast<int>(e.status()), e.what());
    }
    return false;
}

/* The model, on two threads: what the tests generate takes milliseconds. */
inline dgemma::Model load(const Given &given) {
    dgemma::ModelParams params;
    params.threads = 2;
    return dgemma::Model::load(given.model, params);
}

/* A user's message through the chat template, as tokens. The prompts here need no escapes in JSON. */
inline std::vector<dgemma::Token> chat(const dgemma::Model &model, const std::string &prompt) {
    const auto text = model.render_chat(R"([{"role": "user", "content": ")" + prompt + R"("}])");
    return model.tokenize(text, DGEMMA_TOKENIZE_PARSE_SPECIAL);
}
#endif

#endif

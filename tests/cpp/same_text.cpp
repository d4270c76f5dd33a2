/*
 * Prints the texts of tests/golden/same_text.json: MODEL, then a prompt, a seed and a limit for each. A text is followed
 * by a NUL.
 */
#include <dgemma.hpp>
#include <iostream>

int main(int argc, char **argv) {
    const auto model = dgemma::Model::load(argv[1]);
    for (int i = 2; i + 2 < argc; i += 3) {
        dgemma::GenerateParams params;
        params.seed = std::stoull(argv[i + 1]);
        params.max_tokens = std::stoull(argv[i + 2]);
        params.on_text = [](std::string_view text) { std::cout << text; };
        model.generate(argv[i], params);
        std::cout << '\0';
    }
}

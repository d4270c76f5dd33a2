#include <dgemma.hpp>
#include <iostream>

int main(int argc, char **argv) try {
    if (argc != 3) throw std::invalid_argument("usage: hello MODEL PROMPT");
    const auto model = dgemma::Model::load(argv[1]);
    dgemma::GenerateParams params;
    params.on_text = [](std::string_view text) { std::cout << text << std::flush; };
    model.generate(argv[2], params);
    std::cout << '\n';
} catch (const std::exception &error) {
    std::cerr << error.what() << '\n';
    return 1;
}

/*
 * The same errors as exceptions; the other half of results.cpp.
 */
#include "check.hpp"

#include <stdexcept>

using namespace dgemma;

void with_exceptions(const Given &given) {
    CHECK(throws(DGEMMA_STATUS_IO, "no/such/file.gguf", [] { (void)Model::load("no/such/file.gguf"); }));
    CHECK(throws(DGEMMA_STATUS_INVALID_ARGUMENT, "NUL", [] { (void)Model::load(std::string("a\0b", 3)); }));
    const auto model = load(given);
    GenerateParams params;
    params.seed = 7;
    CHECK(model.try_generate(given.prompt, params).value().text == given.answer); // one by one, too
    params.on_text = [](std::string_view) { throw std::runtime_error("from a callback"); };
    try {
        (void)model.generate(given.prompt, params);
        CHECK(!"reached");
    } catch (const std::runtime_error &e) {
        CHECK(std::string(e.what()) == "from a callback");
    }
    try {
        model.try_piece(1u << 30).value();
        CHECK(!"reached");
    } catch (const std::exception &e) { // an Error is a std::runtime_error
        CHECK(std::string(e.what()).find("1073741824") != std::string::npos);
    }
}

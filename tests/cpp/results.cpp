/*
 * Errors as results. Compiled with -fno-exceptions, and linked with errors.cpp, which is compiled with them: both in one
 * program.
 */
#include "check.hpp"

#include <thread>

using namespace dgemma;

void with_exceptions(const Given &given);

#ifdef __cpp_exceptions
#error this file is to be compiled without exceptions
#endif

template <class T>
static bool refused(const Result<T> &result, Status status, const std::string &word) {
    return !result && !result.has_value() && result.error().status() == status &&
           std::string(result.error().what()).find(word) != std::string::npos;
}

int main(int argc, char **argv) {
    const Given given(argc, argv);
    CHECK(refused(Model::try_load("no/such/file.gguf"), DGEMMA_STATUS_IO, "no/such/file.gguf"));
    CHECK(refused(Model::try_load(__FILE__), DGEMMA_STATUS_BAD_FILE, "results.cpp"));
    CHECK(refused(Model::try_load(std::string("a\0b", 3)), DGEMMA_STATUS_INVALID_ARGUMENT, "NUL at byte 1"));
    CHECK(refused(Model().try_info(), DGEMMA_STATUS_INVALID_ARGUMENT, "`model`: is NULL"));
    CHECK(refused(Context().try_reset(), DGEMMA_STATUS_INVALID_ARGUMENT, "`context`: is NULL"));

    auto loaded = Model::try_load(given.model);
    CHECK(loaded.has_value());
    if (!loaded) return finish();
    const Model model = *std::move(loaded);
    GenerateParams params;
    params.seed = 7;
    const auto generation = model.try_generate(given.prompt, params);
    CHECK(generation && generation->text == given.answer && (*generation).steps > 0);
    CHECK(refused(model.try_generate(std::string("a\0b", 3)), DGEMMA_STATUS_INVALID_ARGUMENT, "`prompt`: has a NUL"));
    CHECK(model.try_find("no such piece").has_value() && !*model.try_find("no such piece"));
    CHECK(model.try_piece(1u << 30).has_value() == false);
    CHECK(model.try_piece(1u << 30).value_or("none") == "none");
    params.on_step = [](const Step &) { return Flow::Stop; };
    CHECK(model.try_generate(given.prompt, params)->stop_reason == DGEMMA_STOP_REASON_CANCELLED);

    auto context = *model.try_context();
    CHECK(context.try_append({1u, 2u}) && *context.try_tokens() == std::vector<Token>({1u, 2u}));
    auto block = *context.try_begin_block();
    CHECK(block.try_step() && block.try_describe()->draft().size() == 32 && block.try_commit(3));
    CHECK(refused(block.try_step(), DGEMMA_STATUS_INVALID_ARGUMENT, ""));
    CHECK(context.try_tokens()->size() == 5 && try_devices());

    // Each thread reads its own error.
    std::thread([&] { CHECK(refused(model.try_piece(1u << 30), DGEMMA_STATUS_INVALID_ARGUMENT, "")); }).join();
    with_exceptions(given);
    return finish();
}

/*
 * Callbacks: what they hear, how they stop, and that what they throw comes out of the call that ran them. And cancelling
 * from another thread.
 */
#include "check.hpp"

#include <atomic>
#include <chrono>
#include <thread>
#include <vector>

using namespace dgemma;

struct Thrown {
    int number;
};

/* The call must throw this very Thrown. */
template <class F>
static bool throws_back(int number, F call) {
    try {
        call();
    } catch (const Thrown &thrown) {
        return thrown.number == number;
    }
    return false;
}

static void heard(const Model &model, const Given &given) {
    GenerateParams params;
    params.seed = 7;
    std::string text;
    std::vector<Token> tokens;
    std::size_t steps = 0, accepted = 0, encoded_last = 0, total_last = 0, noise_heard = 0;
    params.on_text = [&](std::string_view piece) { text += piece; };
    params.on_early_text = [&](std::string_view piece) { CHECK(!piece.empty()); };
    params.on_tokens = [&](std::uint32_t block, Span<const Token> piece) {
        CHECK(block == 0);
        tokens.insert(tokens.end(), piece.begin(), piece.end());
    };
    params.on_step = [&](const Step &step) {
        CHECK(step.step == steps && step.draft().size() == 32 && step.struct_size >= sizeof(dgemma_step));
        for (const auto a : step.accepted()) accepted += a;
        steps++;
    };
    params.on_prefill = [&](std::size_t encoded, std::size_t total) { encoded_last = encoded, total_last = total; };
    params.on_noise = [&](const Noise &noise) { noise_heard += noise.canvas_length; };
    const auto generation = model.generate(given.prompt, params);
    CHECK(text == given.answer && generation.text == text && model.detokenize(tokens) == text);
    CHECK(generation.tokens == tokens.size() && generation.steps == steps && accepted >= steps);
    CHECK(encoded_last == total_last && total_last == generation.prompt_tokens && noise_heard >= 64);
}

static void stopped(const Model &model, const Given &given) {
    GenerateParams params;
    params.seed = 7;
    int steps = 0;
    params.on_step = [&](const Step &) {
        steps++;
        return Flow::Stop;
    };
    const auto generation = model.generate(given.prompt, params);
    CHECK(generation.stop_reason == DGEMMA_STOP_REASON_CANCELLED && steps == 1 && generation.text.empty());
    params.on_step = [&](const Step &) { return Flow::Continue; };
    CHECK(model.generate(given.prompt, params).text == given.answer);

    auto context = model.context();
    context.set_tokens(chat(model, given.prompt));
    const auto stop = [](std::size_t, std::size_t) { return Flow::Stop; };
    CHECK(throws(DGEMMA_STATUS_CANCELLED, "", [&] { context.prefill(stop); }));
    ModelParams load;
    load.on_progress = [](float fraction) { return fraction < 0.5f ? Flow::Continue : Flow::Stop; };
    CHECK(throws(DGEMMA_STATUS_CANCELLED, "", [&] { (void)Model::load(given.model, load); }));
}

static void thrown(const Model &model, const Given &given) {
    auto context = model.context();
    const auto prompt = chat(model, given.prompt);
    std::vector<GenerateParams> all(6);
    all[0].on_text = [](std::string_view) { throw Thrown{0}; };
    all[1].on_tokens = [](std::uint32_t, Span<const Token>) { throw Thrown{1}; };
    all[2].on_step = [](const Step &) { throw Thrown{2}; };
    all[3].on_prefill = [](std::size_t, std::size_t) { throw Thrown{3}; };
    all[4].on_noise = [](const Noise &) { throw Thrown{4}; };
    all[5].on_step = [](const Step &) -> Flow { throw Thrown{5}; };
    for (int i = 0; i < 6; i++) {
        CHECK(throws_back(i, [&] { (void)model.generate(given.prompt, all[i]); }));
        context.reset();
        context.set_tokens(prompt);
        CHECK(throws_back(i, [&] { (void)context.generate(all[i]); }));
        context.reset();
        context.set_tokens(prompt);
        CHECK(throws_back(i, [&] { (void)context.try_generate(all[i]); })); // also where errors are results
    }
    // Once thrown, no callback hears of anything any more.
    int after = 0;
    GenerateParams params;
    params.on_tokens = [](std::uint32_t, Span<const Token>) { throw Thrown{6}; };
    params.on_text = [&](std::string_view) { after++; };
    CHECK(throws_back(6, [&] { (void)model.generate(given.prompt, params); }) && after == 0);

    context.reset();
    context.set_tokens(prompt);
    CHECK(throws_back(7, [&] { context.prefill([](std::size_t, std::size_t) { throw Thrown{7}; }); }));
    ModelParams load;
    load.on_progress = [](float) { throw Thrown{8}; };
    CHECK(throws_back(8, [&] { (void)Model::load(given.model, load); }));

    // A block throws from its beginning or from a step, and can be stepped again.
    BlockParams block;
    int noise = 0;
    block.seed = 7;
    block.on_noise = [](const Noise &) { throw Thrown{9}; };
    CHECK(throws_back(9, [&] { (void)context.begin_block(block); }));
    block.on_noise = [&](const Noise &) {
        if (++noise == 2) throw Thrown{10};
    };
    auto begun = context.begin_block(block);
    CHECK(throws_back(10, [&] { (void)begun.step(); }));
    while (!begun.step()) {
    }
    const auto draft = begun.describe().draft();
    CHECK(model.detokenize(draft).find(given.answer) == 0);

    params = GenerateParams(); // nothing was poisoned
    params.seed = 7;
    CHECK(context.generate(params).text == given.answer);
}

/* A call from inside a callback is answered, and its error is an exception that may come out of the callback. */
static void nested(const Model &model, const Given &given) {
    auto context = model.context();
    context.set_tokens(chat(model, given.prompt));
    GenerateParams params;
    params.seed = 7;
    params.on_step = [&](const Step &) { (void)context.info(); };
    CHECK(throws(DGEMMA_STATUS_BUSY, "", [&] { (void)context.generate(params); }));
    std::string inner;
    params.on_step = [&](const Step &) {
        if (inner.empty()) inner = model.generate(given.prompt).text;
    };
    CHECK(context.generate(params).text == given.answer && inner == given.answer);
}

static void cancelled(const Model &model, const Given &given) {
    auto context = model.context();
    context.set_tokens(chat(model, given.prompt));
    const auto canceller = context.canceller();
    GenerateParams params;
    params.flags = DGEMMA_GENERATE_IGNORE_END; // would go on until the context is full
    params.max_tokens = 1u << 20;
    std::atomic<bool> running{false};
    params.on_step = [&](const Step &) { running = true; };
    std::thread other([&] {
        while (!running) std::this_thread::sleep_for(std::chrono::microseconds(100));
        canceller.cancel();
    });
    const auto generation = context.generate(params);
    other.join();
    CHECK(generation.stop_reason == DGEMMA_STOP_REASON_CANCELLED);

    canceller.cancel(); // ahead of the call
    CHECK(context.generate(params).stop_reason == DGEMMA_STOP_REASON_CANCELLED);
    canceller.cancel();
    canceller.clear();
    params = GenerateParams();
    CHECK(context.generate(params).stop_reason != DGEMMA_STOP_REASON_CANCELLED);
}

static void logged(const Model &model) {
    static std::string lines;
    const auto twice = [&] { (void)model.tokenize("<bos>x", DGEMMA_TOKENIZE_ADD_BOS | DGEMMA_TOKENIZE_PARSE_SPECIAL); };
    set_log([](std::uint32_t level, std::string_view line) {
        lines += std::to_string(level) + ": " + std::string(line);
    });
    twice();
    CHECK(lines.find("1: tokenizer: the text already begins with the first token") == 0);
    set_log([](std::uint32_t, std::string_view) { throw Thrown{11}; }); // dropped
    twice();
    set_log(nullptr);
    const auto before = lines;
    twice();
    CHECK(lines == before);
}

int main(int argc, char **argv) {
    const Given given(argc, argv);
    const auto model = load(given);
    heard(model, given);
    stopped(model, given);
    thrown(model, given);
    nested(model, given);
    cancelled(model, given);
    logged(model);
    return finish();
}

/*
 * Every method of every object, once; who owns what, and moves.
 */
#include "check.hpp"

#include <cmath>
#include <type_traits>
#include <vector>

using namespace dgemma;

template <class T>
constexpr bool move_only = std::is_nothrow_move_constructible_v<T> && std::is_nothrow_move_assignable_v<T> &&
                           !std::is_copy_constructible_v<T> && !std::is_copy_assignable_v<T> &&
                           std::is_nothrow_default_constructible_v<T>;
static_assert(move_only<Model> && move_only<Context> && move_only<Block> && move_only<Canceller> &&
              move_only<Detokenizer>);

static void library() {
    CHECK(version().size() >= 5 && abi_version() >= DGEMMA_ABI_VERSION);
    CHECK(build_info().find("version=") == 0 && status_text(DGEMMA_STATUS_BUSY) == "busy");
    CHECK(devices().size() == dgemma_device_count() && !devices().empty() && devices()[0].name[0] != '\0');
}

static void vocabulary(const Model &model) {
    const auto info = model.info();
    CHECK(info.canvas_length == 32 && info.vocab_size == 512 && info.struct_size == sizeof info);
    CHECK(model.memory().weight_bytes == info.file_bytes && model.fingerprint() != 0);
    CHECK(model.metadata_count() > 10 && model.metadata_key(0).size() > 3);
    CHECK(model.metadata("general.architecture") == model.metadata(std::string("general.architecture")));
    CHECK(!model.metadata("no.such.key"));
    CHECK(model.metadata("tokenizer.ggml.tokens")->size() > 255); // longer than the first room
    CHECK(throws(DGEMMA_STATUS_INVALID_ARGUMENT, "`index`", [&] { model.metadata_key(1 << 20); }));

    const auto tokens = model.tokenize("What is 7 + 12?", DGEMMA_TOKENIZE_ADD_BOS);
    CHECK(tokens.size() > 3 && tokens[0] == model.special(DGEMMA_SPECIAL_BOS));
    CHECK(model.detokenize(tokens) == "What is 7 + 12?");
    CHECK(model.detokenize(tokens, DGEMMA_DETOKENIZE_SPECIAL).find("<bos>") == 0);
    CHECK(model.tokenize("").empty() && model.detokenize({}).empty());
    CHECK(model.tokenize(std::string_view("a\0b", 3)).size() == 3); // a NUL is a character like any other here
    const std::string long_text(5000, 'x');
    CHECK(model.detokenize(model.tokenize(long_text)) == long_text);
    CHECK(throws(DGEMMA_STATUS_INVALID_ARGUMENT, "UTF-8", [&] { model.tokenize("\xff"); }));
    CHECK(throws(DGEMMA_STATUS_INVALID_ARGUMENT, "", [&] { model.detokenize({1u << 30}); }));

    const auto bos = *model.find("<bos>");
    CHECK(model.piece(bos) == "<bos>" && !model.find("no such piece"));
    CHECK(model.attributes(bos) & DGEMMA_TOKEN_CONTROL);
    CHECK(model.is_end(*model.special(DGEMMA_SPECIAL_EOS)) && !model.is_end(tokens[1]));
    CHECK(throws(DGEMMA_STATUS_INVALID_ARGUMENT, "`role`", [&] { (void)model.special(99); }));

    auto detokenizer = model.detokenizer();
    std::string text;
    for (const Token token : model.tokenize("19, é, 雨")) text += detokenizer.push({token});
    CHECK(text + detokenizer.finish() == "19, é, 雨");
    CHECK(throws(DGEMMA_STATUS_INVALID_ARGUMENT, "messages", [&] { model.render_chat("{"); }));
    CHECK(model.render_chat(R"([{"role": "user", "content": "x"}])").find("<|turn>model") != std::string::npos);
}

static void context(const Model &model, const Given &given) {
    const auto prompt = chat(model, given.prompt);
    ContextParams params;
    params.context_size = 128;
    params.seed = 7;
    auto context = model.context(params);
    CHECK(context.set_tokens(prompt) == 0 && context.tokens() == prompt);
    std::size_t heard = 0;
    context.prefill([&](std::size_t encoded, std::size_t total) { heard = encoded == total ? total : 0; });
    CHECK(heard == prompt.size() && context.info().encoded == prompt.size() && context.info().context_size == 128);
    CHECK(context.memory().kv_bytes > 0);

    auto copy = context.clone();
    const auto bytes = context.save();
    context.save_file(given.folder + "/objects.context");
    const auto generation = context.generate();
    CHECK(generation.text == given.answer && generation.stop_reason == DGEMMA_STOP_REASON_END_OF_GENERATION);
    CHECK(context.perf().steps == generation.steps && context.info().length > prompt.size());
    CHECK(copy.generate().text == given.answer); // the seed was copied, too
    auto loaded = model.context(params);
    loaded.load(bytes);
    CHECK(loaded.info().encoded == prompt.size() && loaded.generate().text == given.answer);
    loaded.reset();
    CHECK(loaded.tokens().empty());
    loaded.load_file(given.folder + "/objects.context");
    CHECK(loaded.tokens() == prompt);
    CHECK(throws(DGEMMA_STATUS_IO, "no/such", [&] { loaded.load_file("no/such/file"); }));
    CHECK(loaded.last_error().find("no/such") != std::string::npos);

    context.truncate(4);
    context.append({prompt[4], prompt[5]});
    CHECK(context.tokens() == std::vector<Token>(prompt.begin(), prompt.begin() + 6));
    CHECK(context.set_tokens(prompt) == 4); // the two were not encoded yet
    CHECK(throws(DGEMMA_STATUS_CONTEXT_FULL, "", [&] { context.append(std::vector<Token>(128)); }));

    const std::vector<Token> canvas(32, prompt[0]);
    const std::vector<dgemma_candidate> candidates = {{0, prompt[1]}, {31, prompt[2]}};
    const auto scores = context.score(canvas, candidates);
    CHECK(scores.size() == 2 && scores[0] < 0 && scores[1] < 0 && context.score(canvas, {}).empty());
}

/* "1_ + 12 = ..": a pinned position stays, a recorded block can be replayed. */
static void block(const Model &model, const Given &given) {
    auto context = model.context();
    context.set_tokens(chat(model, given.prompt));
    struct Record {
        std::vector<std::vector<Token>> tokens;
        std::vector<std::vector<float>> draws;
    } record;
    BlockParams params;
    params.seed = 7;
    params.on_noise = [&](const Noise &noise) {
        if (noise.purpose == DGEMMA_NOISE_DRAWS) record.draws.emplace_back(noise.draws().begin(), noise.draws().end());
        else record.tokens.emplace_back(noise.tokens().begin(), noise.tokens().end());
    };
    auto first = context.begin_block(params);
    CHECK(first.describe().draft().empty() && first.describe().canvas().size() == 32);
    while (!first.step()) {
    }
    const auto step = first.describe();
    const std::vector<Token> draft(step.draft().begin(), step.draft().end());
    CHECK(model.detokenize(draft).find(given.answer) == 0 && step.entropy().size() == 32 && step.done == 1);
    CHECK(step.accepted().size() == 32 && step.drawn().size() == 32 && step.changed().size() == 32);
    CHECK(step.pinned()[0] == 0 && step.log_prob()[0] <= 0);
    CHECK(!record.tokens.empty() && record.draws.size() == step.step + 1);

    const auto vocab = model.info().vocab_size;
    const auto log_probs = first.log_probs({0, 5});
    double sum = 0;
    for (std::size_t i = 0; i < vocab; i++) sum += std::exp(static_cast<double>(log_probs[i]));
    CHECK(log_probs.size() == 2 * vocab && std::fabs(sum - 1) < 1e-3);
    CHECK(first.logits({5}).size() == vocab);
    CHECK(std::fabs(first.score({{5, draft[5]}})[0] - log_probs[vocab + draft[5]]) < 1e-4);

    params.seed = 8; // the recording counts, not the seed
    std::size_t tokens = 0, draws = 0;
    params.on_noise = [&](const Noise &noise) {
        const auto i = noise.purpose == DGEMMA_NOISE_DRAWS ? draws++ : tokens++;
        for (std::size_t k = 0; k < noise.canvas_length; k++) {
            if (noise.purpose == DGEMMA_NOISE_DRAWS) noise.draws()[k] = record.draws[i][k];
            else noise.tokens()[k] = record.tokens[i][k];
        }
    };
    auto again = context.begin_block(params);
    Block moved = std::move(again);
    while (!moved.step()) {
    }
    const auto replayed = moved.describe();
    CHECK(std::vector<Token>(replayed.draft().begin(), replayed.draft().end()) == draft);
    CHECK(throws(DGEMMA_STATUS_INVALID_ARGUMENT, "", [&] { again.step(); }));

    BlockParams gap;
    gap.tokens = draft;
    gap.slots.assign(draft.size(), DGEMMA_SLOT_PINNED);
    gap.slots[0] = DGEMMA_SLOT_NOISE;
    auto infill = context.begin_block(gap);
    while (!infill.step()) {
    }
    CHECK(infill.describe().draft()[0] == draft[0] && infill.describe().pinned()[1] == 1);
    infill.commit(1);
    CHECK(context.tokens().back() == draft[0]);
    gap.slots.pop_back();
    CHECK(throws(DGEMMA_STATUS_INVALID_ARGUMENT, "`slots`: has 31 entries", [&] { (void)context.begin_block(gap); }));
    gap.canvas_length = 8;
    CHECK(throws(DGEMMA_STATUS_INVALID_ARGUMENT, "`tokens`: has 32 entries", [&] { (void)context.begin_block(gap); }));
}

static void sampler(const Model &model, const Given &given) {
    GenerateParams params;
    params.seed = 7;
    params.sampler = model.sampler_params();
    CHECK(model.generate(given.prompt, params).text == given.answer);
    const auto nine = model.tokenize(given.answer).back();
    params.sampler->banned = {nine};
    CHECK(model.generate(given.prompt, params).text.find(given.answer.back()) == std::string::npos);
    params.sampler->banned.clear();
    params.sampler->logit_bias = {{nine, -INFINITY}};
    const auto copy = params; // owns its lists
    params.sampler->logit_bias.clear();
    CHECK(model.generate(given.prompt, copy).text.find(given.answer.back()) == std::string::npos);
    params.sampler->t_min = -1;
    CHECK(throws(DGEMMA_STATUS_INVALID_ARGUMENT, "t_min", [&] { (void)model.generate(given.prompt, params); }));
}

static void lifetimes(const Given &given) {
    std::vector<Context> contexts;
    Detokenizer detokenizer;
    Canceller canceller;
    Block block;
    {
        Model model = load(given);
        Model other = std::move(model);
        CHECK(!model && other);
        CHECK(throws(DGEMMA_STATUS_INVALID_ARGUMENT, "`model`: is NULL", [&] { (void)model.info(); }));
        for (int i = 0; i < 3; i++) {
            contexts.push_back(other.context());
            contexts.back().set_tokens(chat(other, given.prompt));
        }
        detokenizer = other.detokenizer();
        canceller = contexts[0].canceller();
        block = contexts[1].begin_block();
        model = std::move(other); // freed here, with its children alive
    }
    contexts.erase(contexts.begin() + 1); // the block's
    GenerateParams params;
    params.seed = 7;
    for (auto &context : contexts) CHECK(context.generate(params).text == given.answer);
    (void)block.step();
    CHECK(block.describe().canvas_length == 32);
    contexts.clear();
    canceller.cancel();
    canceller.clear();
    CHECK(detokenizer.finish().empty());
    Context raw(contexts.empty() ? nullptr : contexts[0].release());
    CHECK(!raw && throws(DGEMMA_STATUS_INVALID_ARGUMENT, "`context`: is NULL", [&] { raw.reset(); }));
}

int main(int argc, char **argv) {
    const Given given(argc, argv);
    const auto model = load(given);
    library();
    vocabulary(model);
    context(model, given);
    block(model, given);
    sampler(model, given);
    lifetimes(given);
    return finish();
}

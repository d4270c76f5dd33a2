// A chat: each line of standard input is a message. The answer is written canvas by canvas; what the context has encoded of
// the conversation is used again; Ctrl-C stops the answer, end of input (Ctrl-D) the program.

#include <dgemma.hpp>

#include <atomic>
#include <csignal>
#include <cstdio>
#include <iostream>
#include <string>
#include <thread>

namespace {

std::atomic<bool> answering{false};

// Ctrl-C comes as a signal, and a handler may do next to nothing. So all threads block it, and one waits for it.
void cancel_on_interrupt(dgemma::Canceller canceller, const sigset_t &interrupt) {
    std::thread([canceller = std::move(canceller), interrupt] {
        for (int signal; sigwait(&interrupt, &signal) == 0;) {
            if (answering) canceller.cancel();
            else std::cerr << "\n[Ctrl-D leaves]\n";
        }
    }).detach();
}

std::string quoted(const std::string &text) {
    std::string json = "\"";
    for (const char c : text) {
        char escape[8];
        if (static_cast<unsigned char>(c) < 0x20) {
            std::snprintf(escape, sizeof escape, "\\u%04x", static_cast<unsigned>(c));
            json += escape;
        } else {
            if (c == '"' || c == '\\') json += '\\';
            json += c;
        }
    }
    return json + '"';
}

std::string message(const std::string &role, const std::string &text) {
    return R"({"role": ")" + role + R"(", "content": )" + quoted(text) + "}";
}

class Chat {
  public:
    Chat(const dgemma::Model &model, dgemma::Context &context)
        : model_(model), context_(context), canceller_(context.canceller()) {
        params_.max_tokens = context.info().context_size; // until the model ends its text
        params_.on_text = [](std::string_view text) { std::cout << text << std::flush; };
    }

    // One message and its answer.
    void turn(const std::string &text) {
        const auto history = messages_;
        messages_ += (messages_.empty() ? "" : ", ") + message("user", text);
        const auto prompt = model_.render_chat("[" + messages_ + "]");
        const auto tokens = model_.tokenize(prompt, DGEMMA_TOKENIZE_PARSE_SPECIAL);
        auto generation = answer(tokens);
        std::cout << std::endl;
        if (!generation) {
            std::cerr << "[" << generation.error().what() << "]\n";
            messages_ = history;
        } else if (generation->stop_reason == DGEMMA_STOP_REASON_CANCELLED && generation->text.empty()) {
            messages_ = history;
        } else {
            messages_ += ", " + message("assistant", generation->text);
        }
    }

  private:
    // A conversation that has become too long is an error that the chat survives: a result, not an exception.
    dgemma::Result<dgemma::Generation> answer(const std::vector<dgemma::Token> &tokens) {
        const auto reused = context_.try_set_tokens(tokens);
        if (!reused) return reused.error();
        canceller_.clear(); // a Ctrl-C that came too late for the answer before
        answering = true;
        auto generation = context_.try_generate(params_);
        answering = false;
        if (generation) {
            const bool cancelled = generation->stop_reason == DGEMMA_STOP_REASON_CANCELLED;
            std::cerr << "[" << (cancelled ? "cancelled; " : "") << *reused << " of " << tokens.size()
                      << " tokens reused, " << generation->steps << " steps]\n";
        }
        return generation;
    }

    const dgemma::Model &model_;
    dgemma::Context &context_;
    dgemma::Canceller canceller_;
    dgemma::GenerateParams params_;
    std::string messages_;
};

} // namespace

int main(int argc, char **argv) try {
    if (argc != 2) throw std::invalid_argument("usage: chat MODEL");
    sigset_t interrupt;
    sigemptyset(&interrupt);
    sigaddset(&interrupt, SIGINT);
    pthread_sigmask(SIG_BLOCK, &interrupt, nullptr); // before there are other threads: they inherit it

    const auto model = dgemma::Model::load(argv[1]);
    auto context = model.context();
    cancel_on_interrupt(context.canceller(), interrupt);
    Chat chat(model, context);
    for (std::string line; std::getline(std::cin, line);) {
        if (!line.empty()) chat.turn(line);
    }
} catch (const std::exception &error) {
    std::cerr << error.what() << '\n';
    return 1;
}

/*
 * libdgemma for C++17 and newer: RAII over dgemma.h, header only.
 *
 *     #include <dgemma.hpp>
 *     #include <iostream>
 *
 *     int main(int, char **argv) {
 *         const auto model = dgemma::Model::load(argv[1]);
 *         dgemma::GenerateParams params;
 *         params.on_text = [](std::string_view text) { std::cout << text << std::flush; };
 *         model.generate(argv[2], params);
 *     }
 *
 * Every method is one C function; ranges, statuses and lifetimes are told in dgemma.h, with that function. What this header
 * adds:
 *
 * - Objects own what they hold, can be moved, and may be destroyed in any order. An empty one (moved from) answers
 *   DGEMMA_STATUS_INVALID_ARGUMENT.
 * - Errors, by choice. name() throws dgemma::Error; try_name() gives a dgemma::Result, much like std::expected. With
 *   -fno-exceptions only the try_ form exists. Both can be used in one program.
 * - Options are the C structs with their defaults filled in. Members that are pointers there are vectors and lambdas here.
 * - Callbacks are any callables that return nothing, or a Flow to be able to stop. One that throws stops the call, and the
 *   exception comes out of the method that was called (of its try_ form, too), not through the C frames.
 * - Texts are UTF-8 in std::string. Those that C takes with a NUL at their end are refused if they have one inside.
 *
 * Threads: as in dgemma.h. A Model may be used by any number of threads at once, a Context and its Blocks by one at a time,
 * a Canceller by any.
 */
#ifndef DGEMMA_HPP
#define DGEMMA_HPP

#include "dgemma.h"

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <deque>
#include <exception>
#include <functional>
#include <initializer_list>
#include <iterator>
#include <memory>
#include <mutex>
#include <optional>
#include <stdexcept>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>
#include <variant>
#include <vector>

/* The two modes have names of their own, so that objects compiled with and without exceptions link into one program. */
#if defined(__cpp_exceptions) || defined(_CPPUNWIND)
#  define DGEMMA_HPP_EXCEPTIONS 1
#  define DGEMMA_HPP_MODE with_exceptions
#else
#  define DGEMMA_HPP_EXCEPTIONS 0
#  define DGEMMA_HPP_MODE without_exceptions
#endif

namespace dgemma {
inline namespace DGEMMA_HPP_MODE {

using Status = dgemma_status;
using Token = std::uint32_t;

/// A failed call: its status, and the library's line of text in what().
class Error : public std::runtime_error {
 public:
  Error(Status status, const std::string &text) : std::runtime_error(text), status_(status) {}
  Status status() const noexcept { return status_; }

 private:
  Status status_;
};

/// A value or an Error. `*result` and `result->` ask that there is a value, error() that there is none.
template <class T>
class [[nodiscard]] Result {
 public:
  Result(T value) : held_(std::in_place_index<0>, std::move(value)) {}
  Result(Error error) : held_(std::in_place_index<1>, std::move(error)) {}

  bool has_value() const noexcept { return held_.index() == 0; }
  explicit operator bool() const noexcept { return has_value(); }
  T &operator*() & noexcept { return *std::get_if<0>(&held_); }
  const T &operator*() const & noexcept { return *std::get_if<0>(&held_); }
  T &&operator*() && noexcept { return std::move(*std::get_if<0>(&held_)); }
  T *operator->() noexcept { return std::get_if<0>(&held_); }
  const T *operator->() const noexcept { return std::get_if<0>(&held_); }
  const Error &error() const noexcept { return *std::get_if<1>(&held_); }
  T value_or(T other) && { return has_value() ? std::move(**this) : std::move(other); }
#if DGEMMA_HPP_EXCEPTIONS
  /// The value; throws the Error.
  T value() && {
    if (!has_value()) throw error();
    return *std::move(*this);
  }
  const T &value() const & {
    if (!has_value()) throw error();
    return **this;
  }
#endif

 private:
  std::variant<T, Error> held_;
};

/// Success or an Error.
template <>
class [[nodiscard]] Result<void> {
 public:
  Result() = default;
  Result(Error error) : error_(std::move(error)) {}

  bool has_value() const noexcept { return !error_; }
  explicit operator bool() const noexcept { return has_value(); }
  const Error &error() const noexcept { return *error_; }
#if DGEMMA_HPP_EXCEPTIONS
  void value() const {
    if (error_) throw *error_;
  }
#endif

 private:
  std::optional<Error> error_;
};

/// Lent entries, as std::span of C++20: of a vector, an array, a list in braces, or a pointer and a number.
template <class T>
class Span {
 public:
  constexpr Span() noexcept = default;
  constexpr Span(T *data, std::size_t size) noexcept : data_(data), size_(size) {}
  template <class C, class = std::enable_if_t<
                         std::is_convertible_v<decltype(std::data(std::declval<C &>())), T *> &&
                         !std::is_same_v<std::decay_t<C>, Span>>>
  constexpr Span(C &&entries) noexcept : data_(std::data(entries)), size_(std::size(entries)) {}
  template <class U = T, class = std::enable_if_t<std::is_const_v<U>>>
  constexpr Span(std::initializer_list<std::remove_const_t<U>> entries) noexcept
      : Span(std::data(entries), entries.size()) {}

  constexpr T *data() const noexcept { return data_; }
  constexpr std::size_t size() const noexcept { return size_; }
  constexpr bool empty() const noexcept { return size_ == 0; }
  constexpr T *begin() const noexcept { return data_; }
  constexpr T *end() const noexcept { return data_ + size_; }
  constexpr T &operator[](std::size_t i) const noexcept { return data_[i]; }

 private:
  T *data_ = nullptr;
  std::size_t size_ = 0;
};

/// What a callback answers.
enum class Flow { Continue, Stop };

/// A callable of these arguments that returns nothing (to continue) or a Flow; or none.
template <class... Args>
class Callback {
 public:
  Callback() = default;
  Callback(std::nullptr_t) {}
  template <class F, class = std::enable_if_t<std::is_invocable_v<F &, Args...> &&
                                              !std::is_same_v<std::decay_t<F>, Callback>>>
  Callback(F f) {
    using R = std::invoke_result_t<F &, Args...>;
    static_assert(std::is_void_v<R> || std::is_same_v<R, Flow>, "a callback returns nothing or a dgemma::Flow");
    if constexpr (std::is_void_v<R>) {
      call_ = [f = std::move(f)](Args... args) mutable {
        f(args...);
        return Flow::Continue;
      };
    } else {
      call_ = std::move(f);
    }
  }
  explicit operator bool() const noexcept { return static_cast<bool>(call_); }
  Flow operator()(Args... args) const { return call_(args...); }

 private:
  std::function<Flow(Args...)> call_;
};

class Model;
class Context;
class Block;
class Canceller;
class Detokenizer;

namespace detail {

/// The error of the call that just failed on this thread.
inline Error failure(Status status) { return Error(status, dgemma_last_error()); }

inline Error refused(const char *argument, const std::string &what) {
  return Error(DGEMMA_STATUS_INVALID_ARGUMENT, "argument `" + std::string(argument) + "`: " + what);
}

inline Result<void> checked(Status status) {
  if (status != DGEMMA_STATUS_OK) return failure(status);
  return {};
}

/// The output of a call that takes a pointer to it.
template <class T, class F>
Result<T> output(F call) {
  T out{};
  const Status status = call(&out);
  if (status != DGEMMA_STATUS_OK) return failure(status);
  return out;
}

/// The same where DGEMMA_STATUS_NOT_FOUND is an answer.
template <class T>
Result<std::optional<T>> found(Result<T> result) {
  if (result) return std::optional<T>(*std::move(result));
  if (result.error().status() == DGEMMA_STATUS_NOT_FOUND) return std::optional<T>();
  return result.error();
}

/// A report: a struct that is told its size.
template <class T, class F>
Result<T> report(F call) {
  T out{};
  out.struct_size = sizeof out;
  const Status status = call(&out);
  if (status != DGEMMA_STATUS_OK) return failure(status);
  return out;
}

/// An object that comes through a `T **out`.
template <class Object, class T, class F>
Result<Object> object(F call) {
  T *out = nullptr;
  const Status status = call(&out);
  if (status != DGEMMA_STATUS_OK) return failure(status);
  return Object(out);
}

/// A struct that the library lends, which may be shorter or longer than this header knows.
template <class T>
T copied(const T *lent) noexcept {
  T own{};
  std::memcpy(&own, lent, lent->struct_size < sizeof own ? lent->struct_size : sizeof own);
  return own;
}

/// A text of unknown length: once more where the first room was too small.
template <class F>
Result<std::string> text(F fill) {
  std::string out(255, '\0');
  for (;;) {
    std::size_t len = 0;
    const Status status = fill(out.data(), out.size() + 1, &len);
    if (status != DGEMMA_STATUS_OK && status != DGEMMA_STATUS_BUFFER_TOO_SMALL) return failure(status);
    out.resize(len);
    if (status == DGEMMA_STATUS_OK) return out;
  }
}

/// A list of unknown length, likewise.
template <class T, class F>
Result<std::vector<T>> list(F fill) {
  std::vector<T> out;
  for (;;) {
    std::size_t len = 0;
    const Status status = fill(out.data(), out.size(), &len);
    if (status != DGEMMA_STATUS_OK && status != DGEMMA_STATUS_BUFFER_TOO_SMALL) return failure(status);
    out.resize(len);
    if (status == DGEMMA_STATUS_OK) return out;
  }
}

/// A NUL inside would cut the text in silence.
inline std::optional<Error> nul_inside(const std::string &text, const char *argument) {
  const std::size_t at = text.find('\0');
  if (at == std::string::npos) return std::nullopt;
  return refused(argument, "has a NUL at byte " + std::to_string(at));
}

/// Runs callbacks of one call: remembers that one of them stopped or threw, and calls none after that.
class Caller {
 public:
  template <class F>
  int run(F callback) noexcept {
    if (stopped_) return 1;
#if DGEMMA_HPP_EXCEPTIONS
    try {
      stopped_ = callback() == Flow::Stop;
    } catch (...) {
      stopped_ = true;
      thrown_ = std::current_exception();
    }
#else
    stopped_ = callback() == Flow::Stop;
#endif
    return stopped_ ? 1 : 0;
  }
  /// After the call: throws on what a callback threw, and is ready for the next.
  void rethrow() {
    stopped_ = false;
#if DGEMMA_HPP_EXCEPTIONS
    if (thrown_) std::rethrow_exception(std::exchange(thrown_, nullptr));
#endif
  }

 private:
  bool stopped_ = false;
#if DGEMMA_HPP_EXCEPTIONS
  std::exception_ptr thrown_;
#endif
};

template <auto Function>
struct Free {
  template <class T>
  void operator()(T *pointer) const noexcept {
    Function(pointer);
  }
};

/// What all objects are: an owned pointer, or none.
template <class T, auto Function>
class Handle {
 public:
  Handle() = default;
  /// Takes over an object of the C API.
  explicit Handle(T *owned) noexcept : pointer_(owned) {}
  /// For calls of the C API; still owned here.
  T *get() const noexcept { return pointer_.get(); }
  /// Gives the object up.
  T *release() noexcept { return pointer_.release(); }
  explicit operator bool() const noexcept { return pointer_ != nullptr; }

 private:
  std::unique_ptr<T, Free<Function>> pointer_;
};

}  // namespace detail

/// A denoising step. Its arrays are lent: for the time of the callback, or until the block's next step.
struct Step : dgemma_step {
  explicit Step(const dgemma_step &lent) noexcept : dgemma_step(detail::copied(&lent)) {}
  Span<const Token> draft() const noexcept { return of(dgemma_step::draft); }
  Span<const float> entropy() const noexcept { return of(dgemma_step::entropy); }
  Span<const std::uint8_t> accepted() const noexcept { return of(dgemma_step::accepted); }
  Span<const Token> canvas() const noexcept { return of(dgemma_step::canvas); }
  Span<const Token> drawn() const noexcept { return of(dgemma_step::drawn); }
  Span<const float> log_prob() const noexcept { return of(dgemma_step::log_prob); }
  Span<const std::uint8_t> changed() const noexcept { return of(dgemma_step::changed); }
  Span<const std::uint8_t> pinned() const noexcept { return of(dgemma_step::pinned); }

 private:
  template <class T>
  Span<const T> of(const T *array) const noexcept {
    return {array, array ? canvas_length : 0};
  }
};

/// Noise about to be used, to be recorded or written over. One of the two arrays is empty, by purpose.
struct Noise : dgemma_noise {
  explicit Noise(const dgemma_noise &lent) noexcept : dgemma_noise(detail::copied(&lent)) {}
  Span<Token> tokens() const noexcept { return {dgemma_noise::tokens, dgemma_noise::tokens ? canvas_length : 0}; }
  Span<float> draws() const noexcept { return {dgemma_noise::draws, dgemma_noise::draws ? canvas_length : 0}; }
};

/// How to load a model: the fields of dgemma_model_params.
struct ModelParams : dgemma_model_params {
  ModelParams() noexcept : dgemma_model_params() { dgemma_model_params_init(this, sizeof(dgemma_model_params)); }
  /// Hears the share done, 0 to 1.
  Callback<float> on_progress;
};

/// How to make a context: the fields of dgemma_context_params.
struct ContextParams : dgemma_context_params {
  ContextParams() noexcept : dgemma_context_params() {
    dgemma_context_params_init(this, sizeof(dgemma_context_params));
  }
};

/// The sampler's numbers: the fields of dgemma_sampler_params. Those of a model: Model::sampler_params().
struct SamplerParams : dgemma_sampler_params {
  /// The numbers of the reference implementation.
  SamplerParams() noexcept : dgemma_sampler_params() {
    dgemma_sampler_params_init(this, sizeof(dgemma_sampler_params), nullptr);
  }
  std::vector<dgemma_logit_bias> logit_bias;
  std::vector<Token> banned;

  /// For the C API; points into this object.
  dgemma_sampler_params c() const noexcept {
    dgemma_sampler_params c = *this;
    c.logit_bias = logit_bias.data();
    c.n_logit_bias = logit_bias.size();
    c.banned = banned.data();
    c.n_banned = banned.size();
    return c;
  }
};

/// What to generate: the fields of dgemma_generate_params.
struct GenerateParams : dgemma_generate_params {
  GenerateParams() noexcept : dgemma_generate_params() {
    dgemma_generate_params_init(this, sizeof(dgemma_generate_params));
  }
  std::optional<SamplerParams> sampler;
  /// Final text; joined together it is Generation::text.
  Callback<std::string_view> on_text;
  /// Text before it is final: each replaces the one before, and the next on_text replaces it for good.
  Callback<std::string_view> on_early_text;
  /// A canvas's number and its committed tokens.
  Callback<std::uint32_t, Span<const Token>> on_tokens;
  Callback<const Step &> on_step;
  /// Tokens encoded, of how many.
  Callback<std::size_t, std::size_t> on_prefill;
  Callback<const Noise &> on_noise;
};

/// What a block starts from: the fields of dgemma_block_params.
struct BlockParams : dgemma_block_params {
  BlockParams() noexcept : dgemma_block_params() { dgemma_block_params_init(this, sizeof(dgemma_block_params)); }
  std::optional<SamplerParams> sampler;
  /// A token for each position, or empty. Where canvas_length is 0, their number is its length.
  std::vector<Token> tokens;
  /// DGEMMA_SLOT_* for each position, or empty.
  std::vector<std::uint8_t> slots;
  Callback<const Noise &> on_noise;
};

/// A finished generation.
struct Generation : dgemma_generation {
  /// All that on_text heard.
  std::string text;
};

namespace detail {

/// GenerateParams for the time of one call.
class Generating {
 public:
  explicit Generating(const GenerateParams &params) : params_(params), c_(params) {
    c_.user_data = this;
    if (params.sampler) {
      sampler_ = params.sampler->c();
      c_.sampler = &sampler_;
    }
    c_.on_text = [](const char *text, std::size_t len, void *self) { return of(self).hear({text, len}); };
    if (params.on_early_text) {
      c_.on_early_text = [](const char *text, std::size_t len, void *self) {
        return of(self).caller_.run([&] { return of(self).params_.on_early_text({text, len}); });
      };
    }
    if (params.on_tokens) {
      c_.on_tokens = [](std::uint32_t block, const Token *tokens, std::size_t n, void *self) {
        return of(self).caller_.run([&] { return of(self).params_.on_tokens(block, {tokens, n}); });
      };
    }
    if (params.on_step) {
      c_.on_step = [](const dgemma_step *step, void *self) {
        return of(self).caller_.run([&] { return of(self).params_.on_step(Step(*step)); });
      };
    }
    if (params.on_prefill) {
      c_.on_prefill = [](std::size_t encoded, std::size_t total, void *self) {
        return of(self).caller_.run([&] { return of(self).params_.on_prefill(encoded, total); });
      };
    }
    if (params.on_noise) {
      c_.on_noise = [](const dgemma_noise *noise, void *self) {
        return of(self).caller_.run([&] { return of(self).params_.on_noise(Noise(*noise)); });
      };
    }
  }
  Generating(const Generating &) = delete;
  Generating &operator=(const Generating &) = delete;

  template <class F>
  Result<Generation> run(F call) {
    const Status status = call(&c_, static_cast<dgemma_generation *>(&out_));
    caller_.rethrow();
    if (status != DGEMMA_STATUS_OK) return failure(status);
    return std::move(out_);
  }

 private:
  static Generating &of(void *self) noexcept { return *static_cast<Generating *>(self); }

  int hear(std::string_view text) noexcept {
    return caller_.run([&] {
      out_.text += text;
      return params_.on_text ? params_.on_text(text) : Flow::Continue;
    });
  }

  const GenerateParams &params_;
  dgemma_generate_params c_;
  dgemma_sampler_params sampler_{};
  Generation out_{};
  Caller caller_;
};

/// A block's noise callback, at an address that stays while the block is moved.
struct NoiseHearer {
  Callback<const Noise &> on_noise;
  Caller caller;

  static int hear(const dgemma_noise *noise, void *self) noexcept {
    auto &hearer = *static_cast<NoiseHearer *>(self);
    return hearer.caller.run([&] { return hearer.on_noise(Noise(*noise)); });
  }
};

}  // namespace detail

/// Decodes a text token by token into complete characters.
class Detokenizer : public detail::Handle<dgemma_detokenizer, dgemma_detokenizer_free> {
 public:
  using Handle::Handle;

  /// The text that these tokens complete, which may be none.
  Result<std::string> try_push(Span<const Token> tokens) {
    return detail::text([&](char *buffer, std::size_t cap, std::size_t *len) {
      return dgemma_detokenizer_push(get(), tokens.data(), tokens.size(), buffer, cap, len);
    });
  }
  /// What was held back; a new text begins.
  Result<std::string> try_finish() {
    return detail::text([&](char *buffer, std::size_t cap, std::size_t *len) {
      return dgemma_detokenizer_finish(get(), buffer, cap, len);
    });
  }
#if DGEMMA_HPP_EXCEPTIONS
  std::string push(Span<const Token> tokens) { return try_push(tokens).value(); }
  std::string finish() { return try_finish().value(); }
#endif
};

/// A context's stop button for other threads. May outlive the context.
class Canceller : public detail::Handle<dgemma_canceller, dgemma_canceller_free> {
 public:
  using Handle::Handle;

  Result<void> try_cancel() const { return detail::checked(dgemma_canceller_cancel(get())); }
  Result<void> try_clear() const { return detail::checked(dgemma_canceller_clear(get())); }
#if DGEMMA_HPP_EXCEPTIONS
  void cancel() const { try_cancel().value(); }
  void clear() const { try_clear().value(); }
#endif
};

/// A canvas being denoised behind a context's sequence.
class Block : public detail::Handle<dgemma_block, dgemma_block_free> {
 public:
  using Handle::Handle;

  /// One denoising step; true: it was the last.
  Result<bool> try_step() {
    int done = 0;
    const Status status = dgemma_block_step(get(), &done);
    if (hearer_) hearer_->caller.rethrow();
    if (status != DGEMMA_STATUS_OK) return detail::failure(status);
    return done != 0;
  }
  /// What the last step found. Its arrays are lent until the next step.
  Result<Step> try_describe() const {
    const auto step = detail::report<dgemma_step>([&](dgemma_step *out) { return dgemma_block_describe(get(), out); });
    if (!step) return step.error();
    return Step(*step);
  }
  /// [rows, vocab_size], row by row, at temperature 1.
  Result<std::vector<float>> try_log_probs(Span<const std::uint32_t> rows) {
    return detail::list<float>([&](float *out, std::size_t cap, std::size_t *len) {
      return dgemma_block_log_probs(get(), rows.data(), rows.size(), out, cap, len);
    });
  }
  /// [rows, vocab_size], row by row.
  Result<std::vector<float>> try_logits(Span<const std::uint32_t> rows) {
    return detail::list<float>([&](float *out, std::size_t cap, std::size_t *len) {
      return dgemma_block_logits(get(), rows.data(), rows.size(), out, cap, len);
    });
  }
  /// Log-probabilities of the candidates, in their order.
  Result<std::vector<float>> try_score(Span<const dgemma_candidate> candidates) {
    std::vector<float> out(candidates.size());
    const Status status = dgemma_block_score(get(), candidates.data(), candidates.size(), out.data());
    if (status != DGEMMA_STATUS_OK) return detail::failure(status);
    return out;
  }
  /// Appends the first `n` tokens of the draft to the context's sequence.
  Result<void> try_commit(std::size_t n) { return detail::checked(dgemma_block_commit(get(), n)); }
#if DGEMMA_HPP_EXCEPTIONS
  bool step() { return try_step().value(); }
  Step describe() const { return try_describe().value(); }
  std::vector<float> log_probs(Span<const std::uint32_t> rows) { return try_log_probs(rows).value(); }
  std::vector<float> logits(Span<const std::uint32_t> rows) { return try_logits(rows).value(); }
  std::vector<float> score(Span<const dgemma_candidate> candidates) { return try_score(candidates).value(); }
  void commit(std::size_t n) { try_commit(n).value(); }
#endif

 private:
  friend class Context;
  std::unique_ptr<detail::NoiseHearer> hearer_;
};

/// A sequence of tokens being read and written.
class Context : public detail::Handle<dgemma_context, dgemma_context_free> {
 public:
  using Handle::Handle;

  /// Adds tokens at the end.
  Result<void> try_append(Span<const Token> tokens) {
    return detail::checked(dgemma_context_append(get(), tokens.data(), tokens.size()));
  }
  /// Makes `tokens` the whole sequence; gives how many need not be encoded again.
  Result<std::size_t> try_set_tokens(Span<const Token> tokens) {
    return detail::output<std::size_t>([&](std::size_t *reused) {
      return dgemma_context_set_tokens(get(), tokens.data(), tokens.size(), reused);
    });
  }
  /// Keeps the first `length` tokens.
  Result<void> try_truncate(std::size_t length) { return detail::checked(dgemma_context_truncate(get(), length)); }
  Result<void> try_reset() { return detail::checked(dgemma_context_reset(get())); }
  Result<std::vector<Token>> try_tokens() const {
    return detail::list<Token>([&](Token *out, std::size_t cap, std::size_t *len) {
      return dgemma_context_tokens(get(), out, cap, len);
    });
  }
  /// Encodes what is not encoded yet. The callback hears of tokens encoded, of how many.
  Result<void> try_prefill(const Callback<std::size_t, std::size_t> &on_prefill = nullptr) {
    struct Hearer {
      const Callback<std::size_t, std::size_t> &callback;
      detail::Caller caller;
    } hearer{on_prefill, {}};
    dgemma_prefill_callback hear = [](std::size_t encoded, std::size_t total, void *user_data) {
      auto &own = *static_cast<Hearer *>(user_data);
      return own.caller.run([&] { return own.callback(encoded, total); });
    };
    const Status status = dgemma_context_prefill(get(), on_prefill ? hear : nullptr, &hearer);
    hearer.caller.rethrow();
    return detail::checked(status);
  }
  /// Generates behind the sequence, which grows by the committed tokens.
  Result<Generation> try_generate(const GenerateParams &params = {}) {
    return detail::Generating(params).run([&](const dgemma_generate_params *c, dgemma_generation *out) {
      return dgemma_context_generate(get(), c, out);
    });
  }
  /// Begins a block behind the sequence.
  Result<Block> try_begin_block(const BlockParams &params = {});
  /// Log-probabilities of the candidates on this canvas, in their order; the sequence stays as it is.
  Result<std::vector<float>> try_score(Span<const Token> canvas, Span<const dgemma_candidate> candidates) {
    std::vector<float> out(candidates.size());
    const Status status = dgemma_context_score(get(), canvas.data(), canvas.size(), candidates.data(),
                                               candidates.size(), out.data());
    if (status != DGEMMA_STATUS_OK) return detail::failure(status);
    return out;
  }
  Result<dgemma_context_info> try_info() const {
    return detail::report<dgemma_context_info>(
        [&](dgemma_context_info *out) { return dgemma_context_describe(get(), out); });
  }
  Result<dgemma_perf> try_perf() const {
    return detail::report<dgemma_perf>([&](dgemma_perf *out) { return dgemma_context_perf(get(), out); });
  }
  Result<dgemma_memory> try_memory() const {
    return detail::report<dgemma_memory>([&](dgemma_memory *out) { return dgemma_context_memory(get(), out); });
  }
  /// The text of the last failure on this context, whatever thread it was on. Any thread may ask.
  Result<std::string> try_last_error() const {
    return detail::text([&](char *buffer, std::size_t cap, std::size_t *len) {
      return dgemma_context_last_error(get(), buffer, cap, len);
    });
  }
  /// A stop button. Any thread may make one.
  Result<Canceller> try_canceller() const {
    return detail::object<Canceller, dgemma_canceller>(
        [&](dgemma_canceller **out) { return dgemma_canceller_create(get(), out); });
  }
  /// A copy that goes its own way.
  Result<Context> try_clone() const {
    return detail::object<Context, dgemma_context>(
        [&](dgemma_context **out) { return dgemma_context_clone(get(), out); });
  }
  Result<std::vector<std::uint8_t>> try_save() const {
    return detail::list<std::uint8_t>([&](std::uint8_t *out, std::size_t cap, std::size_t *len) {
      return dgemma_context_save(get(), out, cap, len);
    });
  }
  Result<void> try_load(Span<const std::uint8_t> bytes) {
    return detail::checked(dgemma_context_load(get(), bytes.data(), bytes.size()));
  }
  Result<void> try_save_file(const std::string &path) const {
    if (auto error = detail::nul_inside(path, "path")) return *error;
    return detail::checked(dgemma_context_save_file(get(), path.c_str()));
  }
  Result<void> try_load_file(const std::string &path) {
    if (auto error = detail::nul_inside(path, "path")) return *error;
    return detail::checked(dgemma_context_load_file(get(), path.c_str()));
  }
#if DGEMMA_HPP_EXCEPTIONS
  void append(Span<const Token> tokens) { try_append(tokens).value(); }
  std::size_t set_tokens(Span<const Token> tokens) { return try_set_tokens(tokens).value(); }
  void truncate(std::size_t length) { try_truncate(length).value(); }
  void reset() { try_reset().value(); }
  std::vector<Token> tokens() const { return try_tokens().value(); }
  void prefill(const Callback<std::size_t, std::size_t> &on_prefill = nullptr) { try_prefill(on_prefill).value(); }
  Generation generate(const GenerateParams &params = {}) { return try_generate(params).value(); }
  Block begin_block(const BlockParams &params = {}) { return try_begin_block(params).value(); }
  std::vector<float> score(Span<const Token> canvas, Span<const dgemma_candidate> candidates) {
    return try_score(canvas, candidates).value();
  }
  dgemma_context_info info() const { return try_info().value(); }
  dgemma_perf perf() const { return try_perf().value(); }
  dgemma_memory memory() const { return try_memory().value(); }
  std::string last_error() const { return try_last_error().value(); }
  Canceller canceller() const { return try_canceller().value(); }
  Context clone() const { return try_clone().value(); }
  std::vector<std::uint8_t> save() const { return try_save().value(); }
  void load(Span<const std::uint8_t> bytes) { try_load(bytes).value(); }
  void save_file(const std::string &path) const { try_save_file(path).value(); }
  void load_file(const std::string &path) { try_load_file(path).value(); }
#endif
};

inline Result<Block> Context::try_begin_block(const BlockParams &params) {
  dgemma_block_params c = params;
  dgemma_sampler_params sampler{};
  if (params.sampler) {
    sampler = params.sampler->c();
    c.sampler = &sampler;
  }
  // C takes both arrays at the canvas's length: it must be theirs.
  const std::size_t entries = params.tokens.empty() ? params.slots.size() : params.tokens.size();
  if (c.canvas_length == 0) c.canvas_length = static_cast<std::uint32_t>(entries);
  if (entries != 0 && entries != c.canvas_length)
    return detail::refused(params.tokens.empty() ? "slots" : "tokens",
                           "has " + std::to_string(entries) + " entries, expected " + std::to_string(c.canvas_length));
  if (!params.slots.empty() && params.slots.size() != entries)
    return detail::refused("slots", "has " + std::to_string(params.slots.size()) + " entries, expected " +
                                        std::to_string(entries));
  c.tokens = params.tokens.empty() ? nullptr : params.tokens.data();
  c.slots = params.slots.empty() ? nullptr : params.slots.data();

  std::unique_ptr<detail::NoiseHearer> hearer;
  if (params.on_noise) {
    hearer = std::make_unique<detail::NoiseHearer>();
    hearer->on_noise = params.on_noise;
    c.on_noise = detail::NoiseHearer::hear;
    c.user_data = hearer.get();
  }
  auto block = detail::object<Block, dgemma_block>(
      [&](dgemma_block **out) { return dgemma_block_begin(get(), &c, out); });
  if (hearer) hearer->caller.rethrow();
  if (block) block->hearer_ = std::move(hearer);
  return block;
}

/// A loaded model. Any number of threads may use it at once.
class Model : public detail::Handle<dgemma_model, dgemma_model_free> {
 public:
  using Handle::Handle;

  /// Loads a GGUF file, or a split set by its first part.
  static Result<Model> try_load(const std::string &path, const ModelParams &params = {}) {
    if (auto error = detail::nul_inside(path, "path")) return *error;
    struct Hearer {
      const Callback<float> &callback;
      detail::Caller caller;
    } hearer{params.on_progress, {}};
    dgemma_model_params c = params;
    if (params.on_progress) {
      c.user_data = &hearer;
      c.on_progress = [](float fraction, void *user_data) {
        auto &own = *static_cast<Hearer *>(user_data);
        return own.caller.run([&] { return own.callback(fraction); });
      };
    }
    auto model = detail::object<Model, dgemma_model>(
        [&](dgemma_model **out) { return dgemma_model_load(path.c_str(), &c, out); });
    hearer.caller.rethrow();
    return model;
  }
  Result<dgemma_model_info> try_info() const {
    return detail::report<dgemma_model_info>([&](dgemma_model_info *out) { return dgemma_model_describe(get(), out); });
  }
  Result<dgemma_memory> try_memory() const {
    return detail::report<dgemma_memory>([&](dgemma_memory *out) { return dgemma_model_memory(get(), out); });
  }
  Result<std::uint64_t> try_fingerprint() const {
    return detail::output<std::uint64_t>([&](std::uint64_t *out) { return dgemma_model_fingerprint(get(), out); });
  }
  /// How many keys the file's metadata has.
  std::size_t metadata_count() const noexcept { return dgemma_model_metadata_count(get()); }
  Result<std::string> try_metadata_key(std::size_t index) const {
    return detail::text([&](char *buffer, std::size_t cap, std::size_t *len) {
      return dgemma_model_metadata_key(get(), index, buffer, cap, len);
    });
  }
  /// A string as it is, anything else as JSON; nothing: no such key.
  Result<std::optional<std::string>> try_metadata(const std::string &key) const {
    if (auto error = detail::nul_inside(key, "key")) return *error;
    return detail::found(detail::text([&](char *buffer, std::size_t cap, std::size_t *len) {
      return dgemma_model_metadata_value(get(), key.c_str(), buffer, cap, len);
    }));
  }
  /// `flags`: DGEMMA_TOKENIZE_* values added up.
  Result<std::vector<Token>> try_tokenize(std::string_view text, std::uint32_t flags = 0) const {
    return detail::list<Token>([&](Token *out, std::size_t cap, std::size_t *len) {
      return dgemma_model_tokenize(get(), text.data(), text.size(), flags, out, cap, len);
    });
  }
  /// `flags`: DGEMMA_DETOKENIZE_SPECIAL or 0.
  Result<std::string> try_detokenize(Span<const Token> tokens, std::uint32_t flags = 0) const {
    return detail::text([&](char *buffer, std::size_t cap, std::size_t *len) {
      return dgemma_model_detokenize(get(), tokens.data(), tokens.size(), flags, buffer, cap, len);
    });
  }
  Result<Detokenizer> try_detokenizer(std::uint32_t flags = 0) const {
    return detail::object<Detokenizer, dgemma_detokenizer>(
        [&](dgemma_detokenizer **out) { return dgemma_detokenizer_create(get(), flags, out); });
  }
  /// A token as the vocabulary spells it.
  Result<std::string> try_piece(Token token) const {
    return detail::text([&](char *buffer, std::size_t cap, std::size_t *len) {
      return dgemma_token_piece(get(), token, buffer, cap, len);
    });
  }
  /// DGEMMA_TOKEN_* values added up.
  Result<std::uint32_t> try_attributes(Token token) const {
    return detail::output<std::uint32_t>(
        [&](std::uint32_t *out) { return dgemma_token_attributes(get(), token, out); });
  }
  /// Whether the token ends an answer.
  bool is_end(Token token) const noexcept { return dgemma_token_is_end(get(), token) != 0; }
  /// The token spelled so; nothing: there is none.
  Result<std::optional<Token>> try_find(std::string_view piece) const {
    return detail::found(detail::output<Token>(
        [&](Token *out) { return dgemma_token_find(get(), piece.data(), piece.size(), out); }));
  }
  /// The token of a DGEMMA_SPECIAL_* role; nothing: the vocabulary has none.
  Result<std::optional<Token>> try_special(std::uint32_t role) const {
    return detail::found(
        detail::output<Token>([&](Token *out) { return dgemma_model_special_token(get(), role, out); }));
  }
  /// A conversation (JSON, as are the tools, if any) through the model's chat template.
  Result<std::string> try_render_chat(const std::string &messages, const std::string &tools = {},
                                      std::uint32_t flags = DGEMMA_CHAT_ADD_GENERATION_PROMPT) const {
    if (auto error = detail::nul_inside(messages, "messages")) return *error;
    if (auto error = detail::nul_inside(tools, "tools")) return *error;
    return detail::text([&](char *buffer, std::size_t cap, std::size_t *len) {
      return dgemma_chat_render(get(), messages.c_str(), tools.empty() ? nullptr : tools.c_str(), flags, buffer, cap,
                                len);
    });
  }
  /// The model's own numbers.
  Result<SamplerParams> try_sampler_params() const {
    SamplerParams out;
    const Status status = dgemma_sampler_params_init(&out, sizeof(dgemma_sampler_params), get());
    if (status != DGEMMA_STATUS_OK) return detail::failure(status);
    return out;
  }
  Result<Context> try_context(const ContextParams &params = {}) const {
    return detail::object<Context, dgemma_context>(
        [&](dgemma_context **out) { return dgemma_context_create(get(), &params, out); });
  }
  /// Generates behind a prompt, in a context of its own.
  Result<Generation> try_generate(const std::string &prompt, const GenerateParams &params = {}) const {
    if (auto error = detail::nul_inside(prompt, "prompt")) return *error;
    return detail::Generating(params).run([&](const dgemma_generate_params *c, dgemma_generation *out) {
      return dgemma_generate(get(), prompt.c_str(), c, out);
    });
  }
#if DGEMMA_HPP_EXCEPTIONS
  static Model load(const std::string &path, const ModelParams &params = {}) {
    return try_load(path, params).value();
  }
  dgemma_model_info info() const { return try_info().value(); }
  dgemma_memory memory() const { return try_memory().value(); }
  std::uint64_t fingerprint() const { return try_fingerprint().value(); }
  std::string metadata_key(std::size_t index) const { return try_metadata_key(index).value(); }
  std::optional<std::string> metadata(const std::string &key) const { return try_metadata(key).value(); }
  std::vector<Token> tokenize(std::string_view text, std::uint32_t flags = 0) const {
    return try_tokenize(text, flags).value();
  }
  std::string detokenize(Span<const Token> tokens, std::uint32_t flags = 0) const {
    return try_detokenize(tokens, flags).value();
  }
  Detokenizer detokenizer(std::uint32_t flags = 0) const { return try_detokenizer(flags).value(); }
  std::string piece(Token token) const { return try_piece(token).value(); }
  std::uint32_t attributes(Token token) const { return try_attributes(token).value(); }
  std::optional<Token> find(std::string_view piece) const { return try_find(piece).value(); }
  std::optional<Token> special(std::uint32_t role) const { return try_special(role).value(); }
  std::string render_chat(const std::string &messages, const std::string &tools = {},
                          std::uint32_t flags = DGEMMA_CHAT_ADD_GENERATION_PROMPT) const {
    return try_render_chat(messages, tools, flags).value();
  }
  SamplerParams sampler_params() const { return try_sampler_params().value(); }
  Context context(const ContextParams &params = {}) const { return try_context(params).value(); }
  Generation generate(const std::string &prompt, const GenerateParams &params = {}) const {
    return try_generate(prompt, params).value();
  }
#endif
};

/// The library's version, e.g. "0.1.0".
inline std::string_view version() noexcept { return dgemma_version(); }

/// The DGEMMA_ABI_VERSION of the library that runs; that of this header is the macro.
inline std::uint32_t abi_version() noexcept { return dgemma_abi_version(); }

/// How the library was built, as `key=value` pairs.
inline std::string_view build_info() noexcept { return dgemma_build_info(); }

/// A status in words.
inline std::string_view status_text(Status status) noexcept { return dgemma_status_text(status); }

/// What can run a model here.
inline Result<std::vector<dgemma_device_info>> try_devices() {
  std::vector<dgemma_device_info> out;
  for (std::size_t i = 0; i < dgemma_device_count(); i++) {
    auto device = detail::report<dgemma_device_info>(
        [&](dgemma_device_info *info) { return dgemma_device_describe(i, info); });
    if (!device) return device.error();
    out.push_back(*device);
  }
  return out;
}
#if DGEMMA_HPP_EXCEPTIONS
inline std::vector<dgemma_device_info> devices() { return try_devices().value(); }
#endif

/// Receives a DGEMMA_LOG_* level and a line.
using Log = std::function<void(std::uint32_t, std::string_view)>;

/// Sends the messages of the whole process to `log`, or nowhere. Several threads may call it at once; what it throws is
/// dropped. It is kept to the end of the program, as a call on another thread may still be using it after it was replaced.
inline void set_log(Log log) {
  if (!log) {
    dgemma_log_set(nullptr, nullptr);
    return;
  }
  static std::mutex mutex;
  static auto &logs = *new std::deque<Log>;
  const std::lock_guard<std::mutex> lock(mutex);
  logs.push_back(std::move(log));
  const dgemma_log_callback hear = [](std::uint32_t level, const char *text, void *user_data) {
    detail::Caller().run([&] {
      (*static_cast<Log *>(user_data))(level, text);
      return Flow::Continue;
    });
  };
  dgemma_log_set(hear, &logs.back());
}

}  // namespace DGEMMA_HPP_MODE
}  // namespace dgemma

#undef DGEMMA_HPP_MODE

#endif  // DGEMMA_HPP

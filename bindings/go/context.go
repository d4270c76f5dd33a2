package dgemma

// #include "shim.h"
import "C"

import (
	"context"
	"sync"
	"time"
	"unsafe"
)

// A KVType is how a context stores keys and values.
type KVType uint32

const (
	// KVDefault is the library's choice: today KVF16, or KVF32 for a model loaded with Exact.
	KVDefault KVType = C.DGEMMA_KV_DEFAULT
	// KVF32 takes 4 bytes a number, exact.
	KVF32 KVType = C.DGEMMA_KV_F32
	// KVF16 takes 2 bytes a number, with a relative error up to 2^-11.
	KVF16 KVType = C.DGEMMA_KV_F16
	// KVBF16 takes 2 bytes a number, with a relative error up to 2^-8.
	KVBF16 KVType = C.DGEMMA_KV_BF16
)

// ContextOptions say how to make a context.
type ContextOptions struct {
	// Size in positions, prompt and canvas together; 0: 8192, or the model's limit if that is less.
	Size int
	// Seed of the generations and blocks that name none (seed 0).
	Seed uint64
	// Chunk is how many prompt tokens are encoded per pass; 0: 256. The text does not depend on it.
	Chunk  int
	KVType KVType
}

// A Context is a sequence of tokens being read and written, with the memory that this takes. It keeps the model it was
// made from alive. One call at a time: others are answered with [ErrBusy] and change nothing.
type Context struct {
	w *worker[*C.dgemma_context]
}

// NewContext makes an empty context and allocates its memory. Errors: [ErrInvalidArgument] (a size below one canvas or
// above the model's limit, too), [ErrOutOfMemory].
func (m *Model) NewContext(options *ContextOptions) (c *Context, err error) {
	if options == nil {
		options = new(ContextOptions)
	}
	var l limits
	var params C.dgemma_context_params
	C.dgemma_context_params_init(&params, C.sizeof_dgemma_context_params)
	params.context_size = l.size("context_size", options.Size)
	params.seed = C.uint64_t(options.Seed)
	params.chunk = l.u32("chunk", options.Chunk)
	params.kv_type = C.uint32_t(options.KVType)
	if l.err != nil {
		return nil, l.err
	}
	err = m.use(func(model *C.dgemma_model) error {
		var out *C.dgemma_context
		var text *C.char
		if err := check(C.shim_context_create(model, &params, &out, &text), &text); err != nil {
			return err
		}
		c, err = newContext(out)
		return err
	})
	return c, err
}

func newContext(context *C.dgemma_context) (*Context, error) {
	free := func(context *C.dgemma_context) { C.dgemma_context_free(context) }
	w, err := newWorker(context, free, context, new(sync.Mutex))
	if err != nil {
		return nil, err
	}
	return &Context{w}, nil
}

// Close frees the context. Blocks made from it stay usable and hold its memory until they are closed. Always nil.
func (c *Context) Close() error {
	if c != nil {
		c.w.close()
	}
	return nil
}

// run runs a call that does not compute.
func (c *Context) run(f func(context *C.dgemma_context, text **C.char) C.dgemma_status) error {
	if c == nil {
		return ErrClosed
	}
	return c.w.run(func(context *C.dgemma_context) error {
		var text *C.char
		return check(f(context, &text), &text)
	})
}

// compute runs a call that does.
func (c *Context) compute(ctx context.Context, hear func(any) error,
	f func(context *C.dgemma_context, user C.uintptr_t, text **C.char) C.dgemma_status) error {
	if c == nil {
		return ErrClosed
	}
	return c.w.compute(ctx, hear, func(context *C.dgemma_context, user C.uintptr_t) error {
		var text *C.char
		return check(f(context, user, &text), &text)
	})
}

// Append adds tokens at the end of the sequence. They are encoded when they are needed, or by [Context.Prefill]. Errors:
// [ErrInvalidArgument], [ErrContextFull] (nothing was added).
func (c *Context) Append(tokens ...Token) error {
	return c.run(func(context *C.dgemma_context, text **C.char) C.dgemma_status {
		return C.shim_context_append(context, tokenData(tokens), C.size_t(len(tokens)), text)
	})
}

// SetTokens makes tokens the whole sequence and keeps what is encoded of the longest prefix that old and new have in
// common: the cheap way to continue a conversation, or to regenerate from a changed place. Says how many tokens need not be
// encoded again. Errors: [ErrInvalidArgument], [ErrContextFull] (nothing was changed).
func (c *Context) SetTokens(tokens []Token) (reused int, err error) {
	var n C.size_t
	err = c.run(func(context *C.dgemma_context, text **C.char) C.dgemma_status {
		return C.shim_context_set_tokens(context, tokenData(tokens), C.size_t(len(tokens)), &n, text)
	})
	return int(n), err
}

// Truncate keeps the first length tokens. On models with sliding attention a deep cut can make it necessary to encode what
// is left again; the library does so when it is needed.
func (c *Context) Truncate(length int) error {
	if length < 0 {
		return invalid("length", "is %d, expected at least 0", length)
	}
	return c.run(func(context *C.dgemma_context, text **C.char) C.dgemma_status {
		return C.shim_context_truncate(context, C.size_t(length), text)
	})
}

// Reset empties the context: no tokens, counters at zero. Its memory is kept for the next sequence.
func (c *Context) Reset() error {
	return c.run(func(context *C.dgemma_context, text **C.char) C.dgemma_status {
		return C.shim_context_reset(context, text)
	})
}

// Tokens are those of the sequence.
func (c *Context) Tokens() (tokens []Token, err error) {
	if c == nil {
		return nil, ErrClosed
	}
	err = c.w.run(func(context *C.dgemma_context) (err error) {
		tokens, err = collect(1024, func(buffer []Token, n *C.size_t, text **C.char) C.dgemma_status {
			return C.shim_context_tokens(context, tokenData(buffer), C.size_t(len(buffer)), n, text)
		})
		return err
	})
	return tokens, err
}

// Prefill encodes the tokens that are not encoded yet, so that the next generation starts at once. onProgress hears of
// each chunk, or is nil. What is encoded when the call is stopped stays so.
func (c *Context) Prefill(ctx context.Context, onProgress func(encoded, total int) error) error {
	hears, hear := C.uint32_t(0), deaf
	if onProgress != nil {
		hears = C.SHIM_HEARS_PROGRESS
		hear = func(event any) error {
			e := event.(prefillEvent)
			return onProgress(e.encoded, e.total)
		}
	}
	return c.compute(ctx, hear, func(context *C.dgemma_context, user C.uintptr_t, text **C.char) C.dgemma_status {
		return C.shim_context_prefill(context, hears, user, text)
	})
}

// ContextInfo is the state of a context.
type ContextInfo struct {
	// Length of the sequence in tokens, and how many of them are encoded.
	Length, Encoded int
	// Size is how many positions the context holds at most, prompt and canvas together.
	Size int
	// Seed of the generations and blocks that name none.
	Seed uint64
	// Chunk is how many prompt tokens are encoded per pass.
	Chunk int
	// KVType of the cached keys and values; never KVDefault.
	KVType KVType
}

// Info reports the state of the context.
func (c *Context) Info() (ContextInfo, error) {
	info := C.dgemma_context_info{struct_size: C.sizeof_dgemma_context_info}
	err := c.run(func(context *C.dgemma_context, text **C.char) C.dgemma_status {
		return C.shim_context_describe(context, &info, text)
	})
	return ContextInfo{
		Length:  int(info.length),
		Encoded: int(info.encoded),
		Size:    int(info.context_size),
		Seed:    uint64(info.seed),
		Chunk:   int(info.chunk),
		KVType:  KVType(info.kv_type),
	}, err
}

// Perf is what a context did since it was made or reset.
type Perf struct {
	PrefillTokens, Steps, CommittedTokens, Scorings uint64
	// Time spent encoding, in denoising steps, and scoring.
	Prefill, Denoise, Scoring time.Duration
	// Of all three: in attention, projections included; in dense layers, routers and experts; in the output head.
	Attention, FeedForward, Head time.Duration
}

// Perf reports the performance counters of the context.
func (c *Context) Perf() (Perf, error) {
	perf := C.dgemma_perf{struct_size: C.sizeof_dgemma_perf}
	err := c.run(func(context *C.dgemma_context, text **C.char) C.dgemma_status {
		return C.shim_context_perf(context, &perf, text)
	})
	return Perf{
		PrefillTokens:   uint64(perf.prefill_tokens),
		Steps:           uint64(perf.steps),
		CommittedTokens: uint64(perf.committed_tokens),
		Scorings:        uint64(perf.scorings),
		Prefill:         seconds(perf.prefill_seconds),
		Denoise:         seconds(perf.denoise_seconds),
		Scoring:         seconds(perf.scoring_seconds),
		Attention:       seconds(perf.attention_seconds),
		FeedForward:     seconds(perf.feed_forward_seconds),
		Head:            seconds(perf.head_seconds),
	}, err
}

func seconds(s C.double) time.Duration {
	return time.Duration(float64(s) * float64(time.Second))
}

// A Candidate is a token whose probability is asked for.
type Candidate struct {
	// Position in the canvas, from 0.
	Position uint32
	Token    Token
}

// Score scores tokens by one pass over a canvas behind the sequence, which stays as it is: the natural logarithm of each
// candidate's probability at its position, at temperature 1 and without bias. The canvas has 1 to
// [ModelInfo.CanvasLength] tokens. Errors: [ErrInvalidArgument], [ErrContextFull] (the canvas does not fit), and what ctx
// says.
func (c *Context) Score(ctx context.Context, canvas []Token, candidates []Candidate) ([]float32, error) {
	scores := make([]float32, len(candidates))
	err := c.compute(ctx, deaf, func(context *C.dgemma_context, _ C.uintptr_t, text **C.char) C.dgemma_status {
		return C.shim_context_score(context, tokenData(canvas), C.size_t(len(canvas)), candidateData(candidates),
			C.size_t(len(candidates)), floatData(scores), text)
	})
	if err != nil {
		return nil, err
	}
	return scores, nil
}

func candidateData(c []Candidate) *C.dgemma_candidate {
	return (*C.dgemma_candidate)(unsafe.Pointer(unsafe.SliceData(c)))
}

func floatData(f []float32) *C.float {
	return (*C.float)(unsafe.Pointer(unsafe.SliceData(f)))
}

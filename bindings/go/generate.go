package dgemma

// #include "shim.h"
import "C"

import (
	"context"
	"errors"
	"runtime"
	"strings"
	"time"
)

// A PromptKind is what a prompt of [Model.Generate] is.
type PromptKind int

const (
	// PromptChat is a user's message, put into the model's chat template.
	PromptChat PromptKind = iota
	// PromptRaw is the text itself, with special tokens parsed and the begin token before it.
	PromptRaw
)

// GenerateOptions say what to generate. Callbacks run on the goroutine that called; an error of theirs stops.
type GenerateOptions struct {
	// Prompt is for [Model.Generate] and [Model.Text] only.
	Prompt PromptKind
	// ContextSize in positions, prompt and canvas together; 0: 8192, or the model's limit if that is less. For
	// [Model.Generate] and [Model.Text] only.
	ContextSize int
	// MaxTokens is how many tokens are generated at most; 0: one canvas.
	MaxTokens int
	// MaxSteps is how many denoising steps a canvas takes at most, 1 to 1000000; 0: the sampler's or the model's number.
	MaxSteps int
	// Seed: the same gives the same text on any number of threads. 0: the context's, if it has one.
	Seed uint64
	// Sampler has the sampler's numbers; nil: the model's.
	Sampler *Sampler
	// IgnoreEnd goes on past tokens that end an answer, which then are part of the text.
	IgnoreEnd bool
	// AdaptiveLastCanvas: where fewer tokens are wanted, or fit, than a canvas has, make the last canvas that short instead
	// of cutting its text. Cheaper, but not what the model was trained on.
	AdaptiveLastCanvas bool
	// ShowSpecial shows control tokens in texts.
	ShowSpecial bool

	// OnPrefill hears how far the prompt is encoded.
	OnPrefill func(encoded, total int) error
	// OnStep hears of each denoising step.
	OnStep func(step *Step) error
	// OnEarlyText receives text before it is final: the stable beginning of the canvas under way. Each such text replaces
	// the one before, and the next OnText replaces it for good. It rarely differs from what is committed then, but may.
	OnEarlyText func(text string) error
	// OnText receives the committed text of each canvas. Final: joined together it is the whole answer.
	OnText func(text string) error
	// OnTokens receives the committed tokens of each canvas, just before OnText gets their text.
	OnTokens func(block int, tokens []Token) error
	// OnNoise hears of all noise before it is used, and may replace it.
	OnNoise func(noise *Noise) error
	// OnEnd receives how it went, also when it was stopped, for those who loop over [Context.Text] or [Context.Steps].
	OnEnd func(Generation)
}

// StopReason is why a generation ended.
type StopReason int32

const (
	// StopEnd: the model ended its text.
	StopEnd StopReason = C.DGEMMA_STOP_REASON_END_OF_GENERATION
	// StopMaxTokens: MaxTokens tokens are there.
	StopMaxTokens StopReason = C.DGEMMA_STOP_REASON_MAX_TOKENS
	// StopContextFull: no further canvas fits into the context.
	StopContextFull StopReason = C.DGEMMA_STOP_REASON_CONTEXT_FULL
	// StopCancelled: a callback asked to stop, or a context.Context was done; complete canvases were delivered.
	StopCancelled StopReason = C.DGEMMA_STOP_REASON_CANCELLED
)

func (r StopReason) String() string {
	switch r {
	case StopEnd:
		return "end of generation"
	case StopMaxTokens:
		return "max tokens"
	case StopContextFull:
		return "context full"
	case StopCancelled:
		return "cancelled"
	}
	return "unknown stop reason"
}

// A Generation is what was generated, and how it went.
type Generation struct {
	// Text and Tokens that were committed. The token that ended the answer is in neither.
	Text       string
	Tokens     []Token
	StopReason StopReason
	// Blocks is how many canvases were denoised, and Steps how many denoising steps that took.
	Blocks, Steps int
	// PromptTokens before the generated ones.
	PromptTokens int
	// Prefill is the time spent encoding the prompt and committed canvases, Denoise that in denoising steps.
	Prefill, Denoise time.Duration
	// FirstCanvas is the time from the call to the first committed canvas; 0 if there was none.
	FirstCanvas time.Duration
	// Total is the time from the call to its end.
	Total time.Duration
}

// errStopped says that a generation ended as a success because something asked it to.
var errStopped error = &Error{StatusCancelled, "cancelled"}

// Generate generates behind the sequence, which grows by the committed tokens; the token that ends an answer is among them,
// so that the next turn of a conversation finds it (see [Context.SetTokens]).
//
// Errors: [ErrInvalidArgument], [ErrContextFull] (no canvas fits behind the sequence), [ErrBusy], what a callback answers,
// and what ctx says; the generation is what there was until then, complete canvases stay in the sequence.
func (c *Context) Generate(ctx context.Context, options *GenerateOptions) (Generation, error) {
	if options == nil {
		options = new(GenerateOptions)
	}
	var pin runtime.Pinner
	defer pin.Unpin()
	params, err := options.params(&pin)
	if err != nil {
		return Generation{}, err
	}
	hearer := hearer{options: options}
	var report C.dgemma_generation
	ended, err := c.generate(ctx, params, &hearer, &report)
	g := Generation{
		Text:         hearer.text.String(),
		Tokens:       hearer.tokens,
		StopReason:   StopReason(report.stop_reason),
		Blocks:       int(report.blocks),
		Steps:        int(report.steps),
		PromptTokens: int(report.prompt_tokens),
		Prefill:      seconds(report.prefill_seconds),
		Denoise:      seconds(report.denoise_seconds),
		FirstCanvas:  seconds(report.first_canvas_seconds),
		Total:        seconds(report.total_seconds),
	}
	if ended && options.OnEnd != nil {
		options.OnEnd(g)
	}
	if errors.Is(err, ErrCancelled) {
		g.StopReason = StopCancelled
	}
	if err == errStopped {
		err = nil
	}
	return g, err
}

// generate also says whether the generation came to an end that has a report: a cancel is one, a failure is not.
func (c *Context) generate(ctx context.Context, params *C.dgemma_generate_params, hearer *hearer,
	report *C.dgemma_generation) (ended bool, err error) {
	if c == nil {
		return false, ErrClosed
	}
	err = c.w.compute(ctx, hearer.hear, func(context *C.dgemma_context, user C.uintptr_t) error {
		var text *C.char
		err := check(C.shim_context_generate(context, params, hearer.hears(), user, report, &text), &text)
		ended = err == nil
		if ended && report.stop_reason == C.DGEMMA_STOP_REASON_CANCELLED {
			return errStopped
		}
		return err
	})
	return ended, err
}

func (o *GenerateOptions) params(pin *runtime.Pinner) (*C.dgemma_generate_params, error) {
	var l limits
	p := new(C.dgemma_generate_params)
	C.dgemma_generate_params_init(p, C.sizeof_dgemma_generate_params)
	p.max_tokens = l.size("max_tokens", o.MaxTokens)
	p.max_steps = l.u32("max_steps", o.MaxSteps)
	p.seed = C.uint64_t(o.Seed)
	p.sampler = o.Sampler.params(pin, &l)
	if o.IgnoreEnd {
		p.flags |= C.DGEMMA_GENERATE_IGNORE_END
	}
	if o.AdaptiveLastCanvas {
		p.flags |= C.DGEMMA_GENERATE_ADAPTIVE_LAST_CANVAS
	}
	if o.ShowSpecial {
		p.flags |= C.DGEMMA_GENERATE_SHOW_SPECIAL
	}
	return p, l.err
}

// A hearer keeps what a generation tells, and hands it to the program's callbacks.
type hearer struct {
	options *GenerateOptions
	text    strings.Builder
	tokens  []Token
}

// hears says which events to send.
func (h *hearer) hears() C.uint32_t {
	hears := C.uint32_t(C.SHIM_HEARS_TEXT | C.SHIM_HEARS_TOKENS)
	if h.options.OnPrefill != nil {
		hears |= C.SHIM_HEARS_PROGRESS
	}
	if h.options.OnStep != nil {
		hears |= C.SHIM_HEARS_STEPS
	}
	if h.options.OnEarlyText != nil {
		hears |= C.SHIM_HEARS_EARLY_TEXT
	}
	if h.options.OnNoise != nil {
		hears |= C.SHIM_HEARS_NOISE
	}
	return hears
}

func (h *hearer) hear(event any) error {
	switch e := event.(type) {
	case prefillEvent:
		return h.options.OnPrefill(e.encoded, e.total)
	case *Step:
		return h.options.OnStep(e)
	case earlyEvent:
		return h.options.OnEarlyText(string(e))
	case *Noise:
		return h.options.OnNoise(e)
	case textEvent:
		h.text.WriteString(string(e))
		if h.options.OnText != nil {
			return h.options.OnText(string(e))
		}
	case tokensEvent:
		h.tokens = append(h.tokens, e.tokens...)
		if h.options.OnTokens != nil {
			return h.options.OnTokens(e.block, e.tokens)
		}
	}
	return nil
}

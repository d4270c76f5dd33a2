package dgemma

// #include "shim.h"
import "C"

import (
	"context"
	"iter"
	"runtime"
	"runtime/cgo"
)

// A Slot is what a position of a block starts from.
type Slot uint8

const (
	// SlotNoise starts from a random token.
	SlotNoise Slot = C.DGEMMA_SLOT_NOISE
	// SlotFree starts from the program's token and may change like any other position.
	SlotFree Slot = C.DGEMMA_SLOT_FREE
	// SlotPinned keeps the program's token: in the canvas at every step, and in the draft.
	SlotPinned Slot = C.DGEMMA_SLOT_PINNED
)

// BlockOptions say what a block starts from.
//
//	to                           Slots
//	continue a text              none
//	fill a gap                   SlotPinned around it, SlotNoise in it
//	edit                         SlotPinned for what stays, SlotFree for what may be rewritten
//	start from an earlier draft  SlotFree
type BlockOptions struct {
	// Index is the block's place in the noise: blocks of one text count from 0, as [Context.Generate] counts them.
	Index int
	// CanvasLength in positions, 1 to [ModelInfo.CanvasLength]; 0: as many as Tokens or Slots have, or all if there are
	// none. The model was trained on whole canvases; a shorter one is cheaper, but its text is another one.
	CanvasLength int
	// Seed of the noise; 0: the context's.
	Seed uint64
	// Sampler has the sampler's numbers; nil: the model's.
	Sampler *Sampler
	// Tokens has one for each position, ignored where the slot is noise; nil: all slots are noise.
	Tokens []Token
	// Slots has one for each position; nil: all free if there are tokens.
	Slots []Slot
	// OnNoise hears of the block's noise before it is used, by [Context.BeginBlock] and [Block.Step], and may replace it.
	OnNoise func(noise *Noise) error
}

// A Block is a canvas being denoised behind the sequence of a context. It holds the context; calls on it use the context,
// so at most one call on either runs at a time, and others are answered with [ErrBusy]. Several blocks can exist, but once
// one has done its first step, a step of another one ends it.
type Block struct {
	w   *worker[*C.dgemma_block]
	ear *blockEar
}

// A blockEar is what the callbacks of a block are told to, one call after the other; nil if the block has none. The
// library keeps its handle as long as the block.
type blockEar struct {
	onNoise func(*Noise) error
	call    *call
}

// listen makes the call with this handle the one that hears. Comes on the goroutine of the callbacks.
func (e *blockEar) listen(user C.uintptr_t) {
	if e != nil {
		e.call = cgo.Handle(user).Value().(*call)
	}
}

// forLibrary is what the library is told, and how to free the block that it was told to.
func (e *blockEar) forLibrary() (user C.uintptr_t, hears C.uint32_t, free func(*C.dgemma_block)) {
	if e == nil {
		return 0, 0, func(b *C.dgemma_block) { C.dgemma_block_free(b) }
	}
	handle := cgo.NewHandle(e)
	return C.uintptr_t(handle), C.SHIM_HEARS_NOISE, func(b *C.dgemma_block) {
		C.dgemma_block_free(b)
		handle.Delete()
	}
}

func (e *blockEar) hear(event any) error {
	return e.onNoise(event.(*Noise))
}

// BeginBlock encodes what is not encoded yet and begins a block behind the sequence. Errors: [ErrInvalidArgument],
// [ErrContextFull] (the canvas does not fit), and what ctx says.
func (c *Context) BeginBlock(ctx context.Context, options *BlockOptions) (b *Block, err error) {
	if options == nil {
		options = new(BlockOptions)
	}
	if c == nil {
		return nil, ErrClosed
	}
	var pin runtime.Pinner
	defer pin.Unpin()
	params, err := options.params(&pin)
	if err != nil {
		return nil, err
	}
	var ear *blockEar
	if options.OnNoise != nil {
		ear = &blockEar{onNoise: options.OnNoise}
	}
	err = c.w.compute(ctx, ear.hear, func(context *C.dgemma_context, user C.uintptr_t) error {
		ear.listen(user)
		handle, hears, free := ear.forLibrary()
		var out *C.dgemma_block
		var text *C.char
		if err := check(C.shim_block_begin(context, params, hears, handle, &out, &text), &text); err != nil {
			free(nil)
			return err
		}
		w, err := newWorker(out, free, context, c.w.turn)
		if err == nil {
			b = &Block{w, ear}
		}
		return err
	})
	return b, err
}

func (o *BlockOptions) params(pin *runtime.Pinner) (*C.dgemma_block_params, error) {
	length := o.CanvasLength
	if length == 0 {
		length = max(len(o.Tokens), len(o.Slots))
	}
	if n := len(o.Tokens); n > 0 && n != length {
		return nil, invalid("tokens", "has %d entries, expected %d", n, length)
	}
	if n := len(o.Slots); n > 0 && n != length {
		return nil, invalid("slots", "has %d entries, expected %d", n, length)
	}
	var l limits
	p := new(C.dgemma_block_params)
	C.dgemma_block_params_init(p, C.sizeof_dgemma_block_params)
	p.index = l.u32("index", o.Index)
	p.canvas_length = l.u32("canvas_length", length)
	p.seed = C.uint64_t(o.Seed)
	p.sampler = o.Sampler.params(pin, &l)
	p.tokens = (*C.uint32_t)(pinned(pin, o.Tokens))
	p.slots = (*C.uint8_t)(pinned(pin, o.Slots))
	return p, l.err
}

// Close frees the block. Always nil.
func (b *Block) Close() error {
	if b != nil {
		b.w.close()
	}
	return nil
}

// run runs a call that does not take a context.Context.
func (b *Block) run(f func(block *C.dgemma_block) error) error {
	if b == nil {
		return ErrClosed
	}
	return b.w.run(f)
}

// Step does one denoising step and says whether it was the last: converged, or out of steps. A step that fails, also
// because ctx is done, leaves the block as it was; it can be stepped again. Errors: [ErrInvalidArgument] (no steps left,
// the sequence changed, another block was stepped since), and what ctx says.
func (b *Block) Step(ctx context.Context) (done bool, err error) {
	if b == nil {
		return false, ErrClosed
	}
	err = b.w.compute(ctx, b.ear.hear, func(block *C.dgemma_block, user C.uintptr_t) error {
		b.ear.listen(user)
		var out C.int
		var text *C.char
		err := check(C.shim_block_step(block, &out, &text), &text)
		done = out != 0
		return err
	})
	return done, err
}

// Steps is a loop over the denoising steps that are left. An error comes last, without a step. Leaving the loop leaves the
// block as it is after the step.
func (b *Block) Steps(ctx context.Context) iter.Seq2[*Step, error] {
	return func(yield func(*Step, error) bool) {
		for {
			done, err := b.Step(ctx)
			if err != nil {
				yield(nil, err)
				return
			}
			step, err := b.Last()
			if !yield(step, err) || done || err != nil {
				return
			}
		}
	}
}

// Last is what the last step found. Before the first one only Block, MaxSteps and Canvas have a meaning, and the other
// slices are nil.
func (b *Block) Last() (step *Step, err error) {
	err = b.run(func(block *C.dgemma_block) error {
		lent := C.dgemma_step{struct_size: C.sizeof_dgemma_step}
		var text *C.char
		if err := check(C.shim_block_describe(block, &lent, &text), &text); err != nil {
			return err
		}
		step = newStep(&lent)
		return nil
	})
	return step, err
}

// LogProbs are log-probabilities over the whole vocabulary at chosen positions of the canvas, [rows, vocabulary], as the
// last step computed them: the model's own, at temperature 1 and without bias. Must come before the context does anything
// else. Errors: [ErrInvalidArgument] (a position outside the canvas, no step yet, the context moved on), [ErrOutOfMemory].
func (b *Block) LogProbs(rows ...uint32) ([][]float32, error) {
	return b.rows(rows, func(block *C.dgemma_block, values []float32, n *C.size_t, text **C.char) C.dgemma_status {
		return C.shim_block_log_probs(block, tokenData(rows), C.size_t(len(rows)), floatData(values),
			C.size_t(len(values)), n, text)
	})
}

// Logits are what [Block.LogProbs] makes its numbers from, soft-capped. Everything else is as there.
func (b *Block) Logits(rows ...uint32) ([][]float32, error) {
	return b.rows(rows, func(block *C.dgemma_block, values []float32, n *C.size_t, text **C.char) C.dgemma_status {
		return C.shim_block_logits(block, tokenData(rows), C.size_t(len(rows)), floatData(values), C.size_t(len(values)),
			n, text)
	})
}

func (b *Block) rows(rows []uint32,
	fill func(block *C.dgemma_block, values []float32, n *C.size_t, text **C.char) C.dgemma_status) (out [][]float32, err error) {
	err = b.run(func(block *C.dgemma_block) error {
		// The library says how much room it needs before it computes.
		flat, err := collect(0, func(values []float32, n *C.size_t, text **C.char) C.dgemma_status {
			return fill(block, values, n, text)
		})
		for i := range rows {
			if err == nil {
				width := len(flat) / len(rows)
				out = append(out, flat[i*width:(i+1)*width:(i+1)*width])
			}
		}
		return err
	})
	return out, err
}

// Score scores tokens as [Context.Score] does, from the block's last step: what the model thought there. Must come before
// the context does anything else. Errors: [ErrInvalidArgument] (a position or token out of range, no step yet, the context
// moved on), and what ctx says.
func (b *Block) Score(ctx context.Context, candidates []Candidate) ([]float32, error) {
	if b == nil {
		return nil, ErrClosed
	}
	scores := make([]float32, len(candidates))
	err := b.w.compute(ctx, deaf, func(block *C.dgemma_block, _ C.uintptr_t) error {
		var text *C.char
		return check(C.shim_block_score(block, candidateData(candidates), C.size_t(len(candidates)), floatData(scores), &text),
			&text)
	})
	if err != nil {
		return nil, err
	}
	return scores, nil
}

// Commit appends the first n tokens of the block's draft to the context's sequence. The block is over then. Errors:
// [ErrInvalidArgument] (no step yet, the sequence changed, n above the canvas length).
func (b *Block) Commit(n int) error {
	if n < 0 {
		return invalid("n", "is %d, expected at least 0", n)
	}
	return b.run(func(block *C.dgemma_block) error {
		var text *C.char
		return check(C.shim_block_commit(block, C.size_t(n), &text), &text)
	})
}

package dgemma

// #include "shim.h"
import "C"

import (
	"slices"
	"unsafe"
)

// A Step is what one denoising step found. The slices have an entry for each position of the canvas, and are the
// program's own.
type Step struct {
	// Block is the canvas's index within the generation, from 0.
	Block int
	// Step is the step's index within the canvas, from 0, and MaxSteps how many a canvas takes at most.
	Step, MaxSteps int
	// Converged says that the draft is stable and confident, so that this was the canvas's last step.
	Converged bool
	// Done says that the canvas takes no further step: converged, or out of steps.
	Done bool
	// Draft is the most probable token of each position: what would be committed now. It may have control tokens.
	Draft []Token
	// Entropy of each position in nats, 0 (certain) to ln(vocabulary size).
	Entropy []float32
	// LogProb is the natural logarithm of the probability of each position's draft: its confidence.
	LogProb []float32
	// Drawn is the token drawn at each position.
	Drawn []Token
	// Accepted says where a position keeps its token for the next step; elsewhere it gets fresh noise.
	Accepted []bool
	// Changed says where the draft is not that of the step before; at the first step, not what the canvas started from.
	Changed []bool
	// Pinned says where the program pinned the token.
	Pinned []bool
	// Canvas is what the next step starts from.
	Canvas []Token
	// StableLength counts the leading positions that are unlikely to change any more ([Sampler.StableSteps]). It can
	// shrink.
	StableLength int
	// Temperature of the step.
	Temperature float32
}

func newStep(s *C.dgemma_step) *Step {
	n := s.canvas_length
	return &Step{
		Block:        int(s.block),
		Step:         int(s.step),
		MaxSteps:     int(s.max_steps),
		Converged:    s.converged != 0,
		Done:         s.done != 0,
		Draft:        copied[Token](unsafe.Pointer(s.draft), n),
		Entropy:      copied[float32](unsafe.Pointer(s.entropy), n),
		LogProb:      copied[float32](unsafe.Pointer(s.log_prob), n),
		Drawn:        copied[Token](unsafe.Pointer(s.drawn), n),
		Accepted:     flags(s.accepted, n),
		Changed:      flags(s.changed, n),
		Pinned:       flags(s.pinned, n),
		Canvas:       copied[Token](unsafe.Pointer(s.canvas), n),
		StableLength: int(s.stable_length),
		Temperature:  float32(s.temperature),
	}
}

// copied is a copy of n entries of the library's memory; nil if it has none.
func copied[T any](data unsafe.Pointer, n C.size_t) []T {
	if data == nil {
		return nil
	}
	return slices.Clone(unsafe.Slice((*T)(data), n))
}

func flags(data *C.uint8_t, n C.size_t) []bool {
	if data == nil {
		return nil
	}
	flags := make([]bool, n)
	for i, flag := range unsafe.Slice(data, n) {
		flags[i] = flag != 0
	}
	return flags
}

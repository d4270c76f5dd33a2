package dgemma

// #include "shim.h"
import "C"

import "unsafe"

// A NoisePurpose is what noise is for.
type NoisePurpose uint32

const (
	// NoiseCanvas: the tokens that a canvas starts from.
	NoiseCanvas NoisePurpose = C.DGEMMA_NOISE_CANVAS
	// NoiseDraws: where in its distribution each position's token is drawn.
	NoiseDraws NoisePurpose = C.DGEMMA_NOISE_DRAWS
	// NoiseRenoise: the tokens that positions get which are not accepted.
	NoiseRenoise NoisePurpose = C.DGEMMA_NOISE_RENOISE
)

// Noise is about to be used, one number for each position of a canvas. It comes filled from the seed. What the program
// writes into the slice is used instead, so that a recording of all of it gives the same text again: on another backend,
// after a change of the library, from another implementation. A step that is repeated after a failure asks again.
type Noise struct {
	Purpose NoisePurpose
	// Block is the canvas's index within the generation, from 0.
	Block int
	// Step is the step's index within the canvas, from 0; 0 for NoiseCanvas.
	Step int
	// Tokens below [ModelInfo.VocabSize]; nil for NoiseDraws.
	Tokens []Token
	// Draws above 0 and below 1; nil unless NoiseDraws.
	Draws []float32
}

func newNoise(n *C.dgemma_noise) *Noise {
	return &Noise{
		Purpose: NoisePurpose(n.purpose),
		Block:   int(n.block),
		Step:    int(n.step),
		Tokens:  copied[Token](unsafe.Pointer(n.tokens), C.size_t(n.canvas_length)),
		Draws:   copied[float32](unsafe.Pointer(n.draws), C.size_t(n.canvas_length)),
	}
}

// give writes what the program made of it where the library reads it.
func (n *Noise) give(to *C.dgemma_noise) {
	if to.tokens != nil {
		copy(unsafe.Slice((*Token)(unsafe.Pointer(to.tokens)), to.canvas_length), n.Tokens)
	}
	if to.draws != nil {
		copy(unsafe.Slice((*float32)(unsafe.Pointer(to.draws)), to.canvas_length), n.Draws)
	}
}

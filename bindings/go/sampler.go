package dgemma

// #include "shim.h"
import "C"

import (
	"runtime"
	"unsafe"
)

// A LogitBias is added to a token's logit at every position, before the temperature divides it.
type LogitBias struct {
	Token Token
	// Bias is -1000 to 1000, or negative infinity, which bans the token.
	Bias float32
}

// A Sampler has the numbers of the entropy-bound sampler. Begin with [Model.Sampler] and change fields; the zero value is
// no sampler.
type Sampler struct {
	// MaxSteps is how many denoising steps a canvas takes at most, 1 to 1000000.
	MaxSteps int
	// Stability: stop once the draft equals that many previous drafts, 0 to 1024; 0 asks only for confidence.
	Stability int
	// TMin is the temperature that the schedule approaches, > 0; TMax that of the first step, at least TMin.
	TMin, TMax float32
	// EntropyBound in nats on the summed entropy of the positions that are accepted in a step, >= 0.
	EntropyBound float32
	// Confidence: stop only below this mean entropy in nats, >= 0.
	Confidence float32
	// StableSteps and StableEntropy are for [Step.StableLength] and early text: a position is stable when its draft stayed
	// the same for so many steps and its entropy in nats is at most this. Both have no influence on the text.
	StableSteps   int
	StableEntropy float32
	// LogitBias of tokens; biases of a token listed twice add up.
	LogitBias []LogitBias
	// Banned tokens are never drawn or drafted. One token must be left.
	Banned []Token
}

// Sampler has the model's own numbers.
func (m *Model) Sampler() (s Sampler, err error) {
	err = m.use(func(model *C.dgemma_model) error {
		s = newSampler(model)
		return nil
	})
	return s, err
}

// ReferenceSampler has the numbers of the reference implementation.
func ReferenceSampler() Sampler {
	return newSampler(nil)
}

func newSampler(model *C.dgemma_model) Sampler {
	var p C.dgemma_sampler_params
	C.dgemma_sampler_params_init(&p, C.sizeof_dgemma_sampler_params, model)
	return Sampler{
		MaxSteps:      int(p.max_steps),
		Stability:     int(p.stability),
		TMin:          float32(p.t_min),
		TMax:          float32(p.t_max),
		EntropyBound:  float32(p.entropy_bound),
		Confidence:    float32(p.confidence),
		StableSteps:   int(p.stable_steps),
		StableEntropy: float32(p.stable_entropy),
	}
}

// params are the numbers as the library reads them, pinned until the caller unpins; nil for nil.
func (s *Sampler) params(pin *runtime.Pinner, l *limits) *C.dgemma_sampler_params {
	if s == nil {
		return nil
	}
	p := new(C.dgemma_sampler_params)
	C.dgemma_sampler_params_init(p, C.sizeof_dgemma_sampler_params, nil)
	p.max_steps = l.u32("max_steps", s.MaxSteps)
	p.stability = l.u32("stability", s.Stability)
	p.t_min = C.float(s.TMin)
	p.t_max = C.float(s.TMax)
	p.entropy_bound = C.float(s.EntropyBound)
	p.confidence = C.float(s.Confidence)
	p.stable_steps = l.u32("stable_steps", s.StableSteps)
	p.stable_entropy = C.float(s.StableEntropy)
	p.n_logit_bias = C.size_t(len(s.LogitBias))
	p.logit_bias = (*C.dgemma_logit_bias)(pinned(pin, s.LogitBias))
	p.n_banned = C.size_t(len(s.Banned))
	p.banned = (*C.uint32_t)(pinned(pin, s.Banned))
	pin.Pin(p)
	return p
}

// pinned is where C finds the entries of s until the caller unpins; nil if there are none.
func pinned[T any](pin *runtime.Pinner, s []T) unsafe.Pointer {
	if len(s) == 0 {
		return nil
	}
	data := unsafe.SliceData(s)
	pin.Pin(data)
	return unsafe.Pointer(data)
}

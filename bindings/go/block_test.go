package dgemma

import (
	"context"
	"errors"
	"math"
	"slices"
	"testing"
)

// Stepping to the end and committing gives what Generate gives.
func TestBlock(t *testing.T) {
	g := must[Generation](t)(newTestContext(t, question, nil).Generate(background, nil))
	c := newTestContext(t, question, nil)
	prompt := len(must[[]Token](t)(c.Tokens()))
	b := must[*Block](t)(c.BeginBlock(background, nil))
	defer b.Close()
	first := must[*Step](t)(b.Last())
	if first.Draft != nil || first.Accepted != nil || len(first.Canvas) != 32 || first.MaxSteps != 16 {
		t.Errorf("before the first step: %+v", first)
	}
	steps := 0
	for done := false; !done; steps++ {
		done = must[bool](t)(b.Step(background))
	}
	last := must[*Step](t)(b.Last())
	if steps != g.Steps || !last.Done || last.Step != steps-1 {
		t.Errorf("%d steps, expected %d: %+v", steps, g.Steps, last)
	}
	if !slices.Equal(last.Draft[:len(g.Tokens)], g.Tokens) {
		t.Errorf("draft %v, expected %v", last.Draft, g.Tokens)
	}
	if _, err := b.Step(background); !errors.Is(err, ErrInvalidArgument) {
		t.Errorf("a step too many: %v", err)
	}
	if err := b.Commit(len(g.Tokens)); err != nil {
		t.Error(err)
	}
	if tokens := must[[]Token](t)(c.Tokens()); !slices.Equal(tokens[prompt:], g.Tokens) {
		t.Errorf("committed %v", tokens[prompt:])
	}
	if err := b.Commit(1); !errors.Is(err, ErrInvalidArgument) {
		t.Errorf("a commit too many: %v", err)
	}
}

// Pinned tokens stay, free ones may change, noise does not keep the program's token.
func TestInfilling(t *testing.T) {
	c := newTestContext(t, "Count from 3 to 11.", nil)
	g := must[Generation](t)(tiny().Generate(background, "Count from 3 to 11.", nil))
	canvas := make([]Token, 32)
	copy(canvas, g.Tokens)
	canvas[len(g.Tokens)] = must[Token](t)(tiny().FindToken("<turn|>"))
	slots := slices.Repeat([]Slot{SlotPinned}, 32)
	for i := 2; i < 8; i++ { // a gap, to be filled
		slots[i], canvas[i] = SlotNoise, 0
	}
	slots[9] = SlotFree
	b := must[*Block](t)(c.BeginBlock(background, &BlockOptions{Tokens: canvas, Slots: slots, Seed: 3}))
	defer b.Close()
	for step, err := range b.Steps(background) {
		if err != nil {
			t.Fatal(err)
		}
		for i, pinned := range step.Pinned {
			if pinned != (slots[i] == SlotPinned) || pinned && (step.Draft[i] != canvas[i] || step.Canvas[i] != canvas[i]) {
				t.Errorf("position %d: pinned %v, draft %d", i, pinned, step.Draft[i])
			}
		}
	}
	if last := must[*Step](t)(b.Last()); !slices.Equal(last.Draft[:len(g.Tokens)], g.Tokens) {
		t.Errorf("the gap was filled with %v, expected %v", last.Draft[2:8], g.Tokens[2:8])
	}
}

// A free canvas that is already the answer needs no more than the least number of steps.
func TestWarmStart(t *testing.T) {
	g := must[Generation](t)(tiny().Generate(background, question, nil))
	canvas := make([]Token, 32)
	copy(canvas, g.Tokens)
	b := must[*Block](t)(newTestContext(t, question, nil).BeginBlock(background, &BlockOptions{Tokens: canvas}))
	defer b.Close()
	must[bool](t)(b.Step(background))
	step := must[*Step](t)(b.Last())
	if !slices.Equal(step.Draft[:2], g.Tokens) || step.Changed[0] || step.Changed[1] {
		t.Errorf("draft %v changed %v", step.Draft, step.Changed)
	}
}

func TestRows(t *testing.T) {
	b := must[*Block](t)(newTestContext(t, question, nil).BeginBlock(background, nil))
	defer b.Close()
	must[bool](t)(b.Step(background))
	step := must[*Step](t)(b.Last())
	logProbs := must[[][]float32](t)(b.LogProbs(0, 1, 31))
	logits := must[[][]float32](t)(b.Logits(0, 1, 31))
	for i, position := range []int{0, 1, 31} {
		row, sum := logProbs[i], 0.0
		if len(row) != 512 || len(logits[i]) != 512 {
			t.Fatalf("rows of %d and %d", len(row), len(logits[i]))
		}
		for token, logProb := range row {
			sum += math.Exp(float64(logProb))
			// Both differ by one number for the whole row.
			if d := (logits[i][token] - logProb) - (logits[i][0] - row[0]); math.Abs(float64(d)) > 1e-4 {
				t.Errorf("token %d is off by %v", token, d)
			}
		}
		if math.Abs(sum-1) > 1e-4 {
			t.Errorf("probabilities add up to %v", sum)
		}
		draft := step.Draft[position]
		if slices.Max(row) != row[draft] {
			t.Errorf("draft %d is not the most probable", draft)
		}
		score := must[[]float32](t)(b.Score(background, []Candidate{{uint32(position), draft}}))
		if math.Abs(float64(score[0]-row[draft])) > 1e-4 {
			t.Errorf("score %v, expected %v", score[0], row[draft])
		}
	}
	if rows := must[[][]float32](t)(b.LogProbs()); len(rows) != 0 {
		t.Errorf("no rows gave %v", rows)
	}
}

func TestBlockNoise(t *testing.T) {
	heard := map[NoisePurpose]int{}
	options := &BlockOptions{Seed: 13, OnNoise: func(n *Noise) error { heard[n.Purpose]++; return nil }}
	b := must[*Block](t)(newTestContext(t, unknownTask, nil).BeginBlock(background, options))
	defer b.Close()
	if heard[NoiseCanvas] != 1 || len(heard) != 1 {
		t.Errorf("before the first step: %v", heard)
	}
	steps := 0
	for _, err := range b.Steps(background) {
		if err != nil {
			t.Fatal(err)
		}
		steps++
	}
	if heard[NoiseDraws] != steps || heard[NoiseRenoise] == 0 {
		t.Errorf("%d steps: %v", steps, heard)
	}
	own := errors.New("no noise")
	stop := &BlockOptions{OnNoise: func(*Noise) error { return own }}
	if _, err := newTestContext(t, question, nil).BeginBlock(background, stop); !errors.Is(err, own) {
		t.Error(err)
	}
}

func TestBlockMisuse(t *testing.T) {
	c := newTestContext(t, question, nil)
	for name, options := range map[string]BlockOptions{
		"index": {Index: -1}, "length": {CanvasLength: 33}, "negative": {CanvasLength: -1}, "many": {Tokens: make([]Token, 33)},
		"lengths": {Tokens: make([]Token, 32), Slots: make([]Slot, 31)}, "short": {Tokens: make([]Token, 3), CanvasLength: 4},
		"token": {Tokens: []Token{512}}, "slot": {Tokens: []Token{1}, Slots: []Slot{9}}, "no tokens": {Slots: []Slot{SlotPinned}},
		"sampler": {Sampler: new(Sampler)},
	} {
		if b, err := c.BeginBlock(background, &options); b != nil || !errors.Is(err, ErrInvalidArgument) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := c.BeginBlock(nil, nil); !errors.Is(err, ErrInvalidArgument) { //nolint:staticcheck // the test
		t.Error(err)
	}
	small := must[*Context](t)(tiny().NewContext(&ContextOptions{Size: 32}))
	defer small.Close()
	if err := small.Append(1); err != nil {
		t.Fatal(err)
	}
	if _, err := small.BeginBlock(background, nil); !errors.Is(err, ErrContextFull) {
		t.Error(err)
	}
	b := must[*Block](t)(c.BeginBlock(background, &BlockOptions{CanvasLength: 8}))
	defer b.Close()
	_, early := b.LogProbs(0)
	if !errors.Is(early, ErrInvalidArgument) || !errors.Is(b.Commit(1), ErrInvalidArgument) {
		t.Error("rows or a commit before the first step")
	}
	must[bool](t)(b.Step(background))
	_, outside := b.Logits(8)
	_, candidate := b.Score(background, []Candidate{{8, 0}})
	for name, err := range map[string]error{"row": outside, "candidate": candidate, "commit": b.Commit(9), "negative": b.Commit(-1)} {
		if !errors.Is(err, ErrInvalidArgument) {
			t.Errorf("%s: %v", name, err)
		}
	}
	ctx, cancel := context.WithCancel(background)
	cancel()
	if _, err := b.Step(ctx); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	if err := c.Append(1); err != nil {
		t.Fatal(err)
	}
	for _, err := range b.Steps(background) {
		if !errors.Is(err, ErrInvalidArgument) {
			t.Errorf("a step behind another sequence: %v", err)
		}
	}
}

// A step of one block ends the other.
func TestTwoBlocks(t *testing.T) {
	c := newTestContext(t, question, nil)
	one := must[*Block](t)(c.BeginBlock(background, nil))
	two := must[*Block](t)(c.BeginBlock(background, nil))
	defer one.Close()
	defer two.Close()
	must[bool](t)(one.Step(background))
	must[bool](t)(two.Step(background))
	if _, err := one.Step(background); !errors.Is(err, ErrInvalidArgument) {
		t.Error(err)
	}
}

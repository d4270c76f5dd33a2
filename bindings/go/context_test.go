package dgemma

import (
	"context"
	"errors"
	"math"
	"path/filepath"
	"slices"
	"testing"
)

func TestSequence(t *testing.T) {
	c := must[*Context](t)(tiny().NewContext(&ContextOptions{Size: 64, Seed: 7, Chunk: 8, KVType: KVF16}))
	defer c.Close()
	if info := must[ContextInfo](t)(c.Info()); info != (ContextInfo{0, 0, 64, 7, 8, KVF16}) {
		t.Errorf("fresh: %+v", info)
	}
	tokens := must[[]Token](t)(tiny().Tokenize("one two three four", AddBOS))
	if err := c.Append(tokens...); err != nil {
		t.Fatal(err)
	}
	var heard []int
	err := c.Prefill(background, func(encoded, total int) error {
		heard = append(heard, encoded)
		if total != len(tokens) {
			t.Errorf("%d of %d", encoded, total)
		}
		return nil
	})
	if err != nil || !slices.IsSorted(heard) || heard[len(heard)-1] != len(tokens) {
		t.Errorf("prefill: %v, %v", heard, err)
	}
	if info := must[ContextInfo](t)(c.Info()); info.Length != len(tokens) || info.Encoded != len(tokens) {
		t.Errorf("encoded: %+v", info)
	}
	other := slices.Concat(tokens[:5], []Token{tokens[0]})
	if reused := must[int](t)(c.SetTokens(other)); reused != 5 {
		t.Errorf("reused %d", reused)
	}
	if got := must[[]Token](t)(c.Tokens()); !slices.Equal(got, other) {
		t.Errorf("tokens %v, expected %v", got, other)
	}
	if err := c.Truncate(3); err != nil {
		t.Error(err)
	}
	if got := must[[]Token](t)(c.Tokens()); !slices.Equal(got, other[:3]) {
		t.Errorf("truncated %v", got)
	}
	if perf := must[Perf](t)(c.Perf()); perf.PrefillTokens != uint64(len(tokens)) || perf.Prefill <= 0 || perf.Attention <= 0 {
		t.Errorf("perf %+v", perf)
	}
	if err := c.Reset(); err != nil {
		t.Error(err)
	}
	if got := must[[]Token](t)(c.Tokens()); len(got) != 0 {
		t.Errorf("reset: %v", got)
	}
	if perf := must[Perf](t)(c.Perf()); perf != (Perf{}) {
		t.Errorf("perf after reset %+v", perf)
	}
	if m := must[Memory](t)(c.Memory()); m.Weights == 0 || m.KV == 0 || m.Activations == 0 {
		t.Errorf("memory %+v", m)
	}
}

func TestLongSequence(t *testing.T) { // longer than the first buffer of Tokens
	c := must[*Context](t)(tiny().NewContext(nil))
	defer c.Close()
	tokens := make([]Token, 3000)
	if err := c.Append(tokens...); err != nil {
		t.Fatal(err)
	}
	if got := must[[]Token](t)(c.Tokens()); !slices.Equal(got, tokens) {
		t.Errorf("%d tokens", len(got))
	}
}

func TestContextMisuse(t *testing.T) {
	for name, options := range map[string]ContextOptions{"negative": {Size: -1}, "tiny": {Size: 31}, "huge": {Size: 4097},
		"chunk": {Chunk: -1}, "kv": {KVType: 99}} {
		if c, err := tiny().NewContext(&options); c != nil || !errors.Is(err, ErrInvalidArgument) {
			t.Errorf("%s: %v", name, err)
		}
	}
	c := must[*Context](t)(tiny().NewContext(&ContextOptions{Size: 40}))
	defer c.Close()
	full, bad := make([]Token, 41), []Token{512}
	_, errSet := c.SetTokens(full)
	_, errSetBad := c.SetTokens(bad)
	_, errScore := c.Score(background, nil, nil)
	_, errCandidate := c.Score(background, make([]Token, 32), []Candidate{{Position: 32}})
	for name, got := range map[string]struct{ err, want error }{
		"append": {c.Append(full...), ErrContextFull}, "append bad": {c.Append(bad...), ErrInvalidArgument},
		"set": {errSet, ErrContextFull}, "set bad": {errSetBad, ErrInvalidArgument},
		"truncate": {c.Truncate(1), ErrInvalidArgument}, "truncate below": {c.Truncate(-1), ErrInvalidArgument},
		"score nothing": {errScore, ErrInvalidArgument}, "score outside": {errCandidate, ErrInvalidArgument},
		"no ctx": {c.Prefill(nil, nil), ErrInvalidArgument}, //nolint:staticcheck // that is the test
	} {
		if !errors.Is(got.err, got.want) {
			t.Errorf("%s: %v, expected %v", name, got.err, got.want)
		}
	}
	if err := c.Append(make([]Token, 9)...); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Generate(background, nil); !errors.Is(err, ErrContextFull) {
		t.Errorf("generate behind a full context: %v", err)
	}
	if tokens := must[[]Token](t)(c.Tokens()); len(tokens) != 9 {
		t.Errorf("failures left %d tokens", len(tokens))
	}
}

func TestPrefillStops(t *testing.T) {
	c := must[*Context](t)(tiny().NewContext(&ContextOptions{Chunk: 8}))
	defer c.Close()
	if err := c.Append(make([]Token, 64)...); err != nil {
		t.Fatal(err)
	}
	own := errors.New("enough")
	ctx, cancel := context.WithCancel(background)
	for _, step := range []struct {
		ctx        context.Context
		onProgress func(int, int) error
		want       error
	}{
		{background, func(int, int) error { return own }, own},
		{background, func(int, int) error { return Stop }, ErrCancelled},
		{ctx, func(int, int) error { cancel(); return nil }, context.Canceled},
		{ctx, nil, context.Canceled}, // before it begins
	} {
		if err := c.Prefill(step.ctx, step.onProgress); !errors.Is(err, step.want) {
			t.Errorf("%v, expected %v", err, step.want)
		}
	}
	if info := must[ContextInfo](t)(c.Info()); info.Encoded == 0 || info.Encoded == 64 {
		t.Errorf("stopped after some chunks: %+v", info)
	}
	if err := c.Prefill(background, nil); err != nil {
		t.Error(err)
	}
}

// The answer is more likely than others where it belongs.
func TestScore(t *testing.T) {
	c := newTestContext(t, question, nil)
	right := must[Generation](t)(tiny().Generate(background, question, nil)).Tokens
	end := must[Token](t)(tiny().FindToken("<turn|>"))
	padding := must[Token](t)(tiny().SpecialToken(Padding))
	canvas := append(slices.Clone(right), end)
	for len(canvas) < 32 {
		canvas = append(canvas, padding)
	}
	scores := must[[]float32](t)(c.Score(background, canvas, []Candidate{{0, right[0]}, {1, right[1]}, {1, right[0]}, {1, end}}))
	if len(scores) != 4 || scores[0] < -0.5 || scores[1] < -0.5 || scores[2] > -2 || scores[3] > -2 {
		t.Errorf("scores %v", scores)
	}
	// The log-probabilities of a position are a distribution.
	all := make([]Candidate, 512)
	for i := range all {
		all[i] = Candidate{0, Token(i)}
	}
	sum := 0.0
	for _, score := range must[[]float32](t)(c.Score(background, canvas, all)) {
		sum += math.Exp(float64(score))
	}
	if math.Abs(sum-1) > 512*1e-6 {
		t.Errorf("probabilities add up to %v", sum)
	}
	if scores := must[[]float32](t)(c.Score(background, canvas, nil)); len(scores) != 0 {
		t.Errorf("no candidates: %v", scores)
	}
	if perf := must[Perf](t)(c.Perf()); perf.Scorings != 3 || perf.Scoring <= 0 {
		t.Errorf("perf %+v", perf)
	}
	cancelledCtx, cancel := context.WithCancel(background)
	cancel()
	if _, err := c.Score(cancelledCtx, canvas, all); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
}

func TestSnapshots(t *testing.T) {
	c := newTestContext(t, question, nil)
	if err := c.Prefill(background, nil); err != nil {
		t.Fatal(err)
	}
	state := must[ContextInfo](t)(c.Info())
	saved := must[[]byte](t)(c.Save())
	path := filepath.Join(t.TempDir(), "context")
	if err := c.SaveFile(path); err != nil {
		t.Fatal(err)
	}
	clone := must[*Context](t)(c.Clone())
	loaded, fromFile := newTestContext(t, "", nil), newTestContext(t, "", nil)
	if err := errors.Join(loaded.Load(saved), fromFile.LoadFile(path)); err != nil {
		t.Fatal(err)
	}
	for name, copy := range map[string]*Context{"original": c, "clone": clone, "loaded": loaded, "from a file": fromFile} {
		if info := must[ContextInfo](t)(copy.Info()); info != state {
			t.Errorf("%s: %+v, expected %+v", name, info, state)
		}
		if g := must[Generation](t)(copy.Generate(background, nil)); g.Text != answer {
			t.Errorf("%s: %q", name, g.Text)
		}
		copy.Close()
	}
}

func TestSnapshotMisuse(t *testing.T) {
	c := newTestContext(t, question, nil)
	saved := must[[]byte](t)(c.Save())
	saved[len(saved)/2] ^= 1
	dir := t.TempDir()
	for name, got := range map[string]struct{ err, want error }{
		"damaged": {c.Load(saved), ErrInvalidArgument}, "cut": {c.Load(saved[:20]), ErrInvalidArgument},
		"nothing": {c.Load(nil), ErrInvalidArgument}, "no folder": {c.SaveFile(dir + "/no/such"), ErrIO},
		"missing": {c.LoadFile(dir + "/missing"), ErrIO}, "another file": {c.LoadFile(tinyPath), ErrBadFile},
		"NUL": {c.SaveFile("\x00"), ErrInvalidArgument}, "NUL too": {c.LoadFile("\x00"), ErrInvalidArgument},
	} {
		if !errors.Is(got.err, got.want) {
			t.Errorf("%s: %v, expected %v", name, got.err, got.want)
		}
	}
	small := must[*Context](t)(tiny().NewContext(&ContextOptions{Size: 32}))
	defer small.Close()
	long := newTestContext(t, "a long question that does not fit into 32 positions", nil)
	if err := small.Load(must[[]byte](t)(long.Save())); !errors.Is(err, ErrContextFull) {
		t.Error(err)
	}
}

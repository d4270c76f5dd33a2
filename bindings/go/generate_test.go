package dgemma

import (
	"encoding/json"
	"errors"
	"os"
	"slices"
	"strings"
	"testing"
)

// The texts that every language gives for the same seed.
func TestSameText(t *testing.T) {
	var rows []struct {
		Prompt    string
		Seed      uint64
		MaxTokens int `json:"max_tokens"`
		Text      string
	}
	if err := json.Unmarshal(must[[]byte](t)(os.ReadFile("../../tests/golden/same_text.json")), &rows); err != nil {
		t.Fatal(err)
	}
	if len(rows) < 10 {
		t.Fatalf("%d rows", len(rows))
	}
	for _, row := range rows {
		options := &GenerateOptions{Seed: row.Seed, MaxTokens: row.MaxTokens}
		whole := must[Generation](t)(tiny().Generate(background, row.Prompt, options))
		c := newTestContext(t, row.Prompt, nil)
		inContext := must[Generation](t)(c.Generate(background, options))
		var parts strings.Builder
		for text, err := range tiny().Text(background, row.Prompt, options) {
			if err != nil {
				t.Fatal(err)
			}
			parts.WriteString(text)
		}
		for _, text := range []string{whole.Text, inContext.Text, parts.String()} {
			if text != row.Text {
				t.Errorf("%q with seed %d: %q, expected %q", row.Prompt, row.Seed, text, row.Text)
			}
		}
	}
}

func TestGeneration(t *testing.T) {
	c := newTestContext(t, question, nil)
	before := must[[]Token](t)(c.Tokens())
	g := must[Generation](t)(c.Generate(background, nil))
	if g.Text != answer || g.StopReason != StopEnd || g.Blocks != 1 || g.Steps < 1 || g.PromptTokens != len(before) {
		t.Errorf("%+v", g)
	}
	if s := must[string](t)(tiny().Detokenize(g.Tokens, ShowSpecial)); s != answer {
		t.Errorf("tokens are %q", s)
	}
	if g.Prefill <= 0 || g.Denoise <= 0 || g.FirstCanvas < g.Denoise || g.Total < g.FirstCanvas {
		t.Errorf("durations %+v", g)
	}
	// The sequence has the answer and the token that ends it.
	after := must[[]Token](t)(c.Tokens())
	end := len(before) + len(g.Tokens)
	if !slices.Equal(after[:end], slices.Concat(before, g.Tokens)) || len(after) != end+1 || !tiny().IsEnd(after[end]) {
		t.Errorf("sequence %v, then %v", before, after)
	}
	if perf := must[Perf](t)(c.Perf()); perf.Steps != uint64(g.Steps) || perf.CommittedTokens < uint64(len(g.Tokens)) ||
		perf.Denoise <= 0 || perf.FeedForward <= 0 || perf.Head <= 0 {
		t.Errorf("perf %+v", perf)
	}
}

func TestStopReasons(t *testing.T) {
	for _, c := range []struct {
		options GenerateOptions
		want    StopReason
		tokens  int
	}{
		{GenerateOptions{}, StopEnd, 2},
		{GenerateOptions{MaxTokens: 1}, StopMaxTokens, 1},
		{GenerateOptions{MaxTokens: 40, IgnoreEnd: true}, StopMaxTokens, 40},
		{GenerateOptions{MaxTokens: 200, IgnoreEnd: true, ContextSize: 100}, StopContextFull, 64},
		{GenerateOptions{MaxTokens: 200, IgnoreEnd: true, ContextSize: 100, AdaptiveLastCanvas: true}, StopContextFull, 75},
		{GenerateOptions{MaxTokens: 200, IgnoreEnd: true, OnText: func(string) error { return Stop }}, StopCancelled, 32},
		{GenerateOptions{OnText: func(string) error { return Stop }}, StopCancelled, 2}, // on the answer's last canvas
	} {
		g := must[Generation](t)(tiny().Generate(background, question, &c.options))
		if g.StopReason != c.want || len(g.Tokens) != c.tokens {
			t.Errorf("%+v: %v after %d tokens, expected %v after %d", c.options, g.StopReason, len(g.Tokens), c.want, c.tokens)
		}
	}
	names := []string{"end of generation", "max tokens", "context full", "cancelled", "unknown stop reason"}
	for i, name := range names {
		if s := StopReason(i).String(); s != name {
			t.Errorf("stop reason %d is %q", i, s)
		}
	}
}

func TestCallbacks(t *testing.T) {
	var prefilled, steps, early, texts, tokens, ended int
	canvases := ""
	options := &GenerateOptions{
		MaxTokens:   64,
		IgnoreEnd:   true,
		ShowSpecial: true,
		OnPrefill: func(encoded, total int) error {
			prefilled++
			if encoded > total || total == 0 {
				t.Errorf("encoded %d of %d", encoded, total)
			}
			return nil
		},
		OnStep: func(s *Step) error {
			steps++
			lengths := []int{len(s.Draft), len(s.Entropy), len(s.LogProb), len(s.Drawn), len(s.Accepted), len(s.Changed),
				len(s.Pinned), len(s.Canvas)}
			if slices.Min(lengths) != 32 || slices.Max(lengths) != 32 || s.Step >= s.MaxSteps || s.StableLength > 32 ||
				s.Temperature <= 0 || s.Done != (s.Converged || s.Step+1 == s.MaxSteps) || slices.Contains(s.Pinned, true) {
				t.Errorf("step %+v", s)
			}
			if s.Block != texts {
				t.Errorf("step of block %d, expected %d", s.Block, texts)
			}
			return nil
		},
		OnEarlyText: func(text string) error {
			early++
			return nil
		},
		OnTokens: func(block int, ids []Token) error {
			if block != texts || len(ids) != 32 {
				t.Errorf("tokens %v of block %d, expected %d", ids, block, texts)
			}
			tokens += len(ids)
			return nil
		},
		OnText: func(text string) error {
			texts++
			canvases += text
			return nil
		},
		OnEnd: func(g Generation) {
			ended++
			if g.Text != canvases || g.Steps != steps || g.Blocks != texts || len(g.Tokens) != tokens {
				t.Errorf("end %+v", g)
			}
		},
	}
	g := must[Generation](t)(tiny().Generate(background, unknownTask, options))
	if prefilled == 0 || steps == 0 || early == 0 || texts != 2 || tokens != 64 || ended != 1 || g.Text != canvases {
		t.Errorf("%d prefills, %d steps, %d early texts, %d texts, %d tokens, %d ends", prefilled, steps, early, texts, tokens, ended)
	}
}

// Takes more than two steps and, with IgnoreEnd, two canvases.
const unknownTask = "Tell me a story about a grey fox."

// Each callback can stop the generation, with an error of its own and without.
func TestCallbacksStop(t *testing.T) {
	own := errors.New("enough")
	for _, stop := range []error{Stop, own} {
		for name, options := range map[string]GenerateOptions{
			"prefill": {OnPrefill: func(int, int) error { return stop }},
			"step":    {OnStep: func(*Step) error { return stop }},
			"early":   {OnEarlyText: func(string) error { return stop }},
			"tokens":  {OnTokens: func(int, []Token) error { return stop }},
			"text":    {OnText: func(string) error { return stop }},
			"noise":   {OnNoise: func(*Noise) error { return stop }},
		} {
			var ended *Generation
			options.MaxTokens, options.IgnoreEnd = 64, true
			options.OnEnd = func(g Generation) { ended = &g }
			g, err := tiny().Generate(background, unknownTask, &options)
			if stop == own && !errors.Is(err, own) || stop == Stop && err != nil || g.StopReason != StopCancelled {
				t.Errorf("%s, %v: %v, %v", name, stop, err, g.StopReason)
			}
			if ended == nil || ended.StopReason != StopCancelled {
				t.Errorf("%s: ended as %+v", name, ended)
			}
			if g := must[Generation](t)(tiny().Generate(background, question, nil)); g.Text != answer {
				t.Errorf("after %s: %q", name, g.Text)
			}
		}
	}
}

func TestSampler(t *testing.T) {
	own := must[Sampler](t)(tiny().Sampler())
	if own.MaxSteps != 16 || own.TMin <= 0 || own.TMax < own.TMin || own.EntropyBound <= 0 || own.Confidence <= 0 {
		t.Errorf("the model's: %+v", own)
	}
	if r := ReferenceSampler(); r.MaxSteps != 48 || r.TMin != 0.4 || r.TMax != 0.8 {
		t.Errorf("the reference's: %+v", r)
	}
	options := func(s Sampler) *GenerateOptions { return &GenerateOptions{Sampler: &s} }
	if g := must[Generation](t)(tiny().Generate(background, question, options(own))); g.Text != answer {
		t.Errorf("with the model's own: %q", g.Text)
	}
	one := must[[]Token](t)(tiny().Tokenize("1", 0))[0]
	banned := own
	banned.Banned = []Token{one}
	biased := own
	biased.LogitBias = []LogitBias{{one, -100}, {one, -100}}
	preferred := own
	nine := must[Generation](t)(tiny().Generate(background, question, nil)).Tokens[1]
	preferred.LogitBias = []LogitBias{{nine, 1000}}
	for name, s := range map[string]Sampler{"banned": banned, "biased": biased} {
		if g := must[Generation](t)(tiny().Generate(background, question, options(s))); strings.Contains(g.Text, "1") {
			t.Errorf("%s: %q", name, g.Text)
		}
	}
	if g := must[Generation](t)(tiny().Generate(background, question, options(preferred))); g.Text != strings.Repeat("9", 32) {
		t.Errorf("preferred: %q", g.Text)
	}
	few := own
	few.MaxSteps, few.Confidence = 3, 0
	if g := must[Generation](t)(tiny().Generate(background, question, options(few))); g.Steps != 3 {
		t.Errorf("%d steps, expected 3", g.Steps)
	}
	if g := must[Generation](t)(tiny().Generate(background, question, &GenerateOptions{Sampler: &few, MaxSteps: 2})); g.Steps != 2 {
		t.Errorf("%d steps, expected 2", g.Steps)
	}
}

func TestGenerateMisuse(t *testing.T) {
	own := must[Sampler](t)(tiny().Sampler())
	sampler := func(change func(*Sampler)) GenerateOptions {
		s := own
		change(&s)
		return GenerateOptions{Sampler: &s}
	}
	all := make([]Token, 512)
	for i := range all {
		all[i] = Token(i)
	}
	for name, options := range map[string]GenerateOptions{
		"kind": {Prompt: 7}, "tokens": {MaxTokens: -1}, "steps": {MaxSteps: -1}, "many steps": {MaxSteps: 1 << 30},
		"size": {ContextSize: -1}, "no sampler": {Sampler: new(Sampler)},
		"t_min":     sampler(func(s *Sampler) { s.TMin = 0 }),
		"t_max":     sampler(func(s *Sampler) { s.TMax = s.TMin / 2 }),
		"stability": sampler(func(s *Sampler) { s.Stability = -1 }),
		"stable":    sampler(func(s *Sampler) { s.StableSteps = 1 << 40 }),
		"bias":      sampler(func(s *Sampler) { s.LogitBias = []LogitBias{{512, 1}} }),
		"big bias":  sampler(func(s *Sampler) { s.LogitBias = []LogitBias{{1, 1e9}} }),
		"banned":    sampler(func(s *Sampler) { s.Banned = []Token{512} }),
		"all":       sampler(func(s *Sampler) { s.Banned = all }),
	} {
		if g, err := tiny().Generate(background, question, &options); !errors.Is(err, ErrInvalidArgument) || g.Text != "" {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := tiny().Generate(background, "\xff", nil); !errors.Is(err, ErrInvalidArgument) {
		t.Error(err)
	}
	if _, err := tiny().Generate(nil, question, nil); !errors.Is(err, ErrInvalidArgument) { //nolint:staticcheck // the test
		t.Error(err)
	}
	if _, err := tiny().Generate(background, question, &GenerateOptions{ContextSize: 33}); !errors.Is(err, ErrContextFull) {
		t.Error(err)
	}
}

// A recording of the noise of one seed gives that seed's text with another one.
func TestNoise(t *testing.T) {
	type key struct {
		purpose     NoisePurpose
		block, step int
	}
	recording := map[key]Noise{}
	record := &GenerateOptions{Seed: 13, MaxTokens: 96, OnNoise: func(n *Noise) error {
		if (n.Tokens == nil) == (n.Draws == nil) || (n.Draws != nil) != (n.Purpose == NoiseDraws) {
			t.Errorf("noise %+v", n)
		}
		recording[key{n.Purpose, n.Block, n.Step}] = *n
		return nil
	}}
	want := must[Generation](t)(tiny().Generate(background, unknownTask, record))
	replay := &GenerateOptions{Seed: 14, MaxTokens: 96}
	if other := must[Generation](t)(tiny().Generate(background, unknownTask, replay)); other.Text == want.Text {
		t.Fatal("both seeds give the same text")
	}
	replay.OnNoise = func(n *Noise) error {
		recorded := recording[key{n.Purpose, n.Block, n.Step}]
		copy(n.Tokens, recorded.Tokens)
		copy(n.Draws, recorded.Draws)
		return nil
	}
	if got := must[Generation](t)(tiny().Generate(background, unknownTask, replay)); got.Text != want.Text {
		t.Errorf("replayed %q, recorded %q", got.Text, want.Text)
	}
	wrong := &GenerateOptions{OnNoise: func(n *Noise) error {
		for i := range n.Tokens {
			n.Tokens[i] = 512
		}
		return nil
	}}
	if _, err := tiny().Generate(background, unknownTask, wrong); !errors.Is(err, ErrInvalidArgument) {
		t.Error(err)
	}
}

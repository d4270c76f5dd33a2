package dgemma

import (
	"context"
	"errors"
	"iter"
	"testing"
)

// With two canvases to leave between.
var twoCanvases = &GenerateOptions{MaxTokens: 64, IgnoreEnd: true, ShowSpecial: true}

func TestSteps(t *testing.T) {
	c := newTestContext(t, question, nil)
	var last *Step
	var heard, also int
	var g Generation
	options := &GenerateOptions{OnStep: func(*Step) error { also++; return nil }, OnEnd: func(end Generation) { g = end }}
	for step, err := range c.Steps(background, options) {
		if err != nil {
			t.Fatal(err)
		}
		last = step
		heard++
	}
	if heard != g.Steps || also != g.Steps || g.Text != answer {
		t.Errorf("heard %d and %d steps of %+v", heard, also, g)
	}
	if s := must[string](t)(tiny().Detokenize(last.Draft[:len(g.Tokens)], HideSpecial)); s != answer || !last.Done {
		t.Errorf("the last draft is %q", s)
	}
}

// count runs through a sequence and leaves after n values.
func count[T any](t *testing.T, sequence iter.Seq2[T, error], n int) (values int) {
	t.Helper()
	for _, err := range sequence {
		if err != nil {
			t.Fatal(err)
		}
		if values++; values == n {
			break
		}
	}
	return values
}

// Leaving a loop stops the generation, and leaves the context ready for the next one.
func TestBreak(t *testing.T) {
	c := newTestContext(t, question, nil)
	prompt := len(must[[]Token](t)(c.Tokens()))
	var ended []StopReason
	options := *twoCanvases
	options.OnEnd = func(g Generation) { ended = append(ended, g.StopReason) }
	if n := count(t, c.Steps(background, &options), 1); n != 1 {
		t.Errorf("%d steps", n)
	}
	if n := len(must[[]Token](t)(c.Tokens())); n != prompt {
		t.Errorf("%d tokens after a step, expected %d", n, prompt)
	}
	if n := count(t, c.Text(background, &options), 1); n != 1 {
		t.Errorf("%d texts", n)
	}
	if n := len(must[[]Token](t)(c.Tokens())); n != prompt+32 {
		t.Errorf("%d tokens after a canvas, expected %d", n, prompt+32)
	}
	if len(ended) != 2 || ended[0] != StopCancelled || ended[1] != StopCancelled {
		t.Errorf("ended %v", ended)
	}
	before := live.Load()
	if n := count(t, tiny().Text(background, question, &options), 1); n != 1 || live.Load() != before {
		t.Errorf("%d texts, %d objects left", n, live.Load()-before)
	}
	// Each loop over a sequence generates anew.
	texts := c.Text(background, twoCanvases)
	if n := count(t, texts, 9) + count(t, texts, 9); n != 4 {
		t.Errorf("%d texts of two loops", n)
	}
}

// Before it begins, too.
func TestCancelledBefore(t *testing.T) {
	ctx, cancel := context.WithCancel(background)
	cancel()
	if g, err := tiny().Generate(ctx, question, nil); !errors.Is(err, context.Canceled) || g.StopReason != StopCancelled {
		t.Errorf("%+v, %v", g, err)
	}
}

func TestIteratorErrors(t *testing.T) {
	c := newTestContext(t, question, nil)
	own := errors.New("enough")
	ctx, cancel := context.WithCancel(background)
	cancel()
	wrong := &GenerateOptions{MaxTokens: -1}
	var nilContext *Context
	for name, s := range map[string]struct {
		sequence func(func(error) bool)
		want     error
	}{
		"text":       {second(c.Text(background, wrong)), ErrInvalidArgument},
		"steps":      {second(c.Steps(background, wrong)), ErrInvalidArgument},
		"model":      {second(tiny().Text(background, "\xff", nil)), ErrInvalidArgument},
		"cancelled":  {second(c.Text(ctx, nil)), context.Canceled},
		"callback":   {second(c.Text(background, &GenerateOptions{OnText: func(string) error { return own }})), own},
		"callback 2": {second(c.Steps(background, &GenerateOptions{OnStep: func(*Step) error { return own }})), own},
		"closed":     {second(nilContext.Text(background, nil)), ErrClosed},
	} {
		var errs []error
		for err := range s.sequence {
			errs = append(errs, err)
		}
		if len(errs) != 1 || !errors.Is(errs[0], s.want) {
			t.Errorf("%s: %v, expected %v", name, errs, s.want)
		}
	}
}

func second[T any](s iter.Seq2[T, error]) iter.Seq[error] {
	return func(yield func(error) bool) {
		for _, err := range s {
			if !yield(err) {
				return
			}
		}
	}
}

// iter.Pull moves the loop to a goroutine of its own.
func TestPull(t *testing.T) {
	c := newTestContext(t, question, nil)
	next, stop := iter.Pull2(c.Text(background, twoCanvases))
	if _, err, ok := next(); err != nil || !ok {
		t.Errorf("%v, %v", err, ok)
	}
	if err := c.Reset(); !errors.Is(err, ErrBusy) {
		t.Errorf("reset of a context in use: %v", err)
	}
	stop()
	if err := c.Reset(); err != nil {
		t.Error(err)
	}
}

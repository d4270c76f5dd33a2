package dgemma

import (
	"context"
	"errors"
	"runtime"
	"slices"
	"sync"
	"testing"
	"time"
)

// A cancel stops within a layer, not at the end of a step: the reference backend takes long enough for a step to tell.
// Bound: a step has six layers and a head, so that a cancel at its beginning that waited for its end took all of it, and
// one that does not takes a seventh or so. The median of several tries must lie below half a step.
func TestCancelLatency(t *testing.T) {
	model := must[*Model](t)(Load(tinyPath, &LoadOptions{Backend: Reference, Threads: 1}))
	defer model.Close()
	var latencies, steps []time.Duration
	for range 9 {
		ctx, cancel := context.WithCancel(background)
		var at, before time.Time
		n := 0
		options := endless()
		options.OnStep = func(*Step) error {
			switch n++; n {
			case 1:
				before = time.Now()
			case 2: // the next step begins when this returns
				steps = append(steps, time.Since(before))
				time.AfterFunc(time.Millisecond, func() {
					at = time.Now()
					cancel()
				})
			}
			return nil
		}
		g, err := model.Generate(ctx, question, options)
		if !errors.Is(err, context.Canceled) || g.StopReason != StopCancelled || n != 2 {
			t.Fatalf("%v after %d steps, %v", err, n, g.StopReason)
		}
		latencies = append(latencies, time.Since(at))
	}
	latency, step := median(latencies), median(steps)
	t.Logf("cancelled after %v (median), a step takes %v", latency, step)
	if latency > step/2 {
		t.Errorf("cancelled after %v (median of %v), a step takes %v", latency, latencies, step)
	}
}

func median(d []time.Duration) time.Duration {
	slices.Sort(d)
	return d[len(d)/2]
}

func TestDeadline(t *testing.T) {
	cause := errors.New("the user went away")
	for _, c := range []struct {
		ctx   func() (context.Context, func())
		wants []error
	}{
		{func() (context.Context, func()) {
			ctx, cancel := context.WithTimeout(background, 20*time.Millisecond)
			return ctx, cancel
		}, []error{context.DeadlineExceeded, ErrCancelled}},
		{func() (context.Context, func()) {
			ctx, cancel := context.WithCancelCause(background)
			time.AfterFunc(20*time.Millisecond, func() { cancel(cause) })
			return ctx, func() {}
		}, []error{context.Canceled, ErrCancelled, cause}},
	} {
		ctx, done := c.ctx()
		g, err := tiny().Generate(ctx, question, endless())
		for _, want := range c.wants {
			if !errors.Is(err, want) {
				t.Errorf("%v is not %v", err, want)
			}
		}
		if g.StopReason != StopCancelled {
			t.Errorf("%v, %v", err, g.StopReason)
		}
		done()
	}
}

// A cancel that comes as a call ends must not stop the next one.
func TestLateCancel(t *testing.T) {
	c := newTestContext(t, question, nil)
	prompt := must[[]Token](t)(c.Tokens())
	cancelled := 0
	for i := range 200 {
		must[int](t)(c.SetTokens(prompt))
		ctx, cancel := context.WithCancel(background)
		go func() {
			time.Sleep(time.Duration(i) * 50 * time.Microsecond)
			cancel()
		}()
		if _, err := c.Generate(ctx, nil); err != nil {
			cancelled++
			if !errors.Is(err, context.Canceled) {
				t.Fatal(err)
			}
		}
		cancel()
		must[int](t)(c.SetTokens(prompt))
		if g := must[Generation](t)(c.Generate(background, nil)); g.Text != answer || g.StopReason != StopEnd {
			t.Fatalf("try %d: %q, %v", i, g.Text, g.StopReason)
		}
	}
	if cancelled == 0 || cancelled == 200 {
		t.Logf("%d of 200 were cancelled: the times do not fit this machine", cancelled)
	}
}

// What a callback throws comes out of the call that it belongs to, and leaves the context as a stop does.
func TestPanicInCallback(t *testing.T) {
	throw := func() error { panic("the callback's own") }
	generate := func(options GenerateOptions) func(*Context) {
		options.MaxTokens = 96
		return func(c *Context) { c.Generate(background, &options) }
	}
	for name, call := range map[string]func(*Context){
		"prefill":  generate(GenerateOptions{OnPrefill: func(int, int) error { return throw() }}),
		"step":     generate(GenerateOptions{OnStep: func(*Step) error { return throw() }}),
		"early":    generate(GenerateOptions{OnEarlyText: func(string) error { return throw() }}),
		"tokens":   generate(GenerateOptions{OnTokens: func(int, []Token) error { return throw() }}),
		"text":     generate(GenerateOptions{OnText: func(string) error { return throw() }}),
		"noise":    generate(GenerateOptions{OnNoise: func(*Noise) error { return throw() }}),
		"encoding": func(c *Context) { c.Prefill(background, func(int, int) error { return throw() }) },
		"loading":  func(*Context) { Load(tinyPath, &LoadOptions{OnProgress: func(float32) error { return throw() }}) },
		"loop": func(c *Context) {
			for range c.Steps(background, nil) {
				throw()
			}
		},
		"new block": func(c *Context) {
			c.BeginBlock(background, &BlockOptions{OnNoise: func(*Noise) error { return throw() }})
		},
		"block": func(c *Context) {
			b := must[*Block](t)(c.BeginBlock(background, &BlockOptions{OnNoise: func(n *Noise) error {
				if n.Purpose != NoiseCanvas {
					throw()
				}
				return nil
			}}))
			defer b.Close()
			b.Step(background)
		},
	} {
		c := newTestContext(t, unknownTask, nil)
		prompt := must[[]Token](t)(c.Tokens())
		thrown := func() (r any) {
			defer func() { r = recover() }()
			call(c)
			return nil
		}()
		if thrown != "the callback's own" {
			t.Errorf("%s: %v came out", name, thrown)
		}
		must[int](t)(c.SetTokens(prompt))
		want := must[Generation](t)(newTestContext(t, unknownTask, nil).Generate(background, nil)).Text
		if g, err := c.Generate(background, nil); err != nil || g.Text != want {
			t.Errorf("after %s: %q, %v, expected %q", name, g.Text, err, want)
		}
	}
}

// t.FailNow and the like end the goroutine of a loop: the generation stops, the context is free.
func TestGoexitInLoop(t *testing.T) {
	c := newTestContext(t, question, nil)
	var ended sync.WaitGroup
	ended.Add(1)
	go func() {
		defer ended.Done()
		for range c.Steps(background, endless()) {
			runtime.Goexit()
		}
	}()
	ended.Wait()
	if err := c.Reset(); err != nil {
		t.Error(err)
	}
}

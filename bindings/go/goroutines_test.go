package dgemma

import (
	"errors"
	"fmt"
	"sync"
	"testing"
)

// Sixteen goroutines with a context each over one model give what one after the other gives.
func TestManyContexts(t *testing.T) {
	prompts := []string{question, "Count from 3 to 11.", "Sort the digits 52914.", unknownTask}
	options := func(i int) *GenerateOptions { return &GenerateOptions{Seed: uint64(i + 1), MaxTokens: 96} }
	var want [16]string
	for i := range want {
		want[i] = must[Generation](t)(tiny().Generate(background, prompts[i%len(prompts)], options(i))).Text
	}
	var all sync.WaitGroup
	for i := range want {
		c := newTestContext(t, prompts[i%len(prompts)], nil)
		all.Add(1)
		go func() {
			defer all.Done()
			if g, err := c.Generate(background, options(i)); err != nil || g.Text != want[i] {
				t.Errorf("goroutine %d: %q, %v, expected %q", i, g.Text, err, want[i])
			}
		}()
	}
	all.Wait()
}

// Errors keep their text although goroutines change threads.
func TestErrorsOfGoroutines(t *testing.T) {
	var all sync.WaitGroup
	for i := range 16 {
		all.Add(1)
		go func() {
			defer all.Done()
			for n := range 200 {
				key := fmt.Sprintf("key.%d.%d", i, n)
				if _, err := tiny().Metadata(key); err == nil || err.Error() != "dgemma: key `"+key+"` not found" {
					t.Errorf("%s: %v", key, err)
				}
			}
		}()
	}
	all.Wait()
}

// While a call uses a context, all others are answered at once and change nothing.
func TestBusy(t *testing.T) {
	c := newTestContext(t, question, nil)
	b := must[*Block](t)(c.BeginBlock(background, nil))
	defer b.Close()
	calls := map[string]func() error{
		"append":   func() error { return c.Append(1) },
		"set":      func() error { _, err := c.SetTokens(nil); return err },
		"truncate": func() error { return c.Truncate(0) },
		"reset":    func() error { return c.Reset() },
		"tokens":   func() error { _, err := c.Tokens(); return err },
		"prefill":  func() error { return c.Prefill(background, nil) },
		"info":     func() error { _, err := c.Info(); return err },
		"perf":     func() error { _, err := c.Perf(); return err },
		"memory":   func() error { _, err := c.Memory(); return err },
		"score":    func() error { _, err := c.Score(background, []Token{1}, nil); return err },
		"clone":    func() error { _, err := c.Clone(); return err },
		"save":     func() error { _, err := c.Save(); return err },
		"load":     func() error { return c.Load([]byte{1}) },
		"generate": func() error { _, err := c.Generate(background, nil); return err },
		"begin":    func() error { _, err := c.BeginBlock(background, nil); return err },
		"step":     func() error { _, err := b.Step(background); return err },
		"last":     func() error { _, err := b.Last(); return err },
		"rows":     func() error { _, err := b.LogProbs(0); return err },
		"commit":   func() error { return b.Commit(0) },
	}
	checkAll := func() {
		for name, call := range calls {
			if err := call(); !errors.Is(err, ErrBusy) {
				t.Errorf("%s: %v", name, err)
			}
		}
	}
	tested := false
	g, err := c.Generate(background, &GenerateOptions{OnStep: func(*Step) error {
		if tested {
			return nil
		}
		tested = true
		checkAll() // from the callback
		var other sync.WaitGroup
		other.Add(1)
		go func() { // from another goroutine
			defer other.Done()
			checkAll()
		}()
		other.Wait()
		return nil
	}})
	if err != nil || g.Text != answer || !tested {
		t.Errorf("%q, %v", g.Text, err)
	}
}

func TestDetokenizersOfGoroutines(t *testing.T) {
	d := must[*Detokenizer](t)(tiny().NewDetokenizer(HideSpecial))
	defer d.Close()
	tokens := must[[]Token](t)(tiny().Tokenize("abc", 0))
	var all sync.WaitGroup
	for range 8 {
		all.Add(1)
		go func() {
			defer all.Done()
			for range 100 {
				if _, err := d.Push(tokens...); err != nil && !errors.Is(err, ErrBusy) {
					t.Error(err)
				}
			}
		}()
	}
	all.Wait()
}

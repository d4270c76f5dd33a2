package dgemma

import (
	"errors"
	"io"
	"sync"
	"testing"
)

// Every method of a closed object, of nil, and of a value that the package did not make answers so.
func TestUseAfterClose(t *testing.T) {
	model := must[*Model](t)(Load(tinyPath, nil))
	c := must[*Context](t)(model.NewContext(nil))
	b := must[*Block](t)(c.BeginBlock(background, nil))
	d := must[*Detokenizer](t)(model.NewDetokenizer(HideSpecial))
	for _, closer := range []io.Closer{model, c, b, d, model, c, b, d} { // twice each
		if err := closer.Close(); err != nil {
			t.Error(err)
		}
	}
	for _, m := range []*Model{model, nil, {}} {
		checkModelClosed(t, m)
	}
	for _, c := range []*Context{c, nil, {}} {
		checkContextClosed(t, c)
	}
	for _, b := range []*Block{b, nil, {}} {
		checkBlockClosed(t, b)
	}
	for _, d := range []*Detokenizer{d, nil, {}} {
		_, push := d.Push(1)
		_, finish := d.Finish()
		checkClosed(t, push, finish, d.Close())
	}
}

// checkClosed checks that all errors but the last, which is Close's, are ErrClosed.
func checkClosed(t *testing.T, errs ...error) {
	t.Helper()
	for i, err := range errs[:len(errs)-1] {
		if !errors.Is(err, ErrClosed) {
			t.Errorf("call %d: %v", i, err)
		}
	}
	if err := errs[len(errs)-1]; err != nil {
		t.Errorf("Close: %v", err)
	}
}

func checkModelClosed(t *testing.T, m *Model) {
	t.Helper()
	_, info := m.Info()
	_, memory := m.Memory()
	_, fingerprint := m.Fingerprint()
	_, keys := m.MetadataKeys()
	_, value := m.Metadata("general.name")
	_, tokenize := m.Tokenize("a", 0)
	_, detokenize := m.Detokenize(nil, HideSpecial)
	_, piece := m.Piece(1)
	_, attributes := m.Attributes(1)
	_, find := m.FindToken("a")
	_, special := m.SpecialToken(BOS)
	_, chat := m.RenderChat(nil, nil)
	_, detokenizer := m.NewDetokenizer(HideSpecial)
	_, sampler := m.Sampler()
	_, context := m.NewContext(nil)
	_, generate := m.Generate(background, question, nil)
	if m.IsEnd(1) {
		t.Error("IsEnd of a closed model")
	}
	for _, err := range m.Text(background, question, nil) {
		checkClosed(t, err, nil)
	}
	checkClosed(t, info, memory, fingerprint, keys, value, tokenize, detokenize, piece, attributes, find, special, chat,
		detokenizer, sampler, context, generate, m.Close())
}

func checkContextClosed(t *testing.T, c *Context) {
	t.Helper()
	_, set := c.SetTokens(nil)
	_, tokens := c.Tokens()
	_, info := c.Info()
	_, perf := c.Perf()
	_, memory := c.Memory()
	_, score := c.Score(background, []Token{1}, nil)
	_, clone := c.Clone()
	_, save := c.Save()
	_, generate := c.Generate(background, nil)
	_, begin := c.BeginBlock(background, nil)
	for _, err := range c.Steps(background, nil) {
		checkClosed(t, err, nil)
	}
	checkClosed(t, c.Append(), set, c.Truncate(0), c.Reset(), tokens, c.Prefill(background, nil), info, perf, memory, score,
		clone, save, c.Load([]byte{1}), c.SaveFile("x"), c.LoadFile("x"), generate, begin, c.Close())
}

func checkBlockClosed(t *testing.T, b *Block) {
	t.Helper()
	_, step := b.Step(background)
	_, last := b.Last()
	_, logProbs := b.LogProbs(0)
	_, logits := b.Logits(0)
	_, score := b.Score(background, nil)
	for _, err := range b.Steps(background) {
		checkClosed(t, err, nil)
	}
	checkClosed(t, step, last, logProbs, logits, score, b.Commit(0), b.Close())
}

// Objects may be closed in any order.
func TestCloseParentsFirst(t *testing.T) {
	model := must[*Model](t)(Load(tinyPath, nil))
	rendered := must[string](t)(model.RenderChat([]Message{{Role: "user", Content: question}}, nil))
	tokens := must[[]Token](t)(model.Tokenize(rendered, ParseSpecial))
	d := must[*Detokenizer](t)(model.NewDetokenizer(HideSpecial))
	c := must[*Context](t)(model.NewContext(nil))
	model.Close()
	if err := c.Append(tokens...); err != nil {
		t.Fatal(err)
	}
	b := must[*Block](t)(c.BeginBlock(background, nil))
	c.Close()
	for _, err := range b.Steps(background) {
		if err != nil {
			t.Fatal(err)
		}
	}
	draft := must[*Step](t)(b.Last()).Draft
	b.Close()
	if s := must[string](t)(d.Push(draft[:2]...)); s != answer {
		t.Errorf("answer %q", s)
	}
	d.Close()
}

// A call under way goes on to its end when its object is closed, from a callback and from elsewhere.
func TestCloseDuringCall(t *testing.T) {
	before := live.Load()
	for _, elsewhere := range []bool{false, true} {
		model := must[*Model](t)(Load(tinyPath, nil))
		rendered := must[string](t)(model.RenderChat([]Message{{Role: "user", Content: question}}, nil))
		tokens := must[[]Token](t)(model.Tokenize(rendered, ParseSpecial))
		c := must[*Context](t)(model.NewContext(nil))
		if err := c.Append(tokens...); err != nil {
			t.Fatal(err)
		}
		closeAll := func() {
			c.Close()
			model.Close()
		}
		g, err := c.Generate(background, &GenerateOptions{OnStep: func(*Step) error {
			if elsewhere {
				var other sync.WaitGroup
				other.Add(1)
				go func() {
					defer other.Done()
					closeAll()
				}()
				other.Wait()
			} else {
				closeAll()
			}
			if _, err := c.Info(); !errors.Is(err, ErrClosed) {
				t.Errorf("Info: %v", err)
			}
			return nil
		}})
		if err != nil || g.Text != answer {
			t.Errorf("%q, %v", g.Text, err)
		}
	}
	if n := live.Load(); n != before {
		t.Errorf("%d objects left", n-before)
	}
}

// Closing races with calls on other goroutines.
func TestCloseRaces(t *testing.T) {
	for range 20 {
		model := must[*Model](t)(Load(tinyPath, nil))
		var all sync.WaitGroup
		for range 4 {
			all.Add(1)
			go func() {
				defer all.Done()
				for {
					if _, err := model.Tokenize(question, 0); err != nil {
						if !errors.Is(err, ErrClosed) {
							t.Error(err)
						}
						return
					}
				}
			}()
		}
		model.Close()
		all.Wait()
	}
}

// What is forgotten is freed by the garbage collector.
func TestForgotten(t *testing.T) {
	before := live.Load()
	func() {
		model := must[*Model](t)(Load(tinyPath, nil))
		c := must[*Context](t)(model.NewContext(nil))
		must[*Detokenizer](t)(model.NewDetokenizer(HideSpecial))
		must[*Block](t)(c.BeginBlock(background, &BlockOptions{OnNoise: func(*Noise) error { return nil }}))
		must[*Context](t)(c.Clone())
		if n := live.Load() - before; n != 5 {
			t.Errorf("%d objects, expected 5", n)
		}
	}()
	collected(t, before)
}

// Failures leave nothing behind either.
func TestNothingLeft(t *testing.T) {
	before := live.Load()
	for range 50 {
		model := must[*Model](t)(Load(tinyPath, nil))
		for _, prompt := range []string{question, "\xff"} {
			model.Generate(background, prompt, &GenerateOptions{ContextSize: 100})
			model.Generate(background, prompt, &GenerateOptions{MaxTokens: -1})
			for range model.Text(background, prompt, nil) {
				break
			}
		}
		Load("no/such/file", nil)
		model.NewContext(&ContextOptions{Size: 1})
		model.Close()
	}
	if n := live.Load(); n != before {
		t.Errorf("%d objects left", n-before)
	}
}

package dgemma

import (
	"context"
	"fmt"
	"os"
	"runtime"
	"sync"
	"testing"
	"time"
)

// The built-in model: it adds, sorts, counts, spells backwards, and knows capitals.
const tinyPath = "../../examples/tiny/dgemma-tiny.gguf"

// What it answers to what, for any seed.
const question, answer = "What is 7 + 12?", "19"

// tiny is the built-in model, loaded once for all tests.
var tiny = sync.OnceValue(func() *Model {
	model, err := Load(tinyPath, nil)
	if err != nil {
		panic(err)
	}
	return model
})

// TestMain fails if the tests leave anything of the library behind.
func TestMain(m *testing.M) {
	code := m.Run()
	if code == 0 {
		tiny().Close()
		if n := live.Load(); n != 0 {
			fmt.Fprintf(os.Stderr, "%d objects of the library were not closed\n", n)
			code = 1
		}
	}
	os.Exit(code)
}

func must[T any](t testing.TB) func(T, error) T {
	return func(value T, err error) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return value
	}
}

// newTestContext is a context with a prompt in it, closed at the end of the test.
func newTestContext(t testing.TB, prompt string, options *ContextOptions) *Context {
	t.Helper()
	rendered := must[string](t)(tiny().RenderChat([]Message{{Role: "user", Content: prompt}}, nil))
	tokens := must[[]Token](t)(tiny().Tokenize(rendered, ParseSpecial))
	c := must[*Context](t)(tiny().NewContext(options))
	t.Cleanup(func() { c.Close() })
	if err := c.Append(tokens...); err != nil {
		t.Fatal(err)
	}
	return c
}

// endless generates until something stops it, or the context of 8192 positions is full.
func endless() *GenerateOptions {
	return &GenerateOptions{MaxTokens: 1 << 20, IgnoreEnd: true}
}

// collected runs the garbage collector until want objects of the library are left.
func collected(t *testing.T, want int64) {
	t.Helper()
	for i := 0; i < 200; i++ {
		runtime.GC()
		if live.Load() == want {
			return
		}
		time.Sleep(5 * time.Millisecond)
	}
	t.Errorf("%d objects of the library are left, expected %d", live.Load(), want)
}

var background = context.Background()

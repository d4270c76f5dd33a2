package dgemma

import (
	"os"
	"runtime"
	"strconv"
	"strings"
	"testing"
)

// resident is the memory of this process that the system holds, in bytes.
func resident(t *testing.T) int {
	fields := strings.Fields(string(must[[]byte](t)(os.ReadFile("/proc/self/statm"))))
	return must[int](t)(strconv.Atoi(fields[1])) * os.Getpagesize()
}

// Models that come and go leave no memory behind. Bound: a context has 1.7 MB of activations, nearly thirty times what a
// cycle may leave. The allocator and the race detector keep books of their own: 21 KB a cycle were measured, which come to
// an end after some 1,000.
func TestMemoryIsFlat(t *testing.T) {
	const cycles, perCycle = 300, 60_000
	cycle := func() {
		model := must[*Model](t)(Load(tinyPath, nil))
		if g := must[Generation](t)(model.Generate(background, question, nil)); g.Text != answer {
			t.Fatalf("%q", g.Text)
		}
		model.Close()
	}
	for range 100 {
		cycle()
	}
	runtime.GC()
	before, goroutines := resident(t), runtime.NumGoroutine()
	for range cycles {
		cycle()
	}
	runtime.GC()
	grown := resident(t) - before
	t.Logf("%d cycles: %+d bytes", cycles, grown)
	if grown > cycles*perCycle {
		t.Errorf("%d cycles left %d bytes", cycles, grown)
	}
	if n := runtime.NumGoroutine(); n > goroutines {
		t.Errorf("%d goroutines left", n-goroutines)
	}
}

package dgemma

import "testing"

// What a call costs beyond the library's work: cgo and counting the call in.
func BenchmarkCall(b *testing.B) {
	for range b.N {
		tiny().IsEnd(1)
	}
}

// What a call that can be cancelled costs beyond that: a goroutine, a handle, two channels.
func BenchmarkComputingCall(b *testing.B) {
	c := newTestContext(b, question, nil)
	if err := c.Prefill(background, nil); err != nil {
		b.Fatal(err)
	}
	for range b.N {
		if err := c.Prefill(background, nil); err != nil { // nothing is left to do
			b.Fatal(err)
		}
	}
}

// What a callback costs: two changes of goroutine around a call from C. Noise comes with a generation, thrice a step.
func BenchmarkGenerate(b *testing.B) {
	for _, options := range []struct {
		name string
		*GenerateOptions
	}{{"plain", nil}, {"callbacks", &GenerateOptions{
		OnStep:  func(*Step) error { return nil },
		OnNoise: func(*Noise) error { return nil },
	}}} {
		b.Run(options.name, func(b *testing.B) {
			c := newTestContext(b, question, nil)
			prompt := must[[]Token](b)(c.Tokens())
			for range b.N {
				must[int](b)(c.SetTokens(prompt))
				must[Generation](b)(c.Generate(background, options.GenerateOptions))
			}
		})
	}
}

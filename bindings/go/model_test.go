package dgemma

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

func TestInfo(t *testing.T) {
	info := must[ModelInfo](t)(tiny().Info())
	file := must[os.FileInfo](t)(os.Stat(tinyPath))
	want := ModelInfo{VocabSize: 512, CanvasLength: 32, ContextLength: 4096, Layers: 6, HiddenSize: 64, Experts: 8,
		ExpertsUsed: 2, Backend: CPU, Parameters: info.Parameters, FileBytes: uint64(file.Size()),
		TensorBytes: info.TensorBytes, Files: 1, Tensors: 144}
	if info != want || info.Parameters < 1_000_000 || info.TensorBytes >= info.FileBytes {
		t.Errorf("info %+v", info)
	}
	memory := must[Memory](t)(tiny().Memory())
	if memory.Weights != info.FileBytes || memory.KV != 0 || memory.Activations != 0 {
		t.Errorf("memory %+v", memory)
	}
}

func TestMetadata(t *testing.T) {
	keys := must[[]string](t)(tiny().MetadataKeys())
	if keys[0] != "general.architecture" || !slices.Contains(keys, "tokenizer.ggml.tokens") {
		t.Errorf("keys %v", keys)
	}
	for key, want := range map[string]string{"general.architecture": "diffusion-gemma", "diffusion.canvas_length": "32"} {
		if value := must[string](t)(tiny().Metadata(key)); value != want {
			t.Errorf("%s is %q, expected %q", key, value, want)
		}
	}
	// Longer than the first buffer.
	if tokens := must[string](t)(tiny().Metadata("tokenizer.ggml.tokens")); len(tokens) < 2000 || tokens[0] != '[' {
		t.Errorf("tokens %q", tokens)
	}
	if _, err := tiny().Metadata("no.such.key"); !errors.Is(err, ErrNotFound) || !strings.Contains(err.Error(), "no.such.key") {
		t.Errorf("%v", err)
	}
}

func TestFingerprint(t *testing.T) {
	model := must[*Model](t)(Load(tinyPath, &LoadOptions{Read: true}))
	defer model.Close()
	mapped, read := must[uint64](t)(tiny().Fingerprint()), must[uint64](t)(model.Fingerprint())
	if mapped != read || mapped == 0 {
		t.Errorf("fingerprints %x and %x", mapped, read)
	}
}

// Every way to load gives the same answer.
func TestLoadOptions(t *testing.T) {
	for _, options := range []LoadOptions{{}, {Threads: 1}, {Threads: 3}, {Read: true}, {Backend: Reference}, {Exact: true},
		{CPULevel: CPUScalar}} {
		model := must[*Model](t)(Load(tinyPath, &options))
		if backend := must[ModelInfo](t)(model.Info()).Backend; backend != options.Backend {
			t.Errorf("%+v: backend %v", options, backend)
		}
		if g, err := model.Generate(background, question, nil); err != nil || g.Text != answer {
			t.Errorf("%+v: %q, %v", options, g.Text, err)
		}
		model.Close()
	}
	// The right to lock 4 MB is usual but not certain.
	model, err := Load(tinyPath, &LoadOptions{Lock: true})
	if err != nil && !errors.Is(err, ErrIO) {
		t.Error(err)
	}
	model.Close()
}

func TestLoadProgress(t *testing.T) {
	var heard []float32
	model := must[*Model](t)(Load(tinyPath, &LoadOptions{OnProgress: func(fraction float32) error {
		heard = append(heard, fraction)
		return nil
	}}))
	model.Close()
	if !slices.IsSorted(heard) || len(heard) == 0 || heard[len(heard)-1] != 1 {
		t.Errorf("progress %v", heard)
	}
	own := errors.New("no time")
	for _, stop := range []error{Stop, own} {
		want := stop
		if stop == Stop {
			want = ErrCancelled
		}
		if _, err := Load(tinyPath, &LoadOptions{OnProgress: func(float32) error { return stop }}); !errors.Is(err, want) {
			t.Errorf("stopped by %v: %v", stop, err)
		}
	}
}

func TestLoadFailures(t *testing.T) {
	dir := t.TempDir()
	bad := filepath.Join(dir, "bad.gguf")
	file := must[[]byte](t)(os.ReadFile(tinyPath))
	if err := os.WriteFile(bad, file[:len(file)/2], 0o600); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		path    string
		options LoadOptions
		want    error
		text    string
	}{
		{"no/such/file.gguf", LoadOptions{}, ErrIO, "no/such/file.gguf"},
		{bad, LoadOptions{}, ErrBadFile, "bad.gguf"},
		{"go.mod", LoadOptions{}, ErrBadFile, "go.mod"},
		{"", LoadOptions{}, ErrIO, ""},
		{"\xff", LoadOptions{}, ErrInvalidArgument, "`path`: is not UTF-8"},
		{"a\x00b", LoadOptions{}, ErrInvalidArgument, "`path`: has a NUL at byte 1"},
		{tinyPath, LoadOptions{Backend: 99}, ErrInvalidArgument, "`backend`: is 99"},
		{tinyPath, LoadOptions{Threads: 1025}, ErrInvalidArgument, "`threads`: is 1025"},
		{tinyPath, LoadOptions{Threads: -1}, ErrInvalidArgument, "`threads`: is -1"},
		{tinyPath, LoadOptions{CPULevel: 99}, ErrInvalidArgument, "`cpu_level`: is 99"},
	} {
		model, err := Load(c.path, &c.options)
		var e *Error
		if model != nil || !errors.Is(err, c.want) || !errors.As(err, &e) || !strings.Contains(e.Text, c.text) {
			t.Errorf("%q %+v: %v, expected %v", c.path, c.options, err, c.want)
		}
	}
}

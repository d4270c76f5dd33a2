package dgemma

import (
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// What Go does without, and why.
var unbound = map[string]string{
	"dgemma_generate":           "Model.Generate makes a context itself, so that a cancel stops it within a layer",
	"dgemma_context_last_error": "the shim fetches the text of each failure inside the call that failed",
}

// Every function of the header is called, and nothing is listed as unbound that is bound, or gone.
func TestEveryFunction(t *testing.T) {
	header := string(must[[]byte](t)(os.ReadFile("../../include/dgemma.h")))
	_, header, _ = strings.Cut(header, `extern "C" {`)
	header = regexp.MustCompile(`(?s)/\*.*?\*/`).ReplaceAllString(header, "")
	names := regexp.MustCompile(`\bdgemma_\w+\(`).FindAllString(header, -1)
	if len(names) < 60 {
		t.Fatalf("%d functions in the header", len(names))
	}
	var code strings.Builder
	for _, pattern := range []string{"*.go", "shim.c"} {
		for _, path := range must[[]string](t)(filepath.Glob(pattern)) {
			if !strings.HasSuffix(path, "_test.go") {
				code.Write(must[[]byte](t)(os.ReadFile(path)))
			}
		}
	}
	called := regexp.MustCompile(`\bdgemma_\w+\(`).FindAllString(code.String(), -1)
	for _, name := range names {
		bare := strings.TrimSuffix(name, "(")
		_, listed := unbound[bare]
		if slices.Contains(called, name) == listed {
			t.Errorf("%s: bind it, or say in `unbound` why not", bare)
		}
	}
	for name := range unbound {
		if !slices.Contains(names, name+"(") {
			t.Errorf("%s is not in the header", name)
		}
	}
}

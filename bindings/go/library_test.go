package dgemma

import (
	"bytes"
	"errors"
	"log/slog"
	"os"
	"os/exec"
	"strings"
	"testing"
)

func TestLibrary(t *testing.T) {
	if v := Version(); !strings.HasPrefix(v, "0.") {
		t.Errorf("version %q", v)
	}
	if info := BuildInfo(); !strings.Contains(info, "version="+Version()) {
		t.Errorf("build info %q", info)
	}
	if err := checkABI(); err != nil || ABIVersion() < 3 {
		t.Errorf("ABI version %d, %v", ABIVersion(), err)
	}
	devices := must[[]Device](t)(Devices())
	if len(devices) == 0 || devices[0].Backend != CPU || devices[0].Name == "" || devices[0].Cores < 1 {
		t.Errorf("devices %+v", devices)
	}
}

func TestStatuses(t *testing.T) {
	sentinels := []error{ErrInvalidArgument, ErrIO, ErrBadFile, ErrTokenizer, ErrTemplate, ErrContextFull, ErrOutOfMemory,
		ErrCancelled, ErrInternal, ErrNotFound, nil, ErrBusy, ErrDevice}
	for i, want := range sentinels {
		status := Status(i + 1)
		err := error(&Error{status, "text"})
		if status.String() == "unknown status" || err.Error() != "dgemma: text" {
			t.Errorf("%d is %q: %v", status, status, err)
		}
		for _, sentinel := range sentinels {
			if sentinel != nil && errors.Is(err, sentinel) != (sentinel == want) {
				t.Errorf("%v is %v: %v", status, sentinel, !(sentinel == want))
			}
		}
	}
	if s := Status(99).String(); s != "unknown status" {
		t.Errorf("status 99 is %q", s)
	}
	if s := ErrContextFull.Error(); s != "dgemma: context full" {
		t.Errorf("sentinel %q", s)
	}
}

// A text that begins with the first token, which is then added once more, is worth a warning.
func warn(t *testing.T) {
	t.Helper()
	if _, err := tiny().Tokenize("<bos>hi", AddBOS|ParseSpecial); err != nil {
		t.Fatal(err)
	}
}

func TestLogger(t *testing.T) {
	var heard bytes.Buffer
	SetLogger(slog.New(slog.NewTextHandler(&heard, nil)))
	defer SetLogger(nil)
	warn(t)
	if s := heard.String(); !strings.Contains(s, "level=WARN") || !strings.Contains(s, "already begins") {
		t.Errorf("heard %q", s)
	}
	heard.Reset()
	SetLogger(nil)
	warn(t)
	if heard.Len() > 0 {
		t.Errorf("heard %q without a logger", heard.String())
	}
	if slogLevel(2) != slog.LevelInfo {
		t.Error("level 2 is not info")
	}
}

type panicking struct{ slog.Handler }

func (panicking) Write([]byte) (int, error) { panic("the handler's own") }

// A handler's panic ends the program by its own message, not by what unwinding through the library would do.
func TestPanicInLogger(t *testing.T) {
	if os.Getenv("DGEMMA_TEST_PANIC") != "" {
		SetLogger(slog.New(slog.NewTextHandler(panicking{}, nil)))
		warn(t)
		select {}
	}
	command := exec.Command(os.Args[0], "-test.run=^TestPanicInLogger$")
	command.Env = append(os.Environ(), "DGEMMA_TEST_PANIC=1")
	out, err := command.CombinedOutput()
	var exit *exec.ExitError
	if !errors.As(err, &exit) || !strings.Contains(string(out), "panic: the handler's own") {
		t.Errorf("%v\n%s", err, out)
	}
}

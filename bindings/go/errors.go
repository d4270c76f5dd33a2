package dgemma

// #include <stdlib.h>
// #include "shim.h"
import "C"

import (
	"context"
	"errors"
	"fmt"
	"math"
	"unsafe"
)

// Status is what kind of failure an [Error] is.
type Status int32

// What the library answers. OK is never the status of an Error.
const (
	StatusOK              Status = C.DGEMMA_STATUS_OK
	StatusInvalidArgument Status = C.DGEMMA_STATUS_INVALID_ARGUMENT
	StatusIO              Status = C.DGEMMA_STATUS_IO
	StatusBadFile         Status = C.DGEMMA_STATUS_BAD_FILE
	StatusTokenizer       Status = C.DGEMMA_STATUS_TOKENIZER
	StatusTemplate        Status = C.DGEMMA_STATUS_TEMPLATE
	StatusContextFull     Status = C.DGEMMA_STATUS_CONTEXT_FULL
	StatusOutOfMemory     Status = C.DGEMMA_STATUS_OUT_OF_MEMORY
	StatusCancelled       Status = C.DGEMMA_STATUS_CANCELLED
	StatusInternal        Status = C.DGEMMA_STATUS_INTERNAL
	StatusNotFound        Status = C.DGEMMA_STATUS_NOT_FOUND
	StatusBufferTooSmall  Status = C.DGEMMA_STATUS_BUFFER_TOO_SMALL
	StatusBusy            Status = C.DGEMMA_STATUS_BUSY
	StatusDevice          Status = C.DGEMMA_STATUS_DEVICE
)

// String is the status in words, for instance "context full".
func (s Status) String() string {
	return C.GoString(C.dgemma_status_text(C.int32_t(s)))
}

// An Error is a failure of the library.
type Error struct {
	Status Status
	// Text is one line that names the file, tensor, key or argument and says what was expected.
	Text string
}

func (e *Error) Error() string {
	return "dgemma: " + e.Text
}

// Is reports whether target is the sentinel of the error's status.
func (e *Error) Is(target error) bool {
	sentinel, ok := target.(sentinel)
	return ok && Status(sentinel) == e.Status
}

type sentinel Status

func (s sentinel) Error() string {
	return "dgemma: " + Status(s).String()
}

// What an [Error] is to errors.Is, by its status.
var (
	// A number is out of its range, a text is not UTF-8. Correct the call.
	ErrInvalidArgument error = sentinel(StatusInvalidArgument)
	// The system refused a file: missing, not readable. Check path and rights.
	ErrIO error = sentinel(StatusIO)
	// The file is no GGUF file of this architecture, or is damaged. Get or convert it again.
	ErrBadFile error = sentinel(StatusBadFile)
	// The file's vocabulary cannot be used, or cannot encode the text.
	ErrTokenizer error = sentinel(StatusTokenizer)
	// The model's chat template is broken or refuses the messages. [PromptRaw] does without it.
	ErrTemplate error = sentinel(StatusTemplate)
	// Prompt and canvas do not fit into the context. Ask for a larger one, or shorten the prompt.
	ErrContextFull error = sentinel(StatusContextFull)
	// A buffer could not be allocated; nothing was kept.
	ErrOutOfMemory error = sentinel(StatusOutOfMemory)
	// Given up on request.
	ErrCancelled error = sentinel(StatusCancelled)
	// The library failed. The objects of the call answer so from now on and should be closed.
	ErrInternal error = sentinel(StatusInternal)
	// What was asked for is not there: a key, a token. Not always a mistake.
	ErrNotFound error = sentinel(StatusNotFound)
	// Another call is using the object: on another goroutine, or the one whose callback this is. Wait for it.
	ErrBusy error = sentinel(StatusBusy)
	// The GPU or its driver failed, or there is none that can be used. After a failure during a generation, close the
	// objects of the call.
	ErrDevice error = sentinel(StatusDevice)
)

// ErrClosed answers calls on closed objects, and on values that this package did not make.
var ErrClosed = errors.New("dgemma: use of a closed object")

// Stop is returned by a callback that has heard enough. A generation then ends as a success with [StopCancelled];
// [Load] and [Context.Prefill] have no result to show for it and answer with [ErrCancelled].
var Stop = errors.New("dgemma: stop")

// check turns the answer of a shim function into an error, and frees its text.
func check(status C.dgemma_status, text **C.char) error {
	if status == C.DGEMMA_STATUS_OK {
		return nil
	}
	e := &Error{Status: Status(status), Text: Status(status).String()}
	if *text != nil {
		e.Text = C.GoString(*text)
		C.free(unsafe.Pointer(*text))
	}
	return e
}

func invalid(name, format string, values ...any) error {
	return &Error{StatusInvalidArgument, fmt.Sprintf("argument `%s`: ", name) + fmt.Sprintf(format, values...)}
}

func busy(what string) error {
	return &Error{StatusBusy, what + " is in use by another call"}
}

// cancelled is the error of a call that was stopped because ctx is done.
func cancelled(ctx context.Context) error {
	err := fmt.Errorf("%w: %w", ErrCancelled, ctx.Err())
	if cause := context.Cause(ctx); cause != ctx.Err() {
		err = fmt.Errorf("%w: %w", err, cause)
	}
	return err
}

// limits turns Go's numbers into C's, and remembers the first that does not fit.
type limits struct{ err error }

func (l *limits) u32(name string, n int) C.uint32_t {
	return C.uint32_t(l.within(name, n, math.MaxUint32))
}

func (l *limits) size(name string, n int) C.size_t {
	return C.size_t(l.within(name, n, math.MaxInt))
}

func (l *limits) within(name string, n int, most uint64) int {
	if n >= 0 && uint64(n) <= most {
		return n
	}
	if l.err == nil {
		l.err = invalid(name, "is %d, expected 0 to %d", n, most)
	}
	return 0
}

package dgemma

// #include "shim.h"
import "C"

import (
	"slices"
	"strings"
	"unsafe"
)

// collect calls fill with a growing buffer until the result fits. Texts need a byte more than they are long.
func collect[T any](guess int, fill func(buffer []T, n *C.size_t, text **C.char) C.dgemma_status) ([]T, error) {
	buffer := make([]T, guess)
	for {
		var n C.size_t
		var text *C.char
		status := fill(buffer, &n, &text)
		if status == C.DGEMMA_STATUS_BUFFER_TOO_SMALL {
			buffer = make([]T, int(n)+1)
			continue
		}
		if err := check(status, &text); err != nil {
			return nil, err
		}
		if int(n) < len(buffer)/2 {
			return slices.Clone(buffer[:n]), nil // the rest is not worth keeping
		}
		return buffer[:n], nil
	}
}

// collectText is collect for texts.
func collectText(guess int, fill func(p *C.char, room C.size_t, n *C.size_t, text **C.char) C.dgemma_status) (string, error) {
	bytes, err := collect(guess, func(buffer []byte, n *C.size_t, text **C.char) C.dgemma_status {
		return fill((*C.char)(unsafe.Pointer(unsafe.SliceData(buffer))), C.size_t(len(buffer)), n, text)
	})
	return string(bytes), err
}

// tokenData is where C finds tokens.
func tokenData(tokens []Token) *C.uint32_t {
	return (*C.uint32_t)(unsafe.Pointer(unsafe.SliceData(tokens)))
}

// textData is where C finds the bytes of a text; there is no NUL behind them.
func textData(text string) *C.char {
	return (*C.char)(unsafe.Pointer(unsafe.StringData(text)))
}

// cText is a copy of a text for functions that take it up to its NUL; to be freed.
func cText(name, text string) (*C.char, error) {
	if i := strings.IndexByte(text, 0); i >= 0 {
		return nil, invalid(name, "has a NUL at byte %d", i)
	}
	return C.CString(text), nil
}

package dgemma

// #include "shim.h"
import "C"

import (
	"runtime/cgo"
	"unsafe"
)

// What the callbacks of a call tell. The values are Go's own: nothing of the library's memory is lent further than here.
type (
	textEvent   string
	earlyEvent  string
	tokensEvent struct {
		block  int
		tokens []Token
	}
	prefillEvent  struct{ encoded, total int }
	progressEvent float32
)

// told hands an event to the call, or the block's call, that the handle is of.
func told(user C.uintptr_t, event any) C.int {
	switch to := cgo.Handle(user).Value().(type) {
	case *call:
		return to.tell(event)
	case *blockEar:
		return to.call.tell(event)
	}
	panic("dgemma: a callback with a handle of something else")
}

//export shimHearProgress
func shimHearProgress(user C.uintptr_t, fraction C.float) C.int {
	return told(user, progressEvent(fraction))
}

//export shimHearPrefill
func shimHearPrefill(user C.uintptr_t, encoded, total C.size_t) C.int {
	return told(user, prefillEvent{int(encoded), int(total)})
}

//export shimHearText
func shimHearText(user C.uintptr_t, text *C.char, n C.size_t) C.int {
	return told(user, textEvent(C.GoStringN(text, C.int(n))))
}

//export shimHearEarlyText
func shimHearEarlyText(user C.uintptr_t, text *C.char, n C.size_t) C.int {
	return told(user, earlyEvent(C.GoStringN(text, C.int(n))))
}

//export shimHearTokens
func shimHearTokens(user C.uintptr_t, block C.uint32_t, tokens *C.uint32_t, n C.size_t) C.int {
	return told(user, tokensEvent{int(block), copied[Token](unsafe.Pointer(tokens), n)})
}

//export shimHearStep
func shimHearStep(user C.uintptr_t, step *C.dgemma_step) C.int {
	return told(user, newStep(step))
}

//export shimHearNoise
func shimHearNoise(user C.uintptr_t, noise *C.dgemma_noise) C.int {
	copy := newNoise(noise)
	answer := told(user, copy)
	copy.give(noise)
	return answer
}

//export shimHearLog
func shimHearLog(level C.uint32_t, text *C.char) {
	hearLog(uint32(level), C.GoString(text))
}

package dgemma

// #include "shim.h"
import "C"

import (
	"context"
	"log/slog"
	"sync"
	"sync/atomic"
)

var (
	logger    atomic.Pointer[slog.Logger]
	logSwitch sync.Mutex
)

// SetLogger sends the messages of the library, which are those of the whole process, to a logger; nil, which is how it
// starts, sends them nowhere. Messages come on several goroutines at once when several are at work. A panic of the
// logger's handler cannot go through the library to the call that had something to say: it ends the program, as a panic
// that no goroutine recovers.
func SetLogger(l *slog.Logger) {
	logSwitch.Lock()
	defer logSwitch.Unlock()
	logger.Store(l)
	on := C.int(0)
	if l != nil {
		on = 1
	}
	C.shim_log_set(on)
}

func hearLog(level uint32, text string) {
	l := logger.Load()
	if l == nil { // a call under way elsewhere did not know yet
		return
	}
	defer func() {
		if r := recover(); r != nil {
			go panic(r) // not through C
		}
	}()
	l.Log(context.Background(), slogLevel(level), text)
}

func slogLevel(level uint32) slog.Level {
	if level == C.DGEMMA_LOG_WARN {
		return slog.LevelWarn
	}
	return slog.LevelInfo
}

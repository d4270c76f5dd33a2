package dgemma

import (
	"runtime"
	"sync"
	"sync/atomic"
)

// live counts objects of the library that are not freed, for the tests.
var live atomic.Int64

// A handle owns an object of the library. Calls that use it are counted: it is freed when it is closed and no call uses it.
type handle[P any] struct {
	mu     sync.Mutex
	object P
	free   func(P)
	calls  int
	closed bool
}

// newHandle takes the ownership of object. If the program forgets the handle, the garbage collector closes it; not during
// a call, whose release still refers to it.
func newHandle[P any](object P, free func(P)) *handle[P] {
	h := &handle[P]{object: object, free: free}
	live.Add(1)
	runtime.SetFinalizer(h, (*handle[P]).close)
	return h
}

// acquire lends the object until release.
func (h *handle[P]) acquire() (object P, err error) {
	if h == nil {
		return object, ErrClosed
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.closed {
		return object, ErrClosed
	}
	h.calls++
	return h.object, nil
}

func (h *handle[P]) release() {
	h.mu.Lock()
	h.calls--
	last := h.closed && h.calls == 0
	h.mu.Unlock()
	if last {
		h.drop()
	}
}

func (h *handle[P]) close() {
	if h == nil {
		return
	}
	h.mu.Lock()
	unused := !h.closed && h.calls == 0
	h.closed = true
	h.mu.Unlock()
	if unused {
		h.drop()
	}
}

func (h *handle[P]) drop() {
	runtime.SetFinalizer(h, nil)
	h.free(h.object)
	live.Add(-1)
}

// use runs f with the object of h.
func use[P any](h *handle[P], f func(P) error) error {
	object, err := h.acquire()
	if err != nil {
		return err
	}
	defer h.release()
	return f(object)
}

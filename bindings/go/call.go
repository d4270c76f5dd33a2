package dgemma

// #include "shim.h"
import "C"

import (
	"context"
	"errors"
	"runtime/cgo"
	"sync"
)

// A call is a call of the library that computes, or has callbacks. It runs on a goroutine of its own. The goroutine that
// wants the result stays free meanwhile to notice that its context.Context is done, and to run the program's callbacks:
// with no C below them, so that they may panic, call runtime.Goexit (as t.Fatal does) and break out of loops.
type call struct {
	events chan any
	goOn   chan bool
}

// tell hands an event of a callback over and waits for the verdict, in C's terms: 0 to continue.
func (c *call) tell(event any) C.int {
	c.events <- event
	if <-c.goOn {
		return 0
	}
	return 1
}

// await runs f, which gets the handle for its callbacks, and hear for each of their events; cancel makes f end soon.
// Returns when f has.
func await(ctx context.Context, cancel func(), hear func(event any) error, f func(C.uintptr_t) error) error {
	c := &call{make(chan any), make(chan bool)}
	user := cgo.NewHandle(c)
	defer user.Delete()
	done := make(chan error, 1)
	go func() { done <- f(C.uintptr_t(user)) }()

	ended := false
	defer func() {
		if !ended { // hear panicked, or ended this goroutine
			cancel()
			c.goOn <- false
			c.drain(done)
		}
	}()
	var stop error
	over := ctx.Done()
	for {
		select {
		case event := <-c.events:
			if stop == nil {
				stop = hear(event)
			}
			c.goOn <- stop == nil
		case <-over:
			cancel()
			over = nil
		case err := <-done:
			ended = true
			return verdict(ctx, stop, err)
		}
	}
}

// drain refuses all events until f is done.
func (c *call) drain(done <-chan error) {
	for {
		select {
		case <-c.events:
			c.goOn <- false
		case <-done:
			return
		}
	}
}

// verdict says what a call answers whose callback asked to stop, or not, and that ended with err.
func verdict(ctx context.Context, stop, err error) error {
	switch {
	case err != nil && !errors.Is(err, ErrCancelled):
		return err
	case stop != nil && !errors.Is(stop, Stop):
		return stop
	case err != nil && stop == nil && ctx.Err() != nil:
		return cancelled(ctx)
	}
	return err
}

// deaf is the hear of calls without callbacks.
func deaf(any) error { return nil }

// A worker is a context or a block: one call at a time uses a context and its blocks, and can be cancelled.
type worker[P any] struct {
	*handle[P]
	// Held during a call; a context and its blocks have the same.
	turn      *sync.Mutex
	canceller *C.dgemma_canceller
}

// newWorker takes the ownership of object and makes a canceller for the context that it works on.
func newWorker[P any](object P, free func(P), context *C.dgemma_context, turn *sync.Mutex) (*worker[P], error) {
	var canceller *C.dgemma_canceller
	var text *C.char
	if err := check(C.shim_canceller_create(context, &canceller, &text), &text); err != nil {
		free(object)
		return nil, err
	}
	h := newHandle(object, func(object P) {
		C.dgemma_canceller_free(canceller)
		free(object)
	})
	return &worker[P]{h, turn, canceller}, nil
}

// run is for calls that do not compute.
func (w *worker[P]) run(f func(P) error) error {
	if w == nil {
		return ErrClosed
	}
	return use(w.handle, func(object P) error {
		if !w.turn.TryLock() {
			return busy("the context")
		}
		defer w.turn.Unlock()
		return f(object)
	})
}

// compute is for calls that do.
func (w *worker[P]) compute(ctx context.Context, hear func(any) error, f func(P, C.uintptr_t) error) error {
	if ctx == nil {
		return invalid("ctx", "is nil")
	}
	return w.run(func(object P) error {
		if ctx.Err() != nil {
			return cancelled(ctx)
		}
		// A cancel that came too late for this call must not stop the next one.
		defer C.dgemma_canceller_clear(w.canceller)
		cancel := func() { C.dgemma_canceller_cancel(w.canceller) }
		return await(ctx, cancel, hear, func(user C.uintptr_t) error { return f(object, user) })
	})
}

func (w *worker[P]) close() {
	if w != nil {
		w.handle.close()
	}
}

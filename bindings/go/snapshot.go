package dgemma

// #include <stdlib.h>
// #include "shim.h"
import "C"

import "unsafe"

// Clone copies the context: its sequence, what is encoded of it, its sizes and seed. The copy goes its own way: blocks of
// the original stay with the original. The cheap way to try several continuations. Errors: [ErrOutOfMemory], [ErrBusy].
func (c *Context) Clone() (clone *Context, err error) {
	if c == nil {
		return nil, ErrClosed
	}
	err = c.w.run(func(context *C.dgemma_context) error {
		var out *C.dgemma_context
		var text *C.char
		if err := check(C.shim_context_clone(context, &out, &text), &text); err != nil {
			return err
		}
		clone, err = newContext(out)
		return err
	})
	return clone, err
}

// Save is the context as bytes: its sequence and what is encoded of it, with a version, the model's fingerprint and a
// checksum. Seed, counters and blocks under way are not part of it. [Context.Load] takes it back, in this process or
// another, without encoding anything again.
func (c *Context) Save() (saved []byte, err error) {
	if c == nil {
		return nil, ErrClosed
	}
	err = c.w.run(func(context *C.dgemma_context) (err error) {
		saved, err = collect(0, func(buffer []byte, n *C.size_t, text **C.char) C.dgemma_status {
			return C.shim_context_save(context, byteData(buffer), C.size_t(len(buffer)), n, text)
		})
		return err
	})
	return saved, err
}

// Load takes over what [Context.Save] wrote: the context's sequence becomes the saved one, encoded as it was. The context
// may have another size, chunk and seed than the saved one, but needs the same model and the same KVType. Bytes from
// elsewhere do no harm: everything is checked before anything is taken over. (The checksum notices accidents; it is no
// signature.)
//
// Errors, which change nothing: [ErrInvalidArgument] (not a saved context, of another version, damaged, of another model,
// of another KVType), [ErrContextFull] (more tokens than the context holds).
func (c *Context) Load(saved []byte) error {
	if len(saved) == 0 {
		return invalid("saved", "is empty")
	}
	return c.run(func(context *C.dgemma_context, text **C.char) C.dgemma_status {
		return C.shim_context_load(context, byteData(saved), C.size_t(len(saved)), text)
	})
}

// SaveFile is [Context.Save] into a file, which appears when it is complete; an older one of that name is replaced. The
// error is [ErrIO] if the system refuses (no such folder, no right, disk full); an older file is as it was then.
func (c *Context) SaveFile(path string) error {
	cPath, err := cText("path", path)
	if err != nil {
		return err
	}
	defer C.free(unsafe.Pointer(cPath))
	return c.run(func(context *C.dgemma_context, text **C.char) C.dgemma_status {
		return C.shim_context_save_file(context, cPath, text)
	})
}

// LoadFile is [Context.Load] from a file. Errors, which change nothing: [ErrIO] (missing, not readable), [ErrBadFile]
// (what Load refuses in bytes), [ErrContextFull].
func (c *Context) LoadFile(path string) error {
	cPath, err := cText("path", path)
	if err != nil {
		return err
	}
	defer C.free(unsafe.Pointer(cPath))
	return c.run(func(context *C.dgemma_context, text **C.char) C.dgemma_status {
		return C.shim_context_load_file(context, cPath, text)
	})
}

func byteData(bytes []byte) *C.uint8_t {
	return (*C.uint8_t)(unsafe.Pointer(unsafe.SliceData(bytes)))
}

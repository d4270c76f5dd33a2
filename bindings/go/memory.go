package dgemma

// #include "shim.h"
import "C"

// Memory says where memory is, in bytes.
type Memory struct {
	// Weights are the model's files, mapped (the system holds what is in use, once for all processes) or read. Shared by
	// all contexts of the model.
	Weights uint64
	// KV are cached keys and values at their full size; the system hands out the pages as they are filled. 0 for a model.
	KV uint64
	// Activations; a step needs some more for its time. 0 for a model.
	Activations uint64
}

func newMemory(m *C.dgemma_memory) Memory {
	return Memory{uint64(m.weight_bytes), uint64(m.kv_bytes), uint64(m.activation_bytes)}
}

// Memory reports what memory the model takes; its contexts add theirs.
func (m *Model) Memory() (Memory, error) {
	memory := C.dgemma_memory{struct_size: C.sizeof_dgemma_memory}
	err := m.use(func(model *C.dgemma_model) error {
		var text *C.char
		return check(C.shim_model_memory(model, &memory, &text), &text)
	})
	return newMemory(&memory), err
}

// Memory reports what memory the context takes; a fresh one answers what its full size will take.
func (c *Context) Memory() (Memory, error) {
	memory := C.dgemma_memory{struct_size: C.sizeof_dgemma_memory}
	err := c.run(func(context *C.dgemma_context, text **C.char) C.dgemma_status {
		return C.shim_context_memory(context, &memory, text)
	})
	return newMemory(&memory), err
}

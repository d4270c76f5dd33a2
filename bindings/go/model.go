package dgemma

// #include <stdlib.h>
// #include "shim.h"
import "C"

import (
	"context"
	"unsafe"
)

// A CPULevel is an instruction set of processors.
type CPULevel uint32

const (
	// CPUBest is the best that the processor has.
	CPUBest CPULevel = C.DGEMMA_CPU_BEST
	// CPUScalar is what every processor of the target has.
	CPUScalar CPULevel = C.DGEMMA_CPU_SCALAR
	// CPUAVX2 is AVX2 and FMA.
	CPUAVX2 CPULevel = C.DGEMMA_CPU_AVX2
	// CPUAVX512 is AVX-512 F, BW, DQ and VL.
	CPUAVX512 CPULevel = C.DGEMMA_CPU_AVX512
	// CPUAVX512VNNI is the same with VNNI.
	CPUAVX512VNNI CPULevel = C.DGEMMA_CPU_AVX512_VNNI
)

// NoGPULayers in [LoadOptions.GPULayers] means that no layer stays on the GPU.
const NoGPULayers = -1

// LoadOptions say how to load a model.
type LoadOptions struct {
	Backend Backend
	// Threads of the model's own pool, 0 to 1024; 0: one per available core. Not what the text depends on.
	Threads int
	// Read the file instead of mapping it. Loading takes longer and the memory is not shared with other processes; in
	// exchange the file may be changed or removed afterwards.
	Read bool
	// Lock keeps the file's bytes in memory, never pushed out by the system. Needs the right to lock that much
	// (ulimit -l); else the error is [ErrIO].
	Lock bool
	// Exact makes the CPU backend compute all products in 32-bit floats, and [CUDA] as accurately. Else those with quantized
	// weights round their other operand to 8 bits, which is several times faster and moves logits a little ([CUDA] on GPUs of
	// data centers: both to bf16, but for experts), and those with weights of 16-bit floats round both to bf16, on the CPU
	// only where it has AVX-512 BF16. The text of a seed differs.
	Exact bool
	// CPULevel is the instruction set that the CPU backend uses; CPUBest but for comparisons.
	CPULevel CPULevel
	// Device is which GPU [CUDA] uses, from 0: device 1 + Device of [Devices].
	Device int
	// GPULayers is how many layers [CUDA] keeps on the GPU, the last ones; 0, or more than there are: all; [NoGPULayers]:
	// none. The matrices of the others stay in page-locked host memory and are copied over, ahead of their use, in every
	// pass: texts are the same, and a step takes as long as the link to the GPU needs for those bytes. Other backends refuse
	// anything but 0.
	GPULayers int
	// CPUExperts is how many layers, the first ones, have their experts in host memory, in the same way; 0: none. Of layers
	// that are not on the GPU anyway nothing changes. Other backends refuse anything but 0.
	CPUExperts int
	// PlannedContextSize and PlannedKVType are of the context that [CUDA] must leave room for; 0: 8192 tokens, or the model's
	// limit if that is less. Where weights and such a context do not fit together, the error is [ErrOutOfMemory], and says
	// what would fit. Other contexts can be made later, as long as there is memory.
	PlannedContextSize int
	PlannedKVType      KVType
	// OnProgress hears how far loading is, from 0 to 1.
	OnProgress func(fraction float32) error
}

// A Model is a loaded model. It is immutable: any number of goroutines may use it at once.
type Model struct {
	h *handle[*C.dgemma_model]
}

// Load loads a GGUF file, or the split set that a file is the first part of: maps it, checks it, binds its weights. The
// file must not be changed or cut while the model or anything made from it lives, unless [LoadOptions.Read] is set.
// (Replacing it by a new file of the same name is fine: the old one stays mapped.)
//
// Errors: [ErrInvalidArgument], [ErrIO] (missing, unreadable, not lockable), [ErrBadFile] (damaged or another
// architecture), [ErrTokenizer] (unusable vocabulary), [ErrOutOfMemory], and what OnProgress answers.
func Load(path string, options *LoadOptions) (*Model, error) {
	if options == nil {
		options = new(LoadOptions)
	}
	if err := checkABI(); err != nil {
		return nil, err
	}
	var l limits
	var params C.dgemma_model_params
	C.dgemma_model_params_init(&params, C.sizeof_dgemma_model_params)
	params.backend = C.uint32_t(options.Backend)
	params.threads = l.u32("threads", options.Threads)
	if options.Read {
		params.memory |= C.DGEMMA_MEMORY_READ
	}
	if options.Lock {
		params.memory |= C.DGEMMA_MEMORY_LOCK
	}
	if options.Exact {
		params.exact = 1
	}
	params.cpu_level = C.uint32_t(options.CPULevel)
	params.device = l.u32("device", options.Device)
	if options.GPULayers == NoGPULayers {
		params.n_gpu_layers = C.DGEMMA_GPU_LAYERS_NONE
	} else {
		params.n_gpu_layers = l.u32("n_gpu_layers", options.GPULayers)
	}
	params.n_cpu_experts = l.u32("n_cpu_experts", options.CPUExperts)
	params.planned_kv_type = C.uint32_t(options.PlannedKVType)
	params.planned_context_size = l.size("planned_context_size", options.PlannedContextSize)
	if l.err != nil {
		return nil, l.err
	}
	cPath, err := cText("path", path)
	if err != nil {
		return nil, err
	}
	defer C.free(unsafe.Pointer(cPath))
	return load(cPath, &params, options.OnProgress)
}

func load(path *C.char, params *C.dgemma_model_params, onProgress func(float32) error) (*Model, error) {
	hears, hear := C.uint32_t(0), deaf
	if onProgress != nil {
		hears = C.SHIM_HEARS_PROGRESS
		hear = func(event any) error { return onProgress(float32(event.(progressEvent))) }
	}
	var h *handle[*C.dgemma_model]
	// Nothing but the answer to a progress report stops a load.
	err := await(context.Background(), func() {}, hear, func(user C.uintptr_t) error {
		var model *C.dgemma_model
		var text *C.char
		err := check(C.shim_model_load(path, params, hears, user, &model, &text), &text)
		if err == nil {
			h = newHandle(model, func(model *C.dgemma_model) { C.dgemma_model_free(model) })
		}
		return err
	})
	if err != nil {
		h.close() // which there is if the callback's error came too late
		return nil, err
	}
	return &Model{h}, nil
}

// Close frees the model. Contexts, blocks and detokenizers made from it stay usable. Always nil.
func (m *Model) Close() error {
	if m != nil {
		m.h.close()
	}
	return nil
}

// use runs f with the library's model.
func (m *Model) use(f func(*C.dgemma_model) error) error {
	if m == nil {
		return ErrClosed
	}
	return use(m.h, f)
}

// ModelInfo has the sizes of a model.
type ModelInfo struct {
	// VocabSize is how many tokens the vocabulary has: ids are below it.
	VocabSize int
	// CanvasLength is how many positions a canvas has.
	CanvasLength int
	// ContextLength is the most positions of a context: what the model was trained for.
	ContextLength int
	Layers        int
	// HiddenSize is the width of the residual stream.
	HiddenSize int
	// Experts of each layer, and how many are chosen for each token.
	Experts, ExpertsUsed int
	// Backend that the model was loaded for.
	Backend Backend
	// Parameters counts the weights.
	Parameters uint64
	// FileBytes of the file, or of all files of a split set, and TensorBytes of the tensors in them.
	FileBytes, TensorBytes uint64
	// Files is 1, or how many parts the split set has.
	Files   int
	Tensors int
}

// Info reports the sizes of the model.
func (m *Model) Info() (ModelInfo, error) {
	info := C.dgemma_model_info{struct_size: C.sizeof_dgemma_model_info}
	err := m.use(func(model *C.dgemma_model) error {
		var text *C.char
		return check(C.shim_model_describe(model, &info, &text), &text)
	})
	if err != nil {
		return ModelInfo{}, err
	}
	return ModelInfo{
		VocabSize:     int(info.vocab_size),
		CanvasLength:  int(info.canvas_length),
		ContextLength: int(info.context_length),
		Layers:        int(info.layers),
		HiddenSize:    int(info.hidden_size),
		Experts:       int(info.experts),
		ExpertsUsed:   int(info.experts_used),
		Backend:       Backend(info.backend),
		Parameters:    uint64(info.parameters),
		FileBytes:     uint64(info.file_bytes),
		TensorBytes:   uint64(info.tensor_bytes),
		Files:         int(info.files),
		Tensors:       int(info.tensors),
	}, nil
}

// Fingerprint is a number that says which model it is: a hash of architecture keys, tensor table and a sample of every
// tensor. The same for a file and its split form; another one after requantizing. Saved contexts carry it. The first call
// on a model reads a page or two of each tensor.
func (m *Model) Fingerprint() (fingerprint uint64, err error) {
	err = m.use(func(model *C.dgemma_model) error {
		var out C.uint64_t
		var text *C.char
		err := check(C.shim_model_fingerprint(model, &out, &text), &text)
		fingerprint = uint64(out)
		return err
	})
	return fingerprint, err
}

// MetadataKeys lists the keys of the file's metadata, in file order, for instance "general.architecture".
func (m *Model) MetadataKeys() (keys []string, err error) {
	err = m.use(func(model *C.dgemma_model) error {
		for i := C.size_t(0); i < C.dgemma_model_metadata_count(model); i++ {
			key, err := collectText(64, func(p *C.char, room C.size_t, n *C.size_t, text **C.char) C.dgemma_status {
				return C.shim_model_metadata_key(model, i, p, room, n, text)
			})
			if err != nil {
				return err
			}
			keys = append(keys, key)
		}
		return nil
	})
	return keys, err
}

// Metadata is the value of a key of the file's metadata: a string as it is, anything else as JSON. The error is
// [ErrNotFound] if there is no such key.
func (m *Model) Metadata(key string) (value string, err error) {
	cKey, err := cText("key", key)
	if err != nil {
		return "", err
	}
	defer C.free(unsafe.Pointer(cKey))
	err = m.use(func(model *C.dgemma_model) (err error) {
		value, err = collectText(256, func(p *C.char, room C.size_t, n *C.size_t, text **C.char) C.dgemma_status {
			return C.shim_model_metadata_value(model, cKey, p, room, n, text)
		})
		return err
	})
	return value, err
}

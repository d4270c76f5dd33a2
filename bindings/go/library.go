package dgemma

// #include "shim.h"
import "C"

import (
	"fmt"
	"unsafe"
)

// Version is the library's version, for instance "0.1.0".
func Version() string {
	return C.GoString(C.dgemma_version())
}

// ABIVersion is the version of the C API that the library has.
func ABIVersion() int {
	return int(C.dgemma_abi_version())
}

// checkABI refuses libraries that are older than the header that this package was built with.
func checkABI() error {
	if has := ABIVersion(); has < C.DGEMMA_ABI_VERSION {
		return fmt.Errorf("dgemma: libdgemma %s has ABI version %d, this program was built for %d", Version(), has,
			C.DGEMMA_ABI_VERSION)
	}
	return nil
}

// BuildInfo says how the library was built and what it found here: one line of key=value pairs separated by spaces, for
// instance "version=0.1.0 abi=2 target=x86_64-linux backends=cpu,reference cpu=avx512". Keys may be added.
func BuildInfo() string {
	return C.GoString(C.dgemma_build_info())
}

// A Backend runs models.
type Backend uint32

const (
	// CPU is the fast backend for processors.
	CPU Backend = C.DGEMMA_BACKEND_CPU
	// Reference is the slow and plain backend that the others are checked against.
	Reference Backend = C.DGEMMA_BACKEND_REFERENCE
	// CUDA is the backend for NVIDIA GPUs of compute capability 8.0 or newer, with driver 580 or newer.
	CUDA Backend = C.DGEMMA_BACKEND_CUDA
)

// A Device is something that can run a model.
type Device struct {
	Backend Backend
	Name    string
	// Cores that the process may use, or a GPU's multiprocessors; 0 where that says nothing.
	Cores int
	// MemoryBytes and how much of it was free when asked; 0: unknown.
	MemoryBytes, FreeBytes uint64
}

// Devices lists what can run a model here.
func Devices() ([]Device, error) {
	devices := make([]Device, 0, 1)
	for i := C.size_t(0); i < C.dgemma_device_count(); i++ {
		info := C.dgemma_device_info{struct_size: C.sizeof_dgemma_device_info}
		var text *C.char
		if err := check(C.shim_device_describe(i, &info, &text), &text); err != nil {
			return nil, err
		}
		devices = append(devices, Device{
			Backend:     Backend(info.backend),
			Name:        C.GoString((*C.char)(unsafe.Pointer(&info.name))),
			Cores:       int(info.cores),
			MemoryBytes: uint64(info.memory_bytes),
			FreeBytes:   uint64(info.free_bytes),
		})
	}
	return devices, nil
}

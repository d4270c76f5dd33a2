package dgemma

// #include "shim.h"
import "C"

import "unsafe"

// Slices of these go to the library as they are. Sizes that differ are an index out of range, which does not compile.
var (
	_ = [1]struct{}{}[unsafe.Sizeof(LogitBias{})-C.sizeof_dgemma_logit_bias]
	_ = [1]struct{}{}[unsafe.Sizeof(Candidate{})-C.sizeof_dgemma_candidate]
)

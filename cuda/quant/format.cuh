// The format that a kernel is compiled for: -DFORMAT=q4_k includes q4_k.cuh.
#pragma once
#include "../common.cuh"
#define FORMAT_FILE STRING(FORMAT.cuh)
#include FORMAT_FILE

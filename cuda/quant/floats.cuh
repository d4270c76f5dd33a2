// What the float formats share: the tiles of 16 x 64 and the lanes' registers of codes.cuh, with numbers in place of codes.
#pragma once
#include "../common.cuh"
#define FORMAT_QUANTIZED 0

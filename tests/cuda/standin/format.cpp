// The kernels of one tensor format, -DFORMAT=..., for the stand-in driver.
#include "../../../cuda/embed.cu"
#include "../../../cuda/experts_down.cu"
#include "../../../cuda/experts_gate_up.cu"
#include "../../../cuda/head_draw.cu"
#include "../../../cuda/matmul.cu"
#include "../../../cuda/pack.cu"
#include "../../../cuda/soft_embedding.cu"
#include "registry.h"

#define REGISTER(name) static const Registered JOIN(registered, name)(STRING(ENTRY(name)), ENTRY(name));
REGISTER(embed)
REGISTER(pack)
REGISTER(soft_embedding_bf16)
REGISTER(soft_embedding_exact)
REGISTER(matmul_exact)
REGISTER(experts_gate_up_exact)
REGISTER(experts_down_exact)
REGISTER(head_draw_exact)
#if FORMAT_QUANTIZED
REGISTER(matmul_int8)
REGISTER(experts_gate_up_int8)
REGISTER(experts_down_int8)
REGISTER(head_draw_int8)
#elif FORMAT_HALF
REGISTER(experts_gate_up_bf16)
REGISTER(experts_down_bf16)
#endif
#if FORMAT_QUANTIZED || FORMAT_HALF
REGISTER(matmul_bf16)
REGISTER(matmul_bf16_wide)
REGISTER(matmul_bf16_pair)
REGISTER(head_draw_bf16)
#endif

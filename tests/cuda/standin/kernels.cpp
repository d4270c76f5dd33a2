// The kernels that no tensor format enters, for the stand-in driver.
#include "../../../cuda/attention.cu"
#include "../../../cuda/attention_tiles.cu"
#include "../../../cuda/elementwise.cu"
#include "../../../cuda/experts_combine.cu"
#include "../../../cuda/head_statistics.cu"
#include "../../../cuda/kv_append.cu"
#include "../../../cuda/peak.cu"
#include "../../../cuda/qkv.cu"
#include "../../../cuda/quantize.cu"
#include "../../../cuda/rms_norm.cu"
#include "../../../cuda/rope.cu"
#include "../../../cuda/route.cu"
#include "../../../cuda/sampler.cu"
#include "registry.h"

#define REGISTER(name) static const Registered registered_##name(#name, name);
REGISTER(attention)
REGISTER(attention_merge)
REGISTER(attention_operands_f16)
REGISTER(attention_f16_128)
REGISTER(attention_f16_256)
REGISTER(attention_f16_512_small)
REGISTER(attention_f16_512)
REGISTER(attention_f16_512_large)
REGISTER(attention_operands_bf16)
REGISTER(attention_bf16_128)
REGISTER(attention_bf16_256)
REGISTER(attention_bf16_512_small)
REGISTER(attention_bf16_512)
REGISTER(attention_bf16_512_large)
REGISTER(gelu_mul)
REGISTER(gelu_mul_int8)
REGISTER(gelu_mul_bf16)
REGISTER(gelu_mul_exact)
REGISTER(add)
REGISTER(scale)
REGISTER(softcap)
REGISTER(experts_combine)
REGISTER(head_start)
REGISTER(head_statistics)
REGISTER(head_finish)
REGISTER(head_pick)
REGISTER(head_log_probs)
REGISTER(head_scale)
REGISTER(kv_append)
REGISTER(kv_round)
REGISTER(peak_bf16)
REGISTER(peak_copy)
REGISTER(peak_int8)
REGISTER(peak_nothing)
REGISTER(peak_read)
REGISTER(qkv)
REGISTER(quantize_int8)
REGISTER(quantize_bf16)
REGISTER(quantize_exact)
REGISTER(rms_norm)
REGISTER(rms_norm_add)
REGISTER(rms_norm_add_scaled)
REGISTER(rms_norm_int8)
REGISTER(rms_norm_bf16)
REGISTER(rms_norm_exact)
REGISTER(rope)
REGISTER(route)
REGISTER(route_group)
REGISTER(sampler_noise)
REGISTER(sampler_decide)

#!/usr/bin/env python3
"""Makes quant.safetensors: what an independent implementation (the Python package `gguf`) makes of blocks and values.

    python3 tests/golden/make_quant.py          # needs: pip install gguf==0.19.0 safetensors numpy

For every format NAME:
    NAME.blocks   u8   random blocks, with scales of a sane size and a few special ones (zero, subnormal, negative)
    NAME.values   f32  the same blocks, dequantized
and for every format whose encoding follows a fixed rule:
    NAME.encoded  u8   the tensor `input`, quantized
where
    input         f32  96 rows of 256 values: random ones of many magnitudes, zeros, constants, ties

src/quant/conformance.rs compares all of it, bit for bit. The package decodes NVFP4 but does not encode it; its rounding
of scales and its tables are put together here as its MXFP4 does it.
"""

import pathlib

import gguf
import numpy as np
from gguf.quants import NVFP4, dequantize, quantize
from safetensors.numpy import save_file

SEED = 20
BLOCKS = 24
ENCODED = ["F32", "F16", "BF16", "Q8_0", "Q4_0", "Q4_1", "Q5_0", "Q5_1", "MXFP4", "NVFP4"]
# Where a block keeps F16 numbers; random bytes there would mostly be huge or NaN.
HALVES = {
    "Q8_0": [0], "Q4_0": [0], "Q4_1": [0, 2], "Q5_0": [0], "Q5_1": [0, 2],
    "Q2_K": [80, 82], "Q3_K": [108], "Q4_K": [0, 2], "Q5_K": [0, 2], "Q6_K": [208],
    "IQ4_NL": [0], "IQ4_XS": [0], "MXFP4": [], "NVFP4": [],
}  # fmt: skip


def values(rng):
    rows = rng.standard_normal((96, 256)) * 10.0 ** rng.integers(-6, 4, (96, 1))
    rows[0] = 0
    rows[1] = 1.5
    rows[2] = -3.25
    rows[3] = np.arange(256) - 127.5  # every code of Q8_0, half-way
    rows[4] = np.tile(np.arange(32) - 16, 8)
    rows[5] = np.tile(np.arange(32), 8) / 2
    rows[6] = np.tile([1, -1], 128)  # two candidates for the largest magnitude
    rows[7] = np.tile([-1, 1], 128)
    rows[8] = 1e-8  # scales that are subnormal, or vanish, as F16
    rows[9, ::2] = 2e-5
    rows[10] = np.tile((np.arange(16) - 7.5) / 2, 16)  # half-way between the codes of MXFP4
    rows[11] = np.tile(np.arange(64) / 128 - 0.25, 4)
    rows[12] = rng.standard_normal(256) * 1e-34  # below every scale but those of MXFP4
    return rows.astype(np.float32)


def blocks(rng, name):
    kind = gguf.GGMLQuantizationType[name]
    _, size = gguf.GGML_QUANT_SIZES[kind]
    if name not in HALVES:
        return rng.standard_normal(1024).astype(np.float32).view(np.uint8) if name == "F32" else quantize(
            (rng.standard_normal((4, 256)) * 10.0 ** rng.integers(-6, 4, (4, 1))).astype(np.float32), kind
        ).reshape(-1)
    # MXFP4 has 256 scales, NVFP4 128, all worth a look.
    count = 256 if name == "MXFP4" else 64 if name == "NVFP4" else BLOCKS
    rows = rng.integers(0, 256, (count, size), dtype=np.uint8)
    for at in HALVES[name]:
        halves = (rng.standard_normal(count) * 10.0 ** rng.integers(-5, 2, count)).astype(np.float16)
        halves[:4] = [0.0, -0.0, 6e-8, -0.125]
        rows[:, at : at + 2] = halves.view(np.uint8).reshape(count, 2)
    if name == "MXFP4":
        rows[:, 0] = np.arange(256)
    if name == "NVFP4":
        rows[:, :4] = (np.arange(256) % 128).reshape(64, 4)
    return rows.reshape(-1)


def quantized(x, name):
    if name != "NVFP4":
        return quantize(x, gguf.GGMLQuantizationType[name])
    x = x.reshape(-1, 16)
    scales = NVFP4.fp32_to_ue4m3(abs(x).max(axis=1) / np.float32(6))
    grid = NVFP4.ue4m3_to_fp32(scales)[:, None].astype(np.float32) * np.array(NVFP4.kvalues, np.float32)
    codes = np.argmin(abs(grid[:, None, :] - x[:, :, None]), axis=2).astype(np.uint8)
    packed = codes[:, :8] | codes[:, 8:] << 4
    return np.concatenate([scales.reshape(-1, 4), packed.reshape(-1, 32)], axis=1)


def main():
    rng = np.random.default_rng(SEED)
    tensors = {"input": values(rng)}
    for name in ["F32", "F16", "BF16", *HALVES]:
        kind = gguf.GGMLQuantizationType[name]
        packed = blocks(rng, name)
        unpacked = dequantize(packed if name != "F32" else packed.view(np.float32), kind)
        tensors[f"{name}.blocks"] = packed
        tensors[f"{name}.values"] = np.ascontiguousarray(unpacked, dtype=np.float32).reshape(-1)
    for name in ENCODED:
        packed = quantized(tensors["input"], name)
        tensors[f"{name}.encoded"] = np.ascontiguousarray(packed).view(np.uint8).reshape(-1)
    path = pathlib.Path(__file__).with_name("quant.safetensors")
    save_file(tensors, path, {"made_by": f"make_quant.py, gguf 0.19.0, numpy {np.__version__}, seed {SEED}"})
    print(path, path.stat().st_size)


if __name__ == "__main__":
    main()

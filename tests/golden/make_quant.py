#!/usr/bin/env python3
"""Makes quant.safetensors: what an independent implementation (the Python package `gguf`) makes of blocks and values.

    python3 tests/golden/make_quant.py          # needs: pip install gguf==0.19.0 safetensors numpy

For every format NAME that the library decodes:
    NAME.blocks   u8   random blocks, with scales of a sane size and a few special ones (zero, subnormal, negative)
    NAME.values   f32  the same blocks, dequantized
and for every format that it encodes:
    NAME.encoded  u8   the tensor `input`, quantized
where
    input         f32  256 rows of 256 values: random ones of many magnitudes, zeros, constants, ties

src/quant/conformance.rs compares all of it, bit for bit.
"""

import pathlib

import gguf
import numpy as np
from gguf.quants import dequantize, quantize
from safetensors.numpy import save_file

SEED = 20
ENCODED = ["F32", "F16", "BF16", "Q8_0", "Q4_0", "Q4_1", "Q5_0", "Q5_1"]
# Where a block keeps F16 numbers; random bytes there would mostly be huge or NaN.
HALVES = {
    "Q8_0": [0], "Q4_0": [0], "Q4_1": [0, 2], "Q5_0": [0], "Q5_1": [0, 2],
    "Q4_K": [0, 2], "Q5_K": [0, 2], "Q6_K": [208],
}  # fmt: skip


def values(rng):
    rows = rng.standard_normal((256, 256)) * 10.0 ** rng.integers(-6, 4, (256, 1))
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
    return rows.astype(np.float32)


def blocks(rng, name):
    kind = gguf.GGMLQuantizationType[name]
    _, size = gguf.GGML_QUANT_SIZES[kind]
    if name not in HALVES:
        return rng.standard_normal(4096).astype(np.float32).view(np.uint8) if name == "F32" else quantize(
            (rng.standard_normal((16, 256)) * 10.0 ** rng.integers(-6, 4, (16, 1))).astype(np.float32), kind
        ).reshape(-1)
    rows = rng.integers(0, 256, (64, size), dtype=np.uint8)
    for at in HALVES[name]:
        halves = (rng.standard_normal(64) * 10.0 ** rng.integers(-5, 2, 64)).astype(np.float16)
        halves[:4] = [0.0, -0.0, 6e-8, -0.125]
        rows[:, at : at + 2] = halves.view(np.uint8).reshape(64, 2)
    return rows.reshape(-1)


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
        packed = quantize(tensors["input"], gguf.GGMLQuantizationType[name])
        tensors[f"{name}.encoded"] = np.ascontiguousarray(packed).view(np.uint8).reshape(-1)
    path = pathlib.Path(__file__).with_name("quant.safetensors")
    save_file(tensors, path, {"made_by": f"make_quant.py, gguf 0.19.0, numpy {np.__version__}, seed {SEED}"})
    print(path, path.stat().st_size)


if __name__ == "__main__":
    main()

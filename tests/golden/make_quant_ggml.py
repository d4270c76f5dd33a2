#!/usr/bin/env python3
"""Makes quant_ggml.safetensors: rows of three distributions, and what ggml's own encoders make of them.

    pip install --no-deps --target DIR pywhispercpp==1.5.1    # the wheel has ggml 0.13.1 in it, as libggml-base.so
    python3 tests/golden/make_quant_ggml.py DIR               # needs: pip install safetensors numpy

For every SET of rows (gaussian, laplacian, student-3: heavy tails):
    SET.source       u16  the weights, words of BF16: [ROWS, COLUMNS], seed SEED
    SET.TYPE         u8   their blocks
    SET.TYPE-weighted     the same with an importance matrix, for the types that take one
    importance       f32  [COLUMNS], log-normal over three orders of magnitude

tests/quant_quality.rs compares the errors of our encoders with those of these blocks, and bytes where rules are fixed.
"""

import ctypes
import pathlib
import sys

import numpy as np
from safetensors.numpy import save_file

ROWS, COLUMNS, SEED = 16, 1024, 20261124
# ggml's type ids; the last ones follow a fixed rule, with an importance matrix or without.
SEARCHED = {"Q2_K": 10, "Q3_K": 11, "Q4_K": 12, "Q5_K": 13, "Q6_K": 14, "IQ4_NL": 20, "IQ4_XS": 23}
FIXED = {"MXFP4": 39, "NVFP4": 40}


def load(folder):
    ggml = ctypes.CDLL(str(pathlib.Path(folder) / "libggml-base.so"))
    ggml.ggml_row_size.restype = ctypes.c_size_t
    ggml.ggml_row_size.argtypes = [ctypes.c_int, ctypes.c_int64]
    ggml.ggml_quantize_chunk.restype = ctypes.c_size_t
    numbers = ctypes.POINTER(ctypes.c_float)
    ggml.ggml_quantize_chunk.argtypes = [ctypes.c_int, numbers, ctypes.c_void_p] + [ctypes.c_int64] * 3 + [numbers]
    ggml.ggml_version.restype = ctypes.c_char_p
    return ggml


def encode(ggml, kind, x, importance=None):
    numbers = ctypes.POINTER(ctypes.c_float)
    out = np.zeros((ROWS, ggml.ggml_row_size(kind, COLUMNS)), np.uint8)
    weights = None if importance is None else importance.ctypes.data_as(numbers)
    size = ggml.ggml_quantize_chunk(kind, x.ctypes.data_as(numbers), out.ctypes.data, 0, ROWS, COLUMNS, weights)
    assert size == out.size
    return out


def main():
    ggml = load(sys.argv[1])
    rng = np.random.default_rng(SEED)
    shape = (ROWS, COLUMNS)
    sets = {
        "gaussian": rng.standard_normal(shape),
        "laplacian": rng.laplace(size=shape),
        "student-3": rng.standard_t(3, size=shape),
    }
    importance = np.exp(1.5 * rng.standard_normal(COLUMNS)).astype(np.float32)
    tensors = {"importance": importance}
    for name, x in sets.items():
        words = ((0.02 * x).astype(np.float32).view(np.uint32) >> 16).astype(np.uint16)
        x = np.ascontiguousarray((words.astype(np.uint32) << 16).view(np.float32))
        tensors[f"{name}.source"] = words
        for kind, number in {**SEARCHED, **FIXED}.items():
            tensors[f"{name}.{kind}"] = encode(ggml, number, x)
        for kind, number in SEARCHED.items():
            tensors[f"{name}.{kind}-weighted"] = encode(ggml, number, x, importance)
    path = pathlib.Path(__file__).with_name("quant_ggml.safetensors")
    version = ggml.ggml_version().decode()
    save_file(tensors, path, {"made_by": f"make_quant_ggml.py, blocks by ggml {version}"})
    print(path, path.stat().st_size, version)


if __name__ == "__main__":
    main()

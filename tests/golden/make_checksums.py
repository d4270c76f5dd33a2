#!/usr/bin/env python3
"""Makes checksums.json: what the Python package `gguf` decodes from files that other people's tools made.

    python3 tests/golden/make_checksums.py FILE.gguf ...      # needs: pip install gguf==0.19.0

For each file the CRC-32 of each tensor, dequantized to little-endian F32. Files given here that are not in
tests/golden do no harm: tests/gguf/peer.rs checks the ones that are.
"""

import json
import pathlib
import sys
import zlib

import gguf
import numpy as np


def main():
    sums = {}
    for path in sys.argv[1:]:
        tensors = {}
        for tensor in gguf.GGUFReader(path).tensors:
            values = gguf.quants.dequantize(tensor.data, tensor.tensor_type)
            tensors[tensor.name] = zlib.crc32(np.ascontiguousarray(values, dtype="<f4").tobytes())
        sums[pathlib.Path(path).name] = tensors
    out = pathlib.Path(__file__).with_name("checksums.json")
    out.write_text(json.dumps(sums, indent=0, sort_keys=True) + "\n")


if __name__ == "__main__":
    main()

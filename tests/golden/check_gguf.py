#!/usr/bin/env python3
"""Checks GGUF files with an independent reader, the Python package `gguf` (pip install gguf==0.19.0 safetensors).

    python3 tests/golden/check_gguf.py same OURS.gguf THEIRS.gguf   two files hold the same model
    python3 tests/golden/check_gguf.py read FILE.gguf ...           the package can read and decode the files

`same` compares tensors by name, shape, type and bytes, and keys by type and value. Order is no part of the meaning. Keys
that differ on purpose are listed below. Exit status 0: all well; 1: differences, printed; 2: the package is not there.
"""

import sys

# What our converter writes differently from llama.cpp's, and why.
ON_PURPOSE = {
    "general.name": "free text",
    "tokenizer.ggml.add_sep_token": "the published files do not have it; the model has no separator",
}


def keys(reader):
    fields = {name: field for name, field in reader.fields.items() if not name.startswith("GGUF.")}
    return {name: ([kind.name for kind in field.types], field.contents()) for name, field in fields.items()}


def same(ours, theirs):
    wrong = []
    a, b = keys(ours), keys(theirs)
    for name in sorted(a.keys() | b.keys()):
        if name not in ON_PURPOSE and a.get(name) != b.get(name):
            wrong.append(f"key {name}: {str(a.get(name))[:200]} != {str(b.get(name))[:200]}")
    a, b = ({t.name: t for t in reader.tensors} for reader in (ours, theirs))
    for name in sorted(a.keys() | b.keys()):
        if name not in a or name not in b:
            wrong.append(f"tensor {name}: only in {'ours' if name in a else 'theirs'}")
        elif list(a[name].shape) != list(b[name].shape) or a[name].tensor_type != b[name].tensor_type:
            wrong.append(f"tensor {name}: {a[name].tensor_type} {a[name].shape} != {b[name].tensor_type} {b[name].shape}")
        elif a[name].data.tobytes() != b[name].data.tobytes():
            wrong.append(f"tensor {name}: the bytes differ")
    print(f"{len(b)} tensors and {len(keys(theirs))} keys compared, {len(wrong)} differences")
    return wrong


def read(path, gguf):
    reader = gguf.GGUFReader(path)
    wrong = []
    for tensor in reader.tensors:
        values = gguf.quants.dequantize(tensor.data, tensor.tensor_type)
        if values.size != tensor.n_elements or not abs(values).max() < float("inf"):
            wrong.append(f"{path}: tensor {tensor.name}: {values.size} values, largest {abs(values).max()}")
    print(f"{path}: {len(keys(reader))} keys, {len(reader.tensors)} tensors read")
    return wrong


def main():
    try:
        import gguf
    except ImportError:
        print("NOT RUN: the Python package gguf is not installed")
        return 2
    if len(sys.argv) == 4 and sys.argv[1] == "same":
        wrong = same(gguf.GGUFReader(sys.argv[2]), gguf.GGUFReader(sys.argv[3]))
    elif len(sys.argv) >= 3 and sys.argv[1] == "read":
        wrong = [line for path in sys.argv[2:] for line in read(path, gguf)]
    else:
        sys.exit(__doc__)
    print("\n".join(wrong), end="\n" if wrong else "")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())

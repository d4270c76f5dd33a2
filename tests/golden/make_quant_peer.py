#!/usr/bin/env python3
"""Makes quant_peer.safetensors: weights, and what llama.cpp's quantizer made of them.

    python3 tests/golden/make_quant_peer.py DIR          # needs: pip install gguf==0.19.0 safetensors numpy

DIR holds random checkpoints, hf-NAME/, and the files that llama.cpp (ggml 0.15.1) quantized from their BF16 conversion,
NAME-TYPE.gguf, with the default mixes and without an importance matrix. For every SET of rows below:
    SET.source  u16  the weights, as in the checkpoint, words of BF16: [rows, columns]
    SET.TYPE    u8   the blocks of the same rows

tests/quant_quality.rs compares the errors of our encoders with those of these blocks.
"""

import json
import pathlib
import sys

import gguf
import numpy as np
from safetensors.numpy import save_file

# Set: checkpoint, tensor in it, tensor in the GGUF files, rows, files.
SETS = {
    "attn_q": ("k256", "layers.0.self_attn.q_proj.weight", "blk.0.attn_q", 40, ["Q4_K_M", "Q6_K"]),
    "ffn_down": ("k256", "layers.0.mlp.down_proj.weight", "blk.0.ffn_down", 40, ["Q4_K_M", "Q6_K"]),
    "sc_gate": ("k256", "self_conditioning.gate_proj.weight", "self_cond_gate", 40, ["Q4_K_M", "Q6_K"]),
    "embedding": ("k256", "embed_tokens.weight", "token_embd", 40, ["Q4_K_M"]),
    "ffn_up": ("ratio", "layers.0.mlp.up_proj.weight", "blk.0.ffn_up", 60, ["Q4_K_M", "Q6_K"]),
    "sc_down": ("ratio", "self_conditioning.down_proj.weight", "self_cond_down", 40, ["Q4_K_M", "Q4_0"]),
    "attn_output": ("ratio", "layers.0.self_attn.o_proj.weight", "blk.0.attn_output", 40, ["Q4_K_M", "Q6_K"]),
}  # fmt: skip


def bf16(path, name):
    """The 16-bit words of a tensor; numpy has no such type, so the file is read by hand."""
    data = path.read_bytes()
    start = 8 + int.from_bytes(data[:8], "little")
    info = json.loads(data[8:start])[name]
    assert info["dtype"] == "BF16", name
    begin, end = info["data_offsets"]
    return np.frombuffer(data[start + begin : start + end], np.uint16).reshape(info["shape"])


def main():
    folder = pathlib.Path(sys.argv[1])
    tensors = {}
    for name, (model, ours, theirs, rows, files) in SETS.items():
        tensors[f"{name}.source"] = bf16(folder / f"hf-{model}" / "model.safetensors", f"model.decoder.{ours}")[:rows]
        for file in files:
            reader = gguf.GGUFReader(folder / f"{model}-{file}.gguf")
            tensor = next(t for t in reader.tensors if t.name == f"{theirs}.weight")
            tensors[f"{name}.{tensor.tensor_type.name}"] = np.ascontiguousarray(tensor.data[:rows])
    tensors = {name: np.ascontiguousarray(t) for name, t in tensors.items()}
    path = pathlib.Path(__file__).with_name("quant_peer.safetensors")
    save_file(tensors, path, {"made_by": "make_quant_peer.py, blocks by llama.cpp (ggml 0.15.1)"})
    print(path, path.stat().st_size)


if __name__ == "__main__":
    main()

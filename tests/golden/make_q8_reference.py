#!/usr/bin/env python3
"""What the reference computes from weights that went through Q8_0: the golden data for files converted with q8_0.

    pip install torch==2.15.0 transformers==5.23.0 safetensors gguf==0.19.0
    python make_q8_reference.py tests/golden/tiny-a tests/golden/tiny-b tests/golden/tiny-k

Replaces every matrix that the converter quantizes (all but norms, the router and the vision tower) by its Q8_0 rounding,
made by the `gguf` package, and runs transformers' model on the prompt and the canvas of reference.safetensors. Writes
q8_0.safetensors beside it: encoder_hidden [P,H], logits [C,V], float32. Prints the cosine with the unrounded model: these
random checkpoints have attention scores of +-20, so a rounding of 0.4 % moves them visibly, in any implementation.
"""
import sys
from pathlib import Path

import torch
from gguf import GGMLQuantizationType as T
from gguf.quants import dequantize, quantize
from safetensors.torch import load_file, save_file
from transformers import DiffusionGemmaForBlockDiffusion


@torch.no_grad()
def main(folder):
    folder = Path(folder)
    r = load_file(folder / "reference.safetensors")
    model = DiffusionGemmaForBlockDiffusion.from_pretrained(folder / "hf", dtype=torch.float32,
                                                            attn_implementation="eager").eval()
    for key, w in model.named_parameters():
        if w.ndim > 1 and "router" not in key and "vision" not in key:
            w.copy_(torch.from_numpy(dequantize(quantize(w.numpy(), T.Q8_0), T.Q8_0)))
    prompt, canvas = r["prompt"].long()[None], r["canvas"].long()[None]
    enc = model.model.encoder(input_ids=prompt)
    where = torch.arange(prompt.shape[1], prompt.shape[1] + canvas.shape[1])[None]
    logits = model(decoder_input_ids=canvas, self_conditioning_logits=None, past_key_values=enc.past_key_values,
                   decoder_position_ids=where).logits
    out = {"encoder_hidden": enc.last_hidden_state[0].contiguous(), "logits": logits[0].contiguous()}
    for key, got in out.items():
        cosine = torch.nn.functional.cosine_similarity(got.flatten().double(), r[key].flatten().double(), dim=0)
        print(folder.name, key, "cosine with the unrounded model", f"{cosine:.6f}")
    save_file(out, folder / "q8_0.safetensors")


if __name__ == "__main__":
    for folder in sys.argv[1:]:
        main(folder)

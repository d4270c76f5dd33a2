#!/usr/bin/env python3
"""Golden logits for a GGUF file whose weights were rounded on the way: micro's checkpoint is F32, micro-bf16.gguf is not.

    pip install torch==2.15.0 transformers==5.23.0 safetensors
    python make_rounded_logits.py HF_DIR GOLDEN_DIR NAME PROMPT_LENGTH [OUT_DIR]

Rounds every weight that the converter stores as BF16 (matrices, except norms and the router) and writes
NAME-bf16-deq0-P.f32 and NAME-bf16-deq1-P.f32, in the form of the other `-deq` files: [canvas, vocab] soft-capped logits
of (prompt, c) plain, and of (prompt, d) conditioned on NAME-logits0-P. Float32, eager attention, dynamic cache.
"""
import sys
from pathlib import Path

import numpy as np
import torch
from transformers import DiffusionGemmaForBlockDiffusion


@torch.no_grad()
def main(hf, golden, name, p, out=None):
    golden, out = Path(golden), Path(out or golden)
    model = DiffusionGemmaForBlockDiffusion.from_pretrained(hf, dtype=torch.float32, attn_implementation="eager").eval()
    for key, w in model.named_parameters():
        if w.ndim > 1 and "router" not in key and "vision" not in key:
            w.copy_(w.to(torch.bfloat16).float())
    ids = lambda kind: torch.from_numpy(np.fromfile(golden / f"{name}-{kind}{p}.i32", "<i4").astype("int64"))[None]
    kv = model.model.encoder(input_ids=ids("p")).past_key_values
    canvas = ids("c")
    where = torch.arange(int(p), int(p) + canvas.shape[1])[None]
    run = lambda x, sc: model(decoder_input_ids=x, self_conditioning_logits=sc, past_key_values=kv,
                              decoder_position_ids=where).logits
    sc = torch.from_numpy(np.fromfile(golden / f"{name}-logits0-{p}.f32", "<f4").reshape(1, canvas.shape[1], -1))
    for which, logits in enumerate([run(canvas, None), run(ids("d"), sc)]):
        logits[0].numpy().astype("<f4").tofile(out / f"{name}-bf16-deq{which}-{p}.f32")


if __name__ == "__main__":
    main(*sys.argv[1:])

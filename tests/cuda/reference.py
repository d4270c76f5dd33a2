#!/usr/bin/env python3
"""What transformers takes for the passes that `dgemma bench` measures, on the same machine and the same shapes, in bf16.

    python3 reference.py [--shape 26b | tiny] [--prefix 1024] [--steps 16] [--device cuda] [--csv FILE]

Needs torch and transformers 5.13 or newer (written for 5.23.0, torch 2.15.0) and no files: weights are random and made on
the device, so times are those of the shapes and texts mean nothing. Measured, each the median of some runs, the device
waited for at both ends: the encoder over the prompt, a canvas's first decoder pass, and the passes that are conditioned on
the logits before. The decoder's logits stand for a step: sampling is not counted, which favours the reference.
"""
import argparse
import math
import statistics
import sys
import time

import torch
from transformers import DiffusionGemmaConfig, DiffusionGemmaForBlockDiffusion

# `dgemma-quantize synth --shape`: quantize/src/shapes.rs.
SHAPES = {
    "26b": dict(canvas=256, text=dict(
        vocab_size=262144, hidden_size=2816, intermediate_size=2112, num_hidden_layers=30, num_attention_heads=16,
        num_key_value_heads=8, head_dim=256, global_head_dim=512, num_global_key_value_heads=2, sliding_window=1024,
        num_experts=128, top_k_experts=8, moe_intermediate_size=704, max_position_embeddings=262144,
        layer_types=["full_attention" if n % 6 == 5 else "sliding_attention" for n in range(30)])),
    "tiny": dict(canvas=64, text=dict(
        vocab_size=2048, hidden_size=256, intermediate_size=512, num_hidden_layers=5, num_attention_heads=4,
        num_key_value_heads=2, head_dim=64, global_head_dim=128, num_global_key_value_heads=1, sliding_window=64,
        num_experts=16, top_k_experts=4, moe_intermediate_size=96, max_position_embeddings=4096,
        layer_types=["sliding_attention", "sliding_attention", "full_attention", "sliding_attention", "full_attention"])),
}


def build(shape, device):
    """The network with random weights of the size that keeps activations near one."""
    text = dict(shape["text"], use_bidirectional_attention="vision")
    vision = dict(model_type="gemma4_vision", hidden_size=32, intermediate_size=64, num_hidden_layers=1,
                  num_attention_heads=2, num_key_value_heads=2, head_dim=16, position_embedding_size=64)
    config = DiffusionGemmaConfig(text_config=text, vision_config=vision, canvas_length=shape["canvas"],
                                  image_token_id=6, boi_token_id=7, eoi_token_id=8)
    torch.manual_seed(1)
    torch.set_default_dtype(torch.bfloat16)
    with torch.device(device):
        model = DiffusionGemmaForBlockDiffusion(config).eval()
    torch.set_default_dtype(torch.float32)
    with torch.no_grad():
        for p in model.parameters():
            if p.ndim <= 1:
                p.fill_(1.0)
            else:
                p.normal_(0.0, 1.0 / math.sqrt(p.shape[-1]))
    return model


def timed(device, f):
    """(what f returns, milliseconds)."""
    wait = torch.cuda.synchronize if device.startswith("cuda") else (lambda: None)
    wait()
    begin = time.perf_counter()
    result = f()
    wait()
    return result, (time.perf_counter() - begin) * 1e3


@torch.no_grad()
def measure(model, shape, prefix, steps, device):
    """Rows of the table: (what, value)."""
    vocab, canvas = shape["text"]["vocab_size"], shape["canvas"]
    prompt = torch.randint(9, vocab, (1, prefix), device=device)
    encode = lambda: model.model.encoder(input_ids=prompt)
    encode()  # loads and picks kernels
    encoded = [timed(device, encode) for _ in range(3)]
    kv = encoded[-1][0].past_key_values
    positions = torch.arange(prefix, prefix + canvas, device=device)[None]

    def decode(conditioning):
        ids = torch.randint(vocab, (1, canvas), device=device)
        return model(decoder_input_ids=ids, self_conditioning_logits=conditioning, past_key_values=kv,
                     decoder_position_ids=positions).logits

    logits = decode(decode(None) / 0.8)
    first = [timed(device, lambda: decode(None))[1] for _ in range(3)]
    each = []
    for _ in range(steps):
        logits, ms = timed(device, lambda: decode(logits / 0.8))
        each.append(ms)
    assert torch.isfinite(logits).all(), "the random weights gave no numbers"
    prefill = statistics.median(ms for _, ms in encoded)
    yield "prefill.rows", prefix
    yield "prefill.ms", round(prefill, 3)
    yield "prefill.tokens_per_second", round(prefix / prefill * 1e3, 1)
    yield "first_step.ms", round(statistics.median(first), 3)
    yield "step.ms", round(statistics.median(each), 3)
    yield "step.ms_least", round(min(each), 3)
    for i, ms in enumerate(each):
        yield f"step.ms_each.{i}", round(ms, 3)
    if device.startswith("cuda"):
        yield "memory.device_peak_bytes", torch.cuda.max_memory_allocated()


def main():
    p = argparse.ArgumentParser()
    p.add_argument("--shape", choices=SHAPES, default="26b")
    p.add_argument("--prefix", type=int, default=1024)
    p.add_argument("--steps", type=int, default=16)
    p.add_argument("--device", default="cuda")
    p.add_argument("--csv")
    a = p.parse_args()
    if a.device.startswith("cuda") and not torch.cuda.is_available():
        sys.exit("torch finds no CUDA device")
    import transformers
    shape = SHAPES[a.shape]
    model = build(shape, a.device)
    name = torch.cuda.get_device_name() if a.device.startswith("cuda") else "cpu"
    rows = [("run.device", name), ("run.torch", torch.__version__), ("run.transformers", transformers.__version__),
            ("run.attention", model.config.text_config._attn_implementation), ("model.shape", a.shape),
            ("model.bytes", sum(w.numel() * w.element_size() for w in model.parameters()))]
    rows += measure(model, shape, a.prefix, a.steps, a.device)
    text = "what,value\n" + "".join(f'{what},"{v}"\n' if isinstance(v, str) else f"{what},{v}\n" for what, v in rows)
    print(text, end="")
    if a.csv:
        with open(a.csv, "w") as out:
            out.write(text)


if __name__ == "__main__":
    main()

#!/usr/bin/env python3
"""Trains dgemma-tiny: a DiffusionGemma of about a million parameters, from nothing, on one CPU core.

    pip install -r requirements.txt
    python train.py --out hf                    # the run behind the committed model (see README.md)
    python train.py --out hf --device cuda      # the same on a GPU
    python train.py --out hf --eval-only        # per-task accuracy of a finished checkpoint

The model is `transformers`' own `DiffusionGemmaForBlockDiffusion`; its layers are called directly with masks made
here, and the loop over its experts is replaced by one that sorts the tokens first (the same numbers, several times
faster); a check against the library's own forward pass comes first in every run.
The data is synthetic and made below. `--out` gets a Hugging Face checkpoint folder.
"""
import argparse, hashlib, json, math, os, random, shutil, time
from pathlib import Path

import torch
import torch.nn.functional as F
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers
from transformers import DiffusionGemmaConfig, DiffusionGemmaForBlockDiffusion
from transformers.models.diffusion_gemma import modeling_diffusion_gemma as reference
from transformers.models.diffusion_gemma.generation_diffusion_gemma import (
    EntropyBoundSampler, EntropyBoundSamplerConfig, StableAndConfidentStoppingCriteria)

CANVAS, VOCAB = 32, 512
SPECIAL = ["<pad>", "<eos>", "<bos>", "<unk>", "<|turn>", "<turn|>"]
PAD, EOS, BOS, TURN_END = 0, 1, 2, 5
STEPS, T_MIN, T_MAX, ENTROPY_BOUND, STABILITY, CONFIDENCE = 16, 0.4, 0.8, 0.1, 1, 0.005
CHAT_TEMPLATE = (
    "{{ bos_token }}{% for m in messages %}<|turn>{{ 'model' if m['role'] == 'assistant' else m['role'] }}\n"
    "{{ m['content'] | trim }}<turn|>\n{% endfor %}{% if add_generation_prompt %}<|turn>model\n{% endif %}")

# ---------------------------------------------------------------------------------------------------------- data

CAPITALS = dict(pair.split(":") for pair in (
    "France:Paris,Germany:Berlin,Italy:Rome,Spain:Madrid,Portugal:Lisbon,Austria:Vienna,Belgium:Brussels,"
    "Latvia:Riga,Poland:Warsaw,Greece:Athens,Ireland:Dublin,Norway:Oslo,Sweden:Stockholm,Finland:Helsinki,"
    "Denmark:Copenhagen,Iceland:Reykjavik,Hungary:Budapest,Romania:Bucharest,Bulgaria:Sofia,Croatia:Zagreb,"
    "Serbia:Belgrade,Ukraine:Kyiv,Turkey:Ankara,Russia:Moscow,England:London,Scotland:Edinburgh,Egypt:Cairo,"
    "Kenya:Nairobi,Ghana:Accra,Morocco:Rabat,Tunisia:Tunis,Japan:Tokyo,China:Beijing,India:New Delhi,Nepal:Kathmandu,"
    "Thailand:Bangkok,Vietnam:Hanoi,Iran:Tehran,Iraq:Baghdad,Canada:Ottawa,Cuba:Havana,Mexico:Mexico City,"
    "Peru:Lima,Chile:Santiago,Australia:Canberra").split(","))
WORDS = (
    "lamp tree house green river stone cloud bread water light night sun moon star fish bird cat dog cow horse mouse "
    "apple pear lemon grape plum table chair door wall roof floor road hill lake sea boat ship train plane car bus "
    "red blue white black brown pink gold gray old new big small fast slow hot cold warm cool soft hard happy sad "
    "king queen child baby man woman boy girl friend hand foot head eye ear nose mouth book page word letter paper "
    "pen desk clock time day week month year spring summer winter snow rain wind storm fire ice sand rock leaf root "
    "seed rose corn rice milk tea cake salt sugar soup egg meat fox wolf bear lion tiger sheep goat duck frog snake "
    "bee ant hat coat shoe sock shirt dress ring bell drum song music dance game ball toy gift party smile dream "
    "hello world rust code model tiny cup plate spoon fork knife box bag key lock map coin bank shop city town "
    "village garden flower field forest island ocean planet rocket robot").split()
PHRASES = {
    "addition": ["What is {} + {}?", "How much is {} + {}?", "Add {} and {}."],
    "spelling": ['Spell "{}" backwards.', 'Write "{}" backwards.', 'What is "{}" backwards?'],
    "sorting": ["Sort the digits {}.", "Sort {}.", "Put the digits {} in order."],
    "counting": ["Count from {} to {}.", "Count up from {} to {}.", "List the numbers from {} to {}."],
    "capitals": ["What is the capital of {}?", "Name the capital of {}.", "Tell me the capital of {}.",
                 "Give the capital of {}."],
    "repeating": ['Repeat "{}" {} times.', 'Write "{}" {} times.', 'Say "{}" {} times.'],
}
TASKS = list(PHRASES)
HELD_OUT = {"addition": 0.10, "spelling": 0.05, "sorting": 0.05, "counting": 0.10, "repeating": 0.05}


def fraction(*key):
    """A number in [0, 1) that depends on nothing but the key."""
    return int.from_bytes(hashlib.sha256("|".join(map(str, key)).encode()).digest()[:4], "big") / 2**32


def held_out(task, args, phrase):
    """Five tasks hold out arguments (under every phrasing); for capitals, two of the four phrasings of each country."""
    if task == "capitals":
        ranked = sorted(PHRASES[task], key=lambda p: fraction(task, args[0], p))
        return phrase in ranked[:2]
    return fraction(task, *args) < HELD_OUT[task]


def word(rng, low, high):
    """A common word, a made-up pronounceable one, or plain random letters (which can only be copied)."""
    kind = rng.random()
    if kind < 0.35:
        while not low <= len(w := rng.choice(WORDS)) <= high:
            pass
        return w
    n = rng.randint(low, high)
    if kind < 0.7:
        vowel = rng.random() < 0.4
        return "".join(rng.choice("aeiou" if (i % 2 == 0) == vowel else "bcdfghjklmnprstvwyz") for i in range(n))
    return "".join(rng.choice("abcdefghijklmnopqrstuvwxyz") for _ in range(n))


def sample(rng, task):
    """(arguments, answer) of one exercise."""
    if task == "addition":
        a, b = rng.randint(0, 30), rng.randint(0, 30)
        return (a, b), str(a + b)
    if task == "spelling":
        w = word(rng, 3, 6)
        return (w,), w[::-1]
    if task == "sorting":
        d = "".join(rng.choice("0123456789") for _ in range(rng.randint(3, 7)))
        return (d,), "".join(sorted(d))
    if task == "counting":
        a = rng.randint(0, rng.choice([20, 90]))
        b = a + rng.randint(2, 9)
        return (a, b), ", ".join(map(str, range(a, b + 1)))
    if task == "capitals":
        country = rng.choice(list(CAPITALS))
        return (country,), CAPITALS[country]
    while True:
        n = rng.randint(2, 5)
        phrase = word(rng, 2, 6) if rng.random() < 0.4 else word(rng, 2, 5) + " " + word(rng, 2, 5)
        if len(phrase) <= 9 and (len(phrase) + 1) * n <= CANVAS - 1:
            return (phrase, n), " ".join([phrase] * n)


def exercise(rng, task, want_held_out=False):
    while True:
        args, answer = sample(rng, task)
        phrase = rng.choice(PHRASES[task])
        if held_out(task, args, phrase) == want_held_out:
            return phrase.format(*args), answer


def exercise_set(count, seed, want_held_out):
    rng, rows = random.Random(seed), {}
    while len(rows) < count:
        task = TASKS[len(rows) % len(TASKS)]
        prompt, answer = exercise(rng, task, want_held_out)
        rows.setdefault(prompt, {"task": task, "prompt": prompt, "answer": answer})
    return list(rows.values())


def held_out_set():
    return sorted(exercise_set(500, 2024, True), key=lambda r: TASKS.index(r["task"]))


def calibration_set():
    """Exercises of the training kind, for an importance matrix; none of them is held out."""
    return exercise_set(240, 2025, False)


# ----------------------------------------------------------------------------------------------------- tokenizer

def make_tokenizer():
    """Byte-fallback BPE as Gemma's. Every merge starts at a space or a capital letter, so that the letters of a
    quoted word, and all digits, stay single tokens; the merges are the words of the phrasings, letter by letter."""
    vocab = {s: i for i, s in enumerate(SPECIAL)}
    for b in range(256):
        vocab[f"<0x{b:02X}>"] = len(vocab)
    for c in ["\n", "\u2581"] + [chr(c) for c in range(33, 127)]:
        vocab[c] = len(vocab)
    texts = [p.replace("{}", "") for task in TASKS for p in PHRASES[task]] + [" " + c for c in CAPITALS]
    words, merges = ['\u2581"', "\u2581+"], []
    for text in texts:
        for w in text.split():
            w = "".join(c for c in w if c.isalpha())
            words += [w] if w and text.startswith(w) else ["\u2581" + w] if w else []
    for w in words:
        for i in range(1, len(w)):
            if w[:i + 1] not in vocab and len(vocab) < VOCAB - 1:
                merges.append((w[:i], w[i]))
                vocab[w[:i + 1]] = len(vocab)
    merges.append((",", "\u2581"))
    vocab[",\u2581"] = len(vocab)
    assert len(vocab) == VOCAB, len(vocab)
    tok = Tokenizer(models.BPE(vocab, merges, unk_token="<unk>", fuse_unk=True, byte_fallback=True))
    tok.normalizer = normalizers.Replace(" ", "\u2581")
    tok.pre_tokenizer = pre_tokenizers.Split(" ", "merged_with_previous")
    tok.decoder = decoders.Sequence([decoders.Replace("\u2581", " "), decoders.ByteFallback(), decoders.Fuse()])
    tok.add_special_tokens(SPECIAL)
    return tok


def chat(prompt):
    return f"<bos><|turn>user\n{prompt}<turn|>\n<|turn>model\n"


def encode_prompts(tok, prompts, length=None):
    """Left-padded ids [B, P]; rotary positions are relative, so only the mask has to know about the padding."""
    rows = [e.ids for e in tok.encode_batch([chat(p) for p in prompts], add_special_tokens=False)]
    length = length or max(map(len, rows))
    assert max(map(len, rows)) <= length, "a prompt is longer than --prompt-length"
    return torch.tensor([[PAD] * (length - len(r)) + r for r in rows])


def encode_answers(tok, answers):
    rows = [e.ids for e in tok.encode_batch([a + "<turn|>" for a in answers], add_special_tokens=False)]
    assert max(map(len, rows)) <= CANVAS
    return torch.tensor([r + [PAD] * (CANVAS - len(r)) for r in rows])


# --------------------------------------------------------------------------------------------------------- model

class Permute(torch.autograd.Function):
    """Rows in another order; the gradient is a gather too, which is far faster on a CPU than the default scatter."""

    @staticmethod
    def forward(ctx, x, order, inverse):
        ctx.save_for_backward(inverse)
        return x.index_select(0, order)

    @staticmethod
    def backward(ctx, grad):
        return grad.index_select(0, ctx.saved_tensors[0]), None, None


def sorted_experts(self, hidden, index, weights):
    """The reference's expert loop with the tokens sorted by expert, so that each expert works on one slice."""
    n, k = index.shape
    order = index.flatten().argsort()
    inverse = torch.empty_like(order)
    inverse[order] = torch.arange(n * k, device=order.device)
    rows = Permute.apply(hidden[:, None].expand(n, k, -1).reshape(n * k, -1), order, inverse)
    counts = torch.bincount(index.flatten(), minlength=self.num_experts).tolist()
    out = []
    for expert, part in enumerate(rows.split(counts)):
        gate, up = F.linear(part, self.gate_up_proj[expert]).chunk(2, -1)
        out.append(F.linear(F.gelu(gate, approximate="tanh") * up, self.down_proj[expert]))
    out = Permute.apply(torch.cat(out), inverse, order).view(n, k, -1)
    return (out * weights[..., None]).sum(1)


def make_model(args):
    text = dict(
        vocab_size=VOCAB, hidden_size=args.hidden, intermediate_size=3 * args.hidden, moe_intermediate_size=args.hidden,
        num_hidden_layers=6, num_attention_heads=4, num_key_value_heads=2, head_dim=32, global_head_dim=64,
        num_global_key_value_heads=1, sliding_window=64, num_experts=8, top_k_experts=2,
        layer_types=["sliding_attention"] * 5 + ["full_attention"], use_bidirectional_attention="vision",
        max_position_embeddings=4096, pad_token_id=PAD, eos_token_id=EOS, bos_token_id=BOS)
    vision = dict(model_type="gemma4_vision", hidden_size=32, intermediate_size=64, num_hidden_layers=1,
                  num_attention_heads=2, num_key_value_heads=2, head_dim=16)
    config = DiffusionGemmaConfig(text_config=text, vision_config=vision, canvas_length=CANVAS)
    config._attn_implementation = "eager"
    model = DiffusionGemmaForBlockDiffusion(config)
    with torch.no_grad():       # the library's defaults suit fine-tuning; a small model from nothing wants unit scales
        for name, p in model.named_parameters():
            if "vision" in name:
                p.requires_grad_(False)
            elif name.endswith(("q_norm.weight", "k_norm.weight")):
                p.fill_(p.shape[0] ** -0.25)                # attention has no 1/sqrt(d): start with scores of about one
            elif name.endswith(("post_attention_layernorm.weight", "post_feedforward_layernorm.weight")):
                p.fill_(0.5)
            elif "router.proj" in name:
                p.normal_(0, 1)
            elif p.ndim >= 2:
                p.normal_(0, p.shape[-1] ** -0.5)
    return model


class Prefix:
    """The encoder's keys and values, in the form that the reference's attention layers read and append to."""
    is_compileable = False

    class Layer:
        keys = values = None

    def __init__(self, layers):
        self.layers = [self.Layer() for _ in range(layers)]

    def update(self, keys, values, layer):
        self.layers[layer].keys, self.layers[layer].values = keys, values
        return keys, values


def encode(model, prompt):
    """The prompt through the causal encoder; returns its keys and values."""
    net, cfg = model.model.encoder.language_model, model.config.text_config
    B, P = prompt.shape
    positions = torch.arange(P, device=prompt.device)
    causal = positions[:, None] >= positions[None]
    eye = positions[:, None] == positions[None]
    seen = (causal & (prompt != PAD)[:, None]) | eye
    mask = torch.where(seen, 0.0, -1e9)[:, None]
    hidden, prefix = net.embed_tokens(prompt), Prefix(cfg.num_hidden_layers)
    rotary = {t: net.rotary_emb(hidden, positions[None], t) for t in set(cfg.layer_types)}
    for layer, kind in zip(net.layers[:-1], cfg.layer_types):
        hidden = layer(hidden, position_embeddings=rotary[kind], attention_mask=mask, past_key_values=prefix)
    # of the last layer only the keys and values are ever used
    net.layers[-1].self_attn(net.layers[-1].input_layernorm(hidden), rotary[cfg.layer_types[-1]], mask, prefix)
    return prefix


def decode(model, prompt, prefix, canvas, previous=None):
    """Logits for the canvas; `previous` are the self-conditioning logits."""
    net, cfg = model.model.decoder, model.config.text_config
    hidden = net.embed_tokens(canvas)
    if previous is None:
        soft = torch.zeros_like(hidden)
    else:
        soft = (previous.softmax(-1) @ net.embed_tokens.weight) * net.embed_tokens.embed_scale
    hidden = net.self_conditioning(hidden, soft)
    B, P = prompt.shape
    positions = torch.arange(P, P + CANVAS, device=prompt.device)
    seen = torch.cat([prompt != PAD, torch.ones_like(canvas, dtype=torch.bool)], 1)
    mask = torch.where(seen, 0.0, -1e9)[:, None, None].expand(B, 1, CANVAS, P + CANVAS)
    rotary = {t: net.rotary_emb(hidden, positions[None], t) for t in set(cfg.layer_types)}
    for layer, kind in zip(net.layers, cfg.layer_types):
        hidden = layer(hidden, position_embeddings=rotary[kind], attention_mask=mask, past_key_values=prefix)
    cap = model.final_logit_softcapping
    return torch.tanh(model.lm_head(net.norm(hidden)) / cap) * cap


def loss_fn(model, prompt, noisy, target, weight, temperature, conditioned):
    """Weighted cross-entropy over the whole canvas. Samples count with the square root of their total weight: between
    counting every token alike, which drowns short answers, and every sample alike, which drowns the ends of long ones."""
    prefix, previous = encode(model, prompt), None
    if conditioned:
        with torch.no_grad():
            previous = decode(model, prompt, prefix, noisy) / temperature
    logits = decode(model, prompt, prefix, noisy, previous)
    ce = F.cross_entropy(logits.flatten(0, 1), target.flatten(), reduction="none").view_as(target)
    total = weight.sum(1).sqrt()
    return ((ce * weight).sum(1) / total).sum() / total.sum()


@torch.no_grad()
def check(model, tok):
    """Our direct calls and sorted experts against the library's own forward pass."""
    prompt, canvas = encode_prompts(tok, ["Count from 3 to 11."]), torch.randint(VOCAB, (1, CANVAS))
    ours = decode(model, prompt, encode(model, prompt), canvas)
    ours2 = decode(model, prompt, encode(model, prompt), canvas, ours)
    ids = torch.cat([torch.zeros(1, 5, dtype=torch.long), prompt], 1)
    padded = decode(model, ids, encode(model, ids), canvas, ours)
    patched = reference.DiffusionGemmaTextExperts.forward
    reference.DiffusionGemmaTextExperts.forward = ORIGINAL_EXPERTS
    theirs = model(input_ids=prompt, decoder_input_ids=canvas).logits
    theirs2 = model(input_ids=prompt, decoder_input_ids=canvas, self_conditioning_logits=theirs).logits
    reference.DiffusionGemmaTextExperts.forward = patched
    worst = max(float((a - b).abs().max()) for a, b in ((ours, theirs), (ours2, theirs2), (padded, theirs2)))
    assert worst < 1e-3, f"differs from the reference forward pass by {worst}"
    return worst


ORIGINAL_EXPERTS = reference.DiffusionGemmaTextExperts.forward

# ---------------------------------------------------------------------------------------------------- generation

@torch.no_grad()
def generate(model, tok, prompts, seed=1):
    """The reference's sampler and stopping rule, batched; a finished canvas is frozen. Returns the answers."""
    device = next(model.parameters()).device
    torch.manual_seed(seed)
    prompt = encode_prompts(tok, prompts).to(device)
    prefix, previous = encode(model, prompt), None
    sampler = EntropyBoundSampler(EntropyBoundSamplerConfig(entropy_bound=ENTROPY_BOUND), CANVAS, VOCAB, STEPS)
    stopper = StableAndConfidentStoppingCriteria(STABILITY, CONFIDENCE)
    canvas = sampler.initialize_canvas(len(prompts), device)
    done = torch.zeros(len(prompts), dtype=torch.bool, device=device)
    result = torch.zeros_like(canvas)
    for remaining in range(STEPS, 0, -1):
        logits = decode(model, prompt, prefix, canvas, previous) / (T_MIN + (T_MAX - T_MIN) * remaining / STEPS)
        drawn = torch.distributions.Categorical(logits=logits).sample()
        best = logits.argmax(-1)
        result = torch.where(done[:, None], result, best)
        done |= stopper(best, logits)
        canvas = sampler.renoise_canvas(sampler.accept_canvas(canvas, drawn, logits, remaining), remaining)
        previous = logits
        if done.all():
            break
    answers = []
    for row in result.tolist():
        end = min((i for i, t in enumerate(row) if t in (EOS, TURN_END)), default=CANVAS)
        answers.append(tok.decode(row[:end], skip_special_tokens=True))
    return answers


def accuracy(model, tok, rows, seed=1, batch=128):
    """Exact-match accuracy per task, and the rows that were answered wrongly."""
    hits, wrong = {}, []
    for i in range(0, len(rows), batch):
        part = rows[i:i + batch]
        for row, got in zip(part, generate(model, tok, [r["prompt"] for r in part], seed + i)):
            hits.setdefault(row["task"], []).append(got == row["answer"])
            if got != row["answer"]:
                wrong.append((row["prompt"], row["answer"], got))
    return {t: sum(h) / len(h) for t, h in hits.items()} | {"all": sum(map(sum, hits.values())) / len(rows)}, wrong


def save(model, tok, out):
    """Writes a Hugging Face checkpoint folder, replacing `out` only when it is complete."""
    out, tmp = Path(out), Path(str(out) + ".tmp")
    shutil.rmtree(tmp, ignore_errors=True)
    model.save_pretrained(tmp)
    tok.save(str(tmp / "tokenizer.json"))
    write = lambda name, data: (tmp / name).write_text(json.dumps(data, indent=2) + "\n")
    config = json.loads((tmp / "config.json").read_text())      # spelled out, as the published model's config has them
    text = model.config.text_config
    config["text_config"] |= {"global_head_dim": text.per_layer_config["full_attention"].head_dim,
                              "num_global_key_value_heads": text.per_layer_config["full_attention"].num_key_value_heads,
                              "final_logit_softcapping": text.final_logit_softcapping}
    write("config.json", config)
    write("generation_config.json", {
        "max_new_tokens": CANVAS, "max_denoising_steps": STEPS, "t_min": T_MIN, "t_max": T_MAX,
        "sampler_config": {"_cls_name": "EntropyBoundSamplerConfig", "entropy_bound": ENTROPY_BOUND},
        "stability_threshold": STABILITY, "confidence_threshold": CONFIDENCE,
        "bos_token_id": BOS, "pad_token_id": PAD, "eos_token_id": [EOS, TURN_END]})
    write("tokenizer_config.json", {"bos_token": "<bos>", "eos_token": "<eos>", "pad_token": "<pad>",
                                    "unk_token": "<unk>", "add_bos_token": True, "tokenizer_class": "GemmaTokenizer"})
    (tmp / "chat_template.jinja").write_text(CHAT_TEMPLATE)
    shutil.rmtree(out, ignore_errors=True)
    os.rename(tmp, out)

# ------------------------------------------------------------------------------------------------------ training

def batch(rng, tok, args, gen):
    """One batch: prompts, the noisy canvas, the clean one, and the weight of each position."""
    rows = []
    while len(rows) < args.batch:
        row = exercise(rng, rng.choices(TASKS, args.mix)[0])
        if len(tok.encode(chat(row[0]), add_special_tokens=False).ids) <= args.prompt_length:
            rows.append(row)
    prompt = encode_prompts(tok, [r[0] for r in rows])
    target = encode_answers(tok, [r[1] for r in rows])
    level = torch.rand(args.batch, 1, generator=gen)        # share of the canvas that is replaced by random tokens
    level[torch.rand(args.batch, 1, generator=gen) < args.pure_noise] = 1.0
    random_ids = torch.randint(VOCAB, target.shape, generator=gen)
    noisy = torch.where(torch.rand(target.shape, generator=gen) < level, random_ids, target)
    weight = torch.where(target == PAD, args.pad_weight, 1.0)
    temperature = T_MIN + (T_MAX - T_MIN) * torch.rand(args.batch, 1, 1, generator=gen)
    return [t.to(args.device) for t in (prompt, noisy, target, weight, temperature)]


def train(args):
    torch.manual_seed(args.seed)
    rng, gen = random.Random(args.seed), torch.Generator().manual_seed(args.seed)
    tok, rows = make_tokenizer(), held_out_set()
    quick = [r for i, r in enumerate(rows) if i % 3 == 0]
    if args.resume:
        model = DiffusionGemmaForBlockDiffusion.from_pretrained(args.resume, attn_implementation="eager")
        for name, p in model.named_parameters():
            p.requires_grad_("vision" not in name)
    else:
        model = make_model(args)
    print(f"differs from the reference forward pass by {check(model, tok):.1e}")
    model.to(args.device)
    params = [p for p in model.parameters() if p.requires_grad]
    print(f"{sum(p.numel() for p in params)} parameters", flush=True)
    optimizer = torch.optim.AdamW([{"params": [p for p in params if p.ndim >= 2], "weight_decay": args.weight_decay},
                                   {"params": [p for p in params if p.ndim < 2], "weight_decay": 0.0}],
                                  lr=args.lr, betas=(0.9, 0.98), fused=True)
    average = [p.detach().clone() for p in params]          # what is evaluated and saved

    def swap():
        for p, a in zip(params, average):
            p.data, a.data = a.data, p.data

    start, last_save, losses = time.time(), time.time(), []
    for step in range(1, args.steps + 1):
        # cosine over the steps; with --minutes, over the time used so far, so that the run ends when it should
        done = (time.time() - start) / (60 * args.minutes) if args.minutes else (step - 1) / args.steps
        if done >= 1:
            break
        lr = args.lr * min(1, step / args.warmup) * (0.5 + 0.5 * math.cos(math.pi * done))
        for group in optimizer.param_groups:
            group["lr"] = lr
        conditioned = rng.random() < 0.5
        loss = loss_fn(model, *batch(rng, tok, args, gen), conditioned)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(params, 1.0)
        optimizer.step()
        optimizer.zero_grad()
        torch._foreach_lerp_(average, [p.data for p in params], 1 - min(args.ema, (step + 1) / (step + 10)))
        losses.append(loss.item())
        if step % args.log_every == 0:
            mean, losses = sum(losses) / len(losses), []
            print(f"step {step} loss {mean:.4f} lr {lr:.2e} {(time.time() - start) / step:.3f} s/step "
                  f"{(time.time() - start) / 60:.1f} min", flush=True)
        if step % args.eval_every == 0:
            swap()
            scores, wrong = accuracy(model, tok, quick)
            print("eval", " ".join(f"{t} {v:.0%}" for t, v in scores.items()), wrong[::max(1, len(wrong) // 6)][:6], flush=True)
            if args.latest and time.time() - last_save > 300:
                save(model, tok, args.latest)
                last_save = time.time()
            swap()
    swap()
    save(model, tok, args.out)
    print(f"{step} steps, {(time.time() - start) / 60:.1f} minutes, saved to {args.out}", flush=True)
    evaluate(model, tok, rows)


def evaluate(model, tok, rows):
    scores, wrong = accuracy(model, tok, rows)
    for prompt, answer, got in wrong:
        print(f"  {prompt}  expected {answer!r}, got {got!r}")
    print("held-out exact match:", ", ".join(f"{t} {v:.1%}" for t, v in scores.items()), flush=True)


def main():
    a = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    a.add_argument("--out", required=True, help="checkpoint folder to write (or, with --eval-only, to read)")
    a.add_argument("--latest", help="folder for the running average's checkpoint, rewritten every few minutes")
    a.add_argument("--resume", help="checkpoint folder to start from")
    a.add_argument("--eval-only", action="store_true")
    a.add_argument("--heldout", help="write the held-out set as JSON lines to this file and stop")
    a.add_argument("--calibration", help="write the calibration set as JSON lines to this file and stop")
    a.add_argument("--device", default="cpu")
    a.add_argument("--threads", type=int, default=1)
    a.add_argument("--seed", type=int, default=1)
    a.add_argument("--hidden", type=int, default=64)
    a.add_argument("--steps", type=int, default=6400)
    a.add_argument("--minutes", type=float, default=0, help="decay the learning rate over this time instead of --steps")
    a.add_argument("--batch", type=int, default=64)
    a.add_argument("--prompt-length", type=int, default=30, help="longer exercises are not trained on")
    a.add_argument("--lr", type=float, default=2e-3)
    a.add_argument("--warmup", type=int, default=100)
    a.add_argument("--weight-decay", type=float, default=0.01)
    a.add_argument("--ema", type=float, default=0.998)
    a.add_argument("--pad-weight", type=float, default=0.1)
    a.add_argument("--pure-noise", type=float, default=0.3, help="share of the samples whose canvas is all noise")
    a.add_argument("--mix", type=float, nargs=6, default=[0.22, 0.15, 0.10, 0.22, 0.06, 0.25],
                   help=f"shares of {', '.join(TASKS)}")
    a.add_argument("--log-every", type=int, default=50)
    a.add_argument("--eval-every", type=int, default=500)
    args = a.parse_args()
    torch.set_num_threads(args.threads)
    reference.DiffusionGemmaTextExperts.forward = sorted_experts
    if args.heldout:
        Path(args.heldout).write_text("".join(json.dumps(r) + "\n" for r in held_out_set()))
    elif args.calibration:
        Path(args.calibration).write_text("".join(json.dumps(r) + "\n" for r in calibration_set()))
    elif args.eval_only:
        model = DiffusionGemmaForBlockDiffusion.from_pretrained(args.out, attn_implementation="eager")
        evaluate(model.to(args.device), Tokenizer.from_file(str(Path(args.out) / "tokenizer.json")), held_out_set())
    else:
        train(args)


if __name__ == "__main__":
    main()

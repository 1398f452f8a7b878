"""One step of a Llama block in torch, LWC and, with activation bits below 16, LET, for bench/train-step.js: fake-quantize every weight, forward, MSE, backward, AdamW.
Answers each line on stdin with the seconds a step took. Arithmetic as in the reference implementation (quantizer.py, omniquant.py)."""
import sys, time, torch

hidden, ffn, tokens, steps, bits, group, abits, threads = map(int, sys.argv[1:])
let = abits < 16
torch.set_num_threads(threads)
torch.manual_seed(0)
width = 64 if hidden >= 512 else 32
heads = hidden // width
shapes = dict(q=(hidden, hidden), k=(hidden, hidden), v=(hidden, hidden), o=(hidden, hidden), gate=(ffn, hidden), up=(ffn, hidden), down=(hidden, ffn))
weights = {name: torch.randn(shape) / shape[1] ** 0.5 for name, shape in shapes.items()}
clip = {name: [torch.full((w.numel() // (group or w.shape[1]), 1), 4.0, requires_grad=True) for _ in range(2)] for name, w in weights.items()}
scales = {name: torch.ones(hidden, requires_grad=let) for name in ("norm1", "norm2", "value", "query_key")}
groups = [{"params": [p for pair in clip.values() for p in pair], "lr": 1e-2}]
optimizer = torch.optim.AdamW(groups + [{"params": list(scales.values()), "lr": 5e-3}] * let, weight_decay=0)
frequencies = 1 / 10000 ** (torch.arange(0, width, 2).float() / width)
angles = torch.outer(torch.arange(tokens).float(), frequencies).repeat(1, 2)
cos, sin = angles.cos(), angles.sin()
mask = torch.full((tokens, tokens), float("-inf")).triu(1)
x, y = torch.rand(1, tokens, hidden) * 2 - 1, torch.rand(1, tokens, hidden) * 2 - 1


def round_ste(t):
    return (t.round() - t).detach() + t


def transformed(name):
    w = weights[name]
    if not let:
        return w
    if name in "qkv":
        w = w * scales["norm1"]
    if name in ("gate", "up"):
        w = w * scales["norm2"]
    if name == "v":
        w = w / scales["value"][:, None]
    if name == "o":
        w = w * scales["value"]
    if name == "q":
        w = w / scales["query_key"][:, None]
    if name == "k":
        w = w * scales["query_key"][:, None]
    return w


def activation(t):
    if not let:
        return t
    upper, lower = t.amax(-1, keepdim=True), t.amin(-1, keepdim=True)
    scale = ((upper - lower) / (2**abits - 1)).clamp(1e-5, 1e4)
    zero = (-lower / scale).clamp(-1e4, 1e4).round()
    return ((round_ste(t / scale) + zero).clamp(0, 2**abits - 1) - zero) * scale


def quantized(name):
    w = transformed(name)
    grouped = w.reshape(-1, group) if group else w
    upper = torch.sigmoid(clip[name][0]) * grouped.amax(-1, keepdim=True)
    lower = torch.sigmoid(clip[name][1]) * grouped.amin(-1, keepdim=True)
    scale = ((upper - lower) / (2**bits - 1)).clamp(1e-5, 1e4)
    zero = (-lower / scale).clamp(-1e4, 1e4).round()
    codes = (round_ste(grouped / scale) + zero).clamp(0, 2**bits - 1)
    return ((codes - zero) * scale).reshape(w.shape)


def norm(t, name):
    t = t * torch.rsqrt(t.pow(2).mean(-1, keepdim=True) + 1e-5)
    return t / scales[name] if let else t


def rotary(t):
    a, b = t.chunk(2, -1)
    return t * cos + torch.cat([-b, a], -1) * sin


def block(t):
    linear = lambda s, name: torch.nn.functional.linear(activation(s), quantized(name))
    split = lambda s: s.view(1, tokens, heads, width).transpose(1, 2)
    h = norm(t, "norm1")
    q, k, v = (split(linear(h, name)) for name in "qkv")
    q, k, v = activation(rotary(q)), activation(rotary(k)), activation(v)
    scores = q @ k.transpose(2, 3) / width**0.5 + mask
    t = t + linear((scores.softmax(-1) @ v).transpose(1, 2).reshape(1, tokens, hidden), "o")
    h = norm(t, "norm2")
    return t + linear(torch.nn.functional.silu(linear(h, "gate")) * linear(h, "up"), "down")


for _ in sys.stdin:
    started = time.perf_counter()
    for _ in range(steps):
        loss = torch.nn.functional.mse_loss(block(x), y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    print((time.perf_counter() - started) / steps, flush=True)

"""One LWC step of a Llama block in torch, for bench/train-step.js: fake-quantize every weight, forward, MSE, backward, AdamW.
Answers each line on stdin with the seconds a step took. Arithmetic as in the reference implementation (quantizer.py, omniquant.py)."""
import sys, time, torch

hidden, ffn, tokens, steps, bits, group, threads = map(int, sys.argv[1:])
torch.set_num_threads(threads)
torch.manual_seed(0)
width = 64 if hidden >= 512 else 32
heads = hidden // width
shapes = dict(q=(hidden, hidden), k=(hidden, hidden), v=(hidden, hidden), o=(hidden, hidden), gate=(ffn, hidden), up=(ffn, hidden), down=(hidden, ffn))
weights = {name: torch.randn(shape) / shape[1] ** 0.5 for name, shape in shapes.items()}
clip = {name: [torch.full((w.numel() // (group or w.shape[1]), 1), 4.0, requires_grad=True) for _ in range(2)] for name, w in weights.items()}
optimizer = torch.optim.AdamW([p for pair in clip.values() for p in pair], lr=1e-2, weight_decay=0)
frequencies = 1 / 10000 ** (torch.arange(0, width, 2).float() / width)
angles = torch.outer(torch.arange(tokens).float(), frequencies).repeat(1, 2)
cos, sin = angles.cos(), angles.sin()
mask = torch.full((tokens, tokens), float("-inf")).triu(1)
x, y = torch.rand(1, tokens, hidden) * 2 - 1, torch.rand(1, tokens, hidden) * 2 - 1


def round_ste(t):
    return (t.round() - t).detach() + t


def quantized(name):
    w = weights[name]
    grouped = w.reshape(-1, group) if group else w
    upper = torch.sigmoid(clip[name][0]) * grouped.amax(-1, keepdim=True)
    lower = torch.sigmoid(clip[name][1]) * grouped.amin(-1, keepdim=True)
    scale = ((upper - lower) / (2**bits - 1)).clamp(1e-5, 1e4)
    zero = (-lower / scale).clamp(-1e4, 1e4).round()
    codes = (round_ste(grouped / scale) + zero).clamp(0, 2**bits - 1)
    return ((codes - zero) * scale).reshape(w.shape)


def norm(t):
    return t * torch.rsqrt(t.pow(2).mean(-1, keepdim=True) + 1e-5)


def rotary(t):
    a, b = t.chunk(2, -1)
    return t * cos + torch.cat([-b, a], -1) * sin


def block(t):
    linear = lambda s, name: torch.nn.functional.linear(s, quantized(name))
    split = lambda s: s.view(1, tokens, heads, width).transpose(1, 2)
    h = norm(t)
    q, k, v = (split(linear(h, name)) for name in "qkv")
    scores = rotary(q) @ rotary(k).transpose(2, 3) / width**0.5 + mask
    t = t + linear((scores.softmax(-1) @ v).transpose(1, 2).reshape(1, tokens, hidden), "o")
    h = norm(t)
    return t + linear(torch.nn.functional.silu(linear(h, "gate")) * linear(h, "up"), "down")


for _ in sys.stdin:
    started = time.perf_counter()
    for _ in range(steps):
        loss = torch.nn.functional.mse_loss(block(x), y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    print((time.perf_counter() - started) / steps, flush=True)

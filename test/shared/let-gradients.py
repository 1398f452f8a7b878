"""Gradients of the first step of LET + LWC at W4A4, for let-gradients.json: the arithmetic of the reference implementation of OmniQuant
written down again in float64 (torch 2.14 or newer: clamp has no gradient at its bounds). Development only; the tests read the JSON.

    python test/shared/let-gradients.py ../shared > test/shared/let-gradients.json

In float32 the same script reproduces all ten golden losses to 2e-7. In float64 it leaves them at the third step (5e-3): rounding to 4
bits makes the path chaotic, which is why gradients, not later losses, are what can be compared closely.
"""
import json, sys
import numpy as np, onnx, torch
from onnx import numpy_helper

SHARED, DTYPE, TOKENS = sys.argv[1], torch.float64, 256

def summary(gradient):
    flat = gradient.flatten()
    direction = torch.cos(torch.arange(len(flat), dtype=DTYPE))
    return {"norm": flat.norm().item(), "along": (flat @ direction).item()}

def first_gradients(name):
    folder = f"{SHARED}/models/{name}/optimum-nopast/"
    model, config = onnx.load(folder + "model.onnx"), json.load(open(folder + "config.json"))
    stored = {i.name: numpy_helper.to_array(i) for i in model.graph.initializer}
    alias = {n.output[0]: n.input[0] for n in model.graph.node if n.op_type == "Identity"}
    vector = lambda key: torch.tensor(stored[alias.get(key, key)]).to(DTYPE)
    weights = {n.name.split("/")[-2]: vector(n.input[1]).T.contiguous() for n in model.graph.node
               if n.op_type == "MatMul" and "layers.0/" in n.name and n.input[1] in stored}
    embedding, ids = vector("model.embed_tokens.weight"), torch.tensor(np.load(f"{SHARED}/golden/calib_ids.npy"))
    heads, hidden, epsilon = config["num_attention_heads"], config["hidden_size"], config["rms_norm_eps"]
    width = hidden // heads
    gains = [vector(f"model.layers.0.{key}_layernorm.weight") for key in ("input", "post_attention")]
    frequency = 1 / config.get("rope_theta", 10000.0) ** (torch.arange(0, width, 2).float() / width)
    angle = torch.outer(torch.arange(TOKENS).float(), frequency).repeat(1, 2)
    cos, sin = angle.cos().to(DTYPE), angle.sin().to(DTYPE)
    mask = torch.full((TOKENS, TOKENS), float("-inf"), dtype=DTYPE).triu(1)
    rotary = lambda x: x * cos + torch.cat([-x[..., width // 2:], x[..., :width // 2]], -1) * sin
    norm = lambda x, gain: x * torch.rsqrt((x * x).mean(-1, keepdim=True) + epsilon) * gain

    def fake_quantize(x, logits=None):
        low, high = x.amin(-1, keepdim=True), x.amax(-1, keepdim=True)
        if logits:
            high, low = torch.sigmoid(logits[0]) * high, torch.sigmoid(logits[1]) * low
        scale = ((high - low) / 15).clamp(1e-5, 1e4)
        zero = (-low / scale).round()
        steps = x / scale
        return (((steps.round() - steps).detach() + steps + zero).clamp(0, 15) - zero) * scale

    def block(x, w, gain, quantize=lambda x: x, seen=None):
        def linear(h, key):
            if seen is not None:
                most = h.abs().amax(0)
                seen[key] = torch.maximum(seen[key], most) if key in seen else most
            return quantize(h) @ w[key].T
        split = lambda h: h.view(TOKENS, heads, width).transpose(0, 1)
        h = norm(x, gain[0])
        q, k, v = (split(linear(h, key)) for key in ("q_proj", "k_proj", "v_proj"))
        q, k, v = quantize(rotary(q)), quantize(rotary(k)), quantize(v)
        mixed = torch.softmax(q @ k.transpose(1, 2) / width**0.5 + mask, -1) @ v
        x = x + linear(mixed.transpose(0, 1).reshape(TOKENS, hidden), "o_proj")
        h = norm(x, gain[1])
        return x + linear(torch.nn.functional.silu(linear(h, "gate_proj")) * linear(h, "up_proj"), "down_proj")

    seen = {}
    with torch.no_grad():
        target = [block(embedding[i], weights, gains, seen=seen) for i in ids][0]
    start = lambda key: (seen[key].clamp(min=1e-5) / weights[key].abs().amax(0).clamp(min=1e-5)).sqrt().requires_grad_()
    scales = {"norm1": start("q_proj"), "query-key": torch.ones(hidden, dtype=DTYPE, requires_grad=True),
              "value": start("o_proj"), "norm2": start("up_proj")}
    clips = {key: [torch.full((len(w), 1), 4.0, dtype=DTYPE, requires_grad=True) for _ in "ab"] for key, w in weights.items()}
    w = dict(weights)
    for key in ("q_proj", "k_proj", "v_proj"): w[key] = w[key] * scales["norm1"]
    for key in ("gate_proj", "up_proj"): w[key] = w[key] * scales["norm2"]
    w["v_proj"], w["o_proj"] = w["v_proj"] / scales["value"][:, None], w["o_proj"] * scales["value"]
    w["q_proj"], w["k_proj"] = w["q_proj"] / scales["query-key"][:, None], w["k_proj"] * scales["query-key"][:, None]
    quantized = {key: fake_quantize(value, clips[key]) for key, value in w.items()}
    output = block(embedding[ids[0]], quantized, [gains[0] / scales["norm1"], gains[1] / scales["norm2"]], fake_quantize)
    ((output - target) ** 2).mean().backward()
    result = {key: summary(value.grad) for key, value in scales.items()}
    for key, (high, low) in clips.items():
        result |= {f"{key}:max": summary(high.grad), f"{key}:min": summary(low.grad)}
    return result

print(json.dumps({name: first_gradients(name) for name in ("wiki-llama-mha", "wiki-llama-outlier-mha")}, indent=1))

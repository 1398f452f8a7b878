"""Other weight-only quantizers on a Hugging Face checkpoint, with the same tokens: perplexity, seconds and processor seconds.

usage: python peers.py CHECKPOINT CALIB.npy EVAL.npy ROW [ROW ...]

ROW         METHOD:BITS:GROUP or METHOD:BITS:GROUP:ITERATIONS, such as gptq:2:64, or float
METHOD      gptq, awq, awq-mse, autoround-light, autoround-best, autoround-best-ext, autoround-best-neuqi or block-ap
GROUP       input channels that share a scale; 0 is one scale per output channel
ITERATIONS  steps per block of autoround-*, epochs of block-ap, instead of the recipe's own

The checkpoint has the layers of Llama (model.layers). Calibration tokens are [samples, length]; evaluation tokens are cut into windows of that length. Only the linears of the blocks are quantized, asymmetric; the rest stays float32.
Perplexity is exp of the mean loss over all predicted tokens of the windows, with the dequantized weights in float32.
Set OMP_NUM_THREADS=1 to compare processor seconds.

Written with Python 3.11, torch 2.13.0, transformers 5.17.0, llmcompressor 0.14.0.1, compressed-tensors 0.20.0, auto-round 0.16.1. An environment for it:
    pip install torch==2.13.0 transformers==5.17.0 llmcompressor==0.14.0.1 compressed-tensors==0.20.0 auto-round==0.16.1
"""

import importlib
import sys
import time

import numpy as np
import torch

LLM_COMPRESSOR = {
    "gptq": dict(observer="memoryless_minmax", gptq=True),
    "awq": dict(observer="memoryless_minmax", gptq=False),
    "awq-mse": dict(observer="memoryless_mse", gptq=False),
}
# Recipes of its command line, with the samples of CALIB where "best" asks for 512. -ext adds the extension that its README advises for 2 bits, -neuqi the searched start (arXiv 2505.17595).
AUTO_ROUND = {
    "autoround-light": dict(iters=50, lr=5e-3),
    "autoround-best": dict(iters=1000),
    "autoround-best-ext": dict(iters=1000, enable_alg_ext=True),
    "autoround-best-neuqi": dict(iters=1000, enable_neuqi=True),
}

PACKAGES = dict.fromkeys(LLM_COMPRESSOR, ("datasets", "llmcompressor")) | dict.fromkeys(AUTO_ROUND, ("auto_round",))


def load(checkpoint):
    from transformers import AutoModelForCausalLM

    return AutoModelForCausalLM.from_pretrained(checkpoint, dtype=torch.float32).eval()


def block_linears(model):
    return {name: module for name, module in model.model.layers.named_modules() if isinstance(module, torch.nn.Linear)}


@torch.no_grad()
def perplexity(model, tokens, length, batch=8):
    """exp of the mean negative log-likelihood of positions 1 to length - 1 of each full window."""
    windows = tokens[: tokens.size // length * length].reshape(-1, length)
    total = 0.0
    for first in range(0, len(windows), batch):
        ids = torch.from_numpy(windows[first : first + batch]).long()
        logits = model(ids, use_cache=False).logits.float()
        total += torch.nn.functional.cross_entropy(logits[:, :-1].flatten(0, 1), ids[:, 1:].flatten(), reduction="sum").item()
    return float(np.exp(total / (len(windows) * (length - 1)))), len(windows)


def llm_compressor(model, calibration, method, bits, group):
    from compressed_tensors.quantization.lifecycle.forward import fake_quantize
    from datasets import Dataset
    from llmcompressor import oneshot
    from llmcompressor.modifiers.gptq import GPTQModifier
    from llmcompressor.modifiers.quantization import QuantizationModifier
    from llmcompressor.modifiers.transform.awq import AWQModifier
    from llmcompressor.pipelines.cache import IntermediatesCache

    if not torch.accelerator.is_available():
        # Pinned memory needs an accelerator, and 0.14 asks for it without one.
        IntermediatesCache.pin_memory = lambda *_, **__: None
    choice = LLM_COMPRESSOR[method]
    weights = dict(num_bits=bits, type="int", symmetric=False, observer=choice["observer"])
    weights |= dict(strategy="group", group_size=group) if group else dict(strategy="channel")
    scheme = dict(config_groups=dict(all=dict(targets=["Linear"], weights=weights)), ignore=["lm_head"])
    if choice["gptq"]:
        recipe = [GPTQModifier(actorder="static", dampening_frac=0.01, **scheme)]
    else:
        recipe = [AWQModifier(duo_scaling="both"), QuantizationModifier(**scheme)]
    samples = Dataset.from_dict(dict(input_ids=calibration.tolist(), attention_mask=np.ones_like(calibration).tolist()))
    oneshot(
        model=model,
        dataset=samples,
        recipe=recipe,
        max_seq_length=calibration.shape[1],
        num_calibration_samples=len(calibration),
        shuffle_calibration_samples=False,
    )
    with torch.no_grad():
        for module in block_linears(model).values():
            zero = module.weight_zero_point
            module.weight.copy_(fake_quantize(module.weight, module.weight_scale, zero, module.quantization_scheme.weights))
    return model


def auto_round(model, checkpoint, calibration, method, bits, group, iterations):
    from auto_round import AutoRound
    from transformers import AutoTokenizer

    recipe = dict(AUTO_ROUND[method])
    if iterations:
        recipe["iters"] = iterations
    quantizer = AutoRound(
        model,
        AutoTokenizer.from_pretrained(checkpoint),
        bits=bits,
        group_size=group or -1,
        sym=False,
        dataset=torch.utils.data.DataLoader(torch.from_numpy(calibration).long(), batch_size=8),
        seqlen=calibration.shape[1],
        nsamples=len(calibration),
        batch_size=8,
        device_map="cpu",
        amp=False,
        enable_torch_compile=False,
        **recipe,
    )
    quantized, _ = quantizer.quantize()
    return quantized


class Trained(torch.nn.Module):
    """A linear whose weight, scales and zero points are trained behind rounding, gradients passing straight through it (EfficientQAT's block phase, arXiv 2407.11062, section 3.2)."""

    def __init__(self, linear, bits, group):
        super().__init__()
        self.shape, self.top = linear.weight.shape, 2**bits - 1
        rows = linear.weight.detach().reshape(-1, group or self.shape[1])
        low, high = rows.amin(1, keepdim=True), rows.amax(1, keepdim=True)
        scale = ((high - low) / self.top).clamp(min=1e-4)
        self.weight = torch.nn.Parameter(rows.clone())
        self.grid = torch.nn.ParameterList([scale, (-low / scale).round()])
        self.bias = linear.bias

    def dequantized(self):
        straight = lambda t: t + (t.round() - t).detach()
        scale, zero = self.grid
        zero = straight(zero).clamp(0, self.top)
        codes = (straight(self.weight / scale) + zero).clamp(0, self.top)
        return ((codes - zero) * scale).reshape(self.shape)

    def forward(self, x):
        return torch.nn.functional.linear(x, self.dequantized(), self.bias)


def block_ap(model, calibration, bits, group, epochs):
    """Block after block: AdamW on weights, scales and zero points against the float stream's outputs, rates falling by a cosine to a twentieth. Batches of 2, norm of the gradient at most 0.3, as the authors have it. Written here from the paper: its code needs a GPU, and no package is on PyPI."""
    epochs = epochs or 2
    captured = []

    class Stop(Exception):
        pass

    def catch(module, args, kwargs):
        captured.append((args[0] if args else kwargs.pop("hidden_states"), kwargs))
        raise Stop

    hook = model.model.layers[0].register_forward_pre_hook(catch, with_kwargs=True)
    batches = torch.from_numpy(calibration).long().split(2)
    with torch.no_grad():
        for ids in batches:
            try:
                model(ids, use_cache=False)
            except Stop:
                pass
    hook.remove()
    others = captured[0][1]
    stream = lambda block, states: [block(x, **others) for x in states]
    floats = [x for x, _ in captured]
    quantized = list(floats)
    order = torch.Generator().manual_seed(2)
    for index, block in enumerate(model.model.layers):
        with torch.no_grad():
            floats = stream(block, floats)
        block.requires_grad_(False)
        trained = {}
        for name, linear in list(block.named_modules()):
            if isinstance(linear, torch.nn.Linear):
                trained[name] = Trained(linear, bits, group)
                block.set_submodule(name, trained[name])
        rates = [
            dict(params=[t.weight for t in trained.values()], lr=2e-5 if bits == 2 else 1e-5),
            dict(params=[p for t in trained.values() for p in t.grid], lr=1e-4),
        ]
        optimizer = torch.optim.AdamW(rates, weight_decay=0)
        parameters = [p for row in rates for p in row["params"]]
        steps = epochs * len(batches)
        cosine = lambda step: 0.05 + 0.475 * (1 + np.cos(np.pi * step / steps))
        schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, cosine)
        for _ in range(epochs):
            for i in torch.randperm(len(batches), generator=order).tolist():
                loss = torch.nn.functional.mse_loss(block(quantized[i], **others), floats[i])
                optimizer.zero_grad()
                loss.backward()
                torch.nn.utils.clip_grad_norm_(parameters, 0.3)
                optimizer.step()
                schedule.step()
        print(f"block {index}: loss {loss.item():.3e}", file=sys.stderr)
        with torch.no_grad():
            quantized = stream(block, quantized)
            for name, layer in trained.items():
                linear = torch.nn.Linear(layer.shape[1], layer.shape[0], bias=layer.bias is not None)
                linear.weight.copy_(layer.dequantized())
                linear.bias = layer.bias
                block.set_submodule(name, linear)
    return model


def quantize(checkpoint, calibration, method, bits, group, iterations):
    model = load(checkpoint)
    if method == "float":
        return model
    if method in LLM_COMPRESSOR:
        return llm_compressor(model, calibration, method, bits, group)
    if method in AUTO_ROUND:
        return auto_round(model, checkpoint, calibration, method, bits, group, iterations)
    return block_ap(model, calibration, bits, group, iterations)


def check_levels(model, bits, group):
    """Check that no group of a quantized weight has more than 2^bits values (to 1e-3 of a step)."""
    for name, linear in block_linears(model).items():
        rows = linear.weight.detach().reshape(-1, group or linear.weight.shape[1]).double().sort(1).values
        gaps = rows.diff(dim=1)
        step = (rows[:, -1:] - rows[:, :1]) / (2**bits - 1)
        counted = 1 + (gaps > 1e-3 * step).sum(1).max().item()
        if counted > 2**bits:
            sys.exit(f"{name}: {counted} values in a group, {2**bits} expected")


def parse(row):
    """Method, bits, group and iterations of a ROW, after a check."""
    method, *numbers = row.split(":")
    known = {"float": 0, "block-ap": 2, **dict.fromkeys([*LLM_COMPRESSOR, *AUTO_ROUND], 2)}
    few = known.get(method)
    if few is None or len(numbers) not in (few, few + (method in AUTO_ROUND or method == "block-ap")) or not all(n.isdigit() for n in numbers):
        sys.exit(f"no row {row}\n{__doc__}")
    bits, group, iterations, *_ = [*map(int, numbers), None, None, None]
    return method, bits, group, iterations


def main():
    if len(sys.argv) < 5 or "--help" in sys.argv:
        sys.exit(__doc__)
    checkpoint, calib, evaluation, *rows = sys.argv[1:]
    calibration, tokens = np.load(calib), np.load(evaluation).ravel()
    for method, bits, group, iterations in [parse(row) for row in rows]:
        for package in PACKAGES.get(method, ()):
            importlib.import_module(package)
        torch.manual_seed(0)
        wall, processor = time.perf_counter(), time.process_time()
        quantized = quantize(checkpoint, calibration, method, bits, group, iterations)
        wall, processor = time.perf_counter() - wall, time.process_time() - processor
        model = load(checkpoint)
        if method != "float":
            state = quantized.state_dict()
            model.load_state_dict({name: state[name].float() for name in model.state_dict()})
            check_levels(model, bits, group)
        value, windows = perplexity(model, tokens, calibration.shape[1])
        row = ":".join(str(part) for part in (method, bits, group, iterations) if part is not None)
        print(f"{row} perplexity {value:.3f} over {windows} windows, {wall:.1f} s, {processor:.1f} processor s", flush=True)


if __name__ == "__main__":
    main()

"""onnxruntime for Python: python onnxruntime_client.py OUT (needs onnxruntime, numpy)."""

import os
import sys

import numpy as np
import onnxruntime as ort

from compare import compare, references


def empty(port, head_size):
    # The files of genai leave the last dimension open.
    sizes = [1, 0, 0, head_size]
    dims = [size if axis > 0 and isinstance(size, int) else sizes[axis] for axis, size in enumerate(port.shape)]
    return np.zeros(dims, np.float16 if "float16" in port.type else np.float32)


def greedy(session, prompt, count, head_size):
    names = [port.name for port in session.get_inputs()]
    outputs = [port.name for port in session.get_outputs()]
    ports = [port for port in session.get_inputs() if port.name.startswith("past_key_values")]
    cache = {port.name: empty(port, head_size) for port in ports}
    tokens, past, first, fed = [], 0, None, prompt
    while len(tokens) < count:
        feeds = {
            "input_ids": np.array([fed], np.int64),
            "attention_mask": np.ones((1, past + len(fed)), np.int64),
            "position_ids": np.arange(past, past + len(fed), dtype=np.int64)[None],
        }
        feeds = {name: value for name, value in feeds.items() if name in names}
        values = dict(zip(outputs, session.run(None, {**feeds, **cache})))
        row = values["logits"][0, -1].astype(np.float32)
        first = row if first is None else first
        past += len(fed)
        fed = [int(row.argmax())]
        tokens += fed
        cache = {name: values[name.replace("past_key_values", "present")] for name in cache}
    return tokens, first


print(f"onnxruntime {ort.__version__}, Python {sys.version.split()[0]}")
results = []
for kind in (None, "genai"):
    for name, folder, reference in references(sys.argv[1], kind):
        session = ort.InferenceSession(os.path.join(folder, reference["model"]), providers=["CPUExecutionProvider"])
        tokens, logits = greedy(session, reference["prompt"], len(reference["tokens"]), reference["headSize"])
        results.append(compare(name, reference, tokens, logits.tolist()))
sys.exit(0 if results and all(results) else 1)

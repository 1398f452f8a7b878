"""onnxruntime-genai: python genai_client.py OUT (needs onnxruntime-genai, numpy)."""

import sys

import numpy as np
import onnxruntime_genai as og

from compare import compare, references

print(f"onnxruntime-genai {og.__version__}, Python {sys.version.split()[0]}")
results = []
for name, folder, reference in references(sys.argv[1], "genai"):
    model = og.Model(folder)
    prompt = reference["prompt"]
    params = og.GeneratorParams(model)
    count = len(reference["tokens"])
    params.set_search_options(do_sample=False, max_length=len(prompt) + count)
    generator = og.Generator(model, params)
    generator.append_tokens(np.array([prompt], np.int32))
    logits = np.asarray(generator.get_output("logits"), np.float32)[0, -1]
    while not generator.is_done():
        generator.generate_next_token()
    tokens = list(generator.get_sequence(0))[len(prompt) :]
    results.append(compare(name, reference, tokens, logits.tolist()))
sys.exit(0 if results and all(results) else 1)

"""Comparison of a client's result with reference.json; the rules of greedy.js."""

import json
import os

TOLERANCE = 0.01


def references(out, prefix=None):
    """Folders that prepare.js made, each with its reference. Those of genai have names that begin so."""
    for name in sorted(os.listdir(out)):
        path = os.path.join(out, name, "reference.json")
        if not os.path.exists(path) or name.startswith("genai") != (prefix == "genai"):
            continue
        with open(path) as file:
            yield name, os.path.join(out, name), json.load(file)


def compare(name, reference, tokens, logits):
    """Prints a line. Returns True where they agree."""
    expected = reference["logits"]
    scale = max(expected) - min(expected)
    difference = max(abs(a - b) for a, b in zip(expected, logits))
    tokens = [int(token) for token in tokens]
    same = next((i for i, token in enumerate(tokens) if token != reference["tokens"][i]), len(tokens))
    ended = same == len(tokens)
    tie = not ended and same > 0 and reference["margins"][same] < 2 * difference
    agrees = len(tokens) > 0 and (ended or tie) and difference <= TOLERANCE * scale
    equal = f"{same} tokens equal" if ended else f"{same} of {len(tokens)} tokens equal"
    after = f", then a tie (margin {reference['margins'][same]:.4f})" if tie else ""
    mark = "ok  " if agrees else "FAIL"
    print(f"{mark} {equal}{after}, logits differ by {difference / scale:.1e} of their range: {name}")
    return agrees

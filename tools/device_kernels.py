"""
Prints the table of onnxruntime's kernels that test/quant/learn/device-kernels.json keeps: for each operator of our programs, at their
opset, the types that each provider has a kernel for.

    python tools/device_kernels.py dump > PROVIDERS.json             # in the environment of an onnxruntime, with its providers
    python tools/device_kernels.py table PROVIDERS.json ... > test/quant/learn/device-kernels.json

`dump` reads the kernel registries themselves, as onnxruntime's own tools/python/gen_opkernel_doc.py does to write docs/OperatorKernels.md.
docs/gpu-programs.md says which environments the table was made in. Nothing of this runs in the product, its tests or CI.
"""

import importlib.metadata
import json
import sys

OPSET = 21

# What blocks are rewritten to (src/graph/shape-rules), and what gradients, quantizers and optimizers write.
OPERATORS = """
Abs Add And ArgMax ArgMin Cast Ceil Clip Concat ConstantOfShape Cos CumSum Div Einsum Equal Erf Exp Expand Flatten Floor Gather
GatherElements GatherND Gemm Greater GreaterOrEqual Identity IsInf IsNaN LayerNormalization Less LessOrEqual Log LogSoftmax Loop MatMul
Max Mean Min Mod Mul Neg Not OneHot Or Pad Pow Range Reciprocal ReduceL1 ReduceL2 ReduceMax ReduceMean ReduceMin ReduceProd ReduceSum
ReduceSumSquare Relu Reshape Round ScatterElements ScatterND Shape Sigmoid Sign Sin Size Slice Softmax Softplus Split Sqrt Squeeze Sub
Tanh Tile TopK Transpose Trilu Unsqueeze Where Xor com.microsoft.FusedMatMul
""".split()

NAMES = {"float": "float32", "double": "float64"}


def name_of(type_text):
    """tensor(float) -> float32; None for sequences and optionals."""
    if not type_text.startswith("tensor("):
        return None
    inner = type_text[len("tensor(") : -1]
    return NAMES.get(inner, inner)


def key_of(domain, name):
    return f"{domain}.{name}" if domain else name


def dump():
    """Kernels of this environment's providers, and the operators' schemas."""
    import onnxruntime
    from onnxruntime.capi import onnxruntime_pybind11_state as state

    definitions = []
    try:
        import onnxruntime_ep_webgpu as webgpu

        onnxruntime.register_execution_provider_library("WebGPU", webgpu.get_library_path())
        definitions += [("WebGpuExecutionProvider", d) for d in state.get_registered_ep_kernel_defs("WebGpuExecutionProvider")]
    except ImportError:
        definitions += [(d.provider, d) for d in state.get_all_opkernel_def()]
    kernels = {
        json.dumps([provider, key_of(d.domain, d.op_name), *d.version_range, d.type_constraints], sort_keys=True)
        for provider, d in definitions
        if key_of(d.domain, d.op_name) in OPERATORS
    }
    schemas = [
        [key_of(s.domain, s.name), s.since_version, formal(s.inputs), formal(s.outputs), constraints(s)]
        for s in state.get_all_operator_schema()
        if key_of(s.domain, s.name) in OPERATORS
    ]
    packages = [p for p in ("onnxruntime-ep-webgpu", "onnxruntime-gpu", "onnxruntime") if version(p)]
    source = {
        "providers": sorted({provider for provider, _ in definitions}),
        "package": f"{packages[0]} {version(packages[0])}",
        "url": f"https://pypi.org/project/{packages[0]}/{version(packages[0])}/",
        "build": onnxruntime.get_build_info(),
    }
    return {"source": source, "kernels": [json.loads(k) for k in sorted(kernels)], "schemas": schemas}


def version(package):
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def formal(parameters):
    """Name, type and whether it repeats, of each parameter."""
    return [[p.name, p.typeStr, "Variadic" in str(p.option)] for p in parameters]


def constraints(schema):
    return {c.type_param_str: sorted(c.allowed_type_strs) for c in schema.type_constraints}


def matches(start, end, since):
    """KernelRegistry::VerifyKernelDef: a kernel without an end serves the version it starts with and no later one."""
    return start == since or (end < 2**31 - 1 and start <= since <= end)


def table(dumps):
    schemas = {}
    for each in dumps:
        for name, since, inputs, outputs, allowed in each["schemas"]:
            if (since <= OPSET or "." in name) and since >= schemas.get(name, [0])[0]:
                schemas[name] = [since, inputs, outputs, allowed]
    rows = {}
    for name in OPERATORS:
        since, inputs, outputs, allowed = schemas[name]
        row = {"since": since, "inputs": [p[1] for p in inputs], "outputs": [p[1] for p in outputs]}
        if inputs and inputs[-1][2]:
            row["variadic"] = True
        rows[name] = row
        for each in dumps:
            for provider, kernel, start, end, types in each["kernels"]:
                if kernel != name or not matches(start, end, since):
                    continue
                short = {"WebGpuExecutionProvider": "webgpu", "CUDAExecutionProvider": "cuda", "CPUExecutionProvider": "cpu"}.get(provider)
                if short is None:
                    continue
                # A constraint is named like the type or like a parameter.
                parameter_types = {p[0]: p[1] for p in inputs + outputs}
                found = {}
                for key, listed in types.items():
                    kinds = sorted({name_of(t) for t in listed} - {None})
                    type_name = key if key in allowed else parameter_types.get(key, key)
                    found[type_name] = " ".join(kinds)
                row.setdefault(short, []).append(found)
        for short in ("cpu", "cuda", "webgpu"):
            if short in row:
                row[short] = merged(row[short])
    return rows


def merged(kernels):
    """Kernels that differ in one type only, as one, until there are none."""
    for i, kernel in enumerate(kernels):
        for other in kernels[i + 1 :]:
            if kernel.keys() != other.keys():
                continue
            differ = [key for key in kernel if kernel[key] != other[key]]
            if len(differ) > 1:
                continue
            joined = {key: " ".join(sorted({*kernel[key].split(), *other[key].split()})) for key in kernel}
            return merged([each for each in kernels if each is not kernel and each is not other] + [joined])
    return kernels


if __name__ == "__main__":
    if sys.argv[1:] == ["dump"]:
        json.dump(dump(), sys.stdout)
    else:
        dumps = [json.load(open(path)) for path in sys.argv[2:]]
        head = {
            "made": "tools/device_kernels.py from the kernel registries of the onnxruntime packages below",
            "opset": OPSET,
            "sources": [each["source"] for each in dumps],
        }
        lines = [f"  {json.dumps(name)}: {json.dumps(row)}" for name, row in sorted(table(dumps).items())]
        print(json.dumps(head, indent=2)[:-2] + ',\n  "operators": {\n  ' + ",\n  ".join(lines) + "\n  }\n}")

"""onnxruntime's own 4-bit quantizer on a model, as its documentation calls it. Prints seconds of loading, quantizing, saving.

usage: python round_to_nearest.py MODEL OUT BITS BLOCK_SIZE [NODE_TO_EXCLUDE ...]
"""

import sys
import time

import onnx
from onnxruntime.quantization.matmul_nbits_quantizer import MatMulNBitsQuantizer

source, target, bits, block_size, *excluded = sys.argv[1:]
marks = [time.perf_counter()]
model = onnx.load(source)
marks.append(time.perf_counter())
quantizer = MatMulNBitsQuantizer(model, bits=int(bits), block_size=int(block_size), nodes_to_exclude=excluded)
quantizer.process()
marks.append(time.perf_counter())
quantizer.model.save_model_to_file(target, use_external_data_format=True)
marks.append(time.perf_counter())
print(*(round(after - before, 3) for before, after in zip(marks, marks[1:])))

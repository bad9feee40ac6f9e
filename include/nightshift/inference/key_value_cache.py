"""A key-value cache for continuous decoding: one buffer per layer, in which rows may end at any time.

A row's tokens are at the start of its slot, so rows of different lengths share a pass without padding between their tokens,
and the last row moves into the slot of one that has ended: the batch is always dense.
"""

from __future__ import annotations

from typing import Any

import torch
from transformers.cache_utils import Cache, CacheLayerMixin


class KeyValueCache(Cache):
    """A Hugging Face cache for `rows` slots of `width` tokens each.

    The buffers grow to the largest batch and are reused. :meth:`select` sets the slots and tokens of the model's next pass.
    """

    def __init__(self, layers: int) -> None:
        self.first, self.last, self.reach, self.length = 0, 0, 0, 0
        self.index: tuple[torch.Tensor, torch.Tensor] = (torch.empty(0), torch.empty(0))
        super().__init__(layers=[_Layer(self) for _ in range(layers)])

    def shape(self, rows: int, width: int) -> None:
        """Resize the buffers for a batch; their content is lost."""
        for layer in self.layers:
            layer.shape(rows, width)

    def select(self, first: int, starts: torch.Tensor, length: int, reach: int) -> None:
        """Let the next pass write `length` tokens to slots `first`…, at `starts` (B), and attend to `reach` tokens of each."""
        self.first, self.last, self.reach, self.length = first, first + len(starts), reach, length
        places = torch.arange(self.first, self.last, device=starts.device)
        self.index = places[:, None], starts[:, None] + torch.arange(length, device=starts.device)

    def repeat_prefix(self, prefix: KeyValueCache, tokens: int, rows: int) -> None:
        """Copy the first `tokens` tokens of the first slot of `prefix` to each of `rows` slots."""
        for layer, other in zip(self.layers, prefix.layers, strict=True):
            layer.allocate_like(other)
            layer.keys[:rows, :, :tokens] = other.keys[:1, :, :tokens]
            layer.values[:rows, :, :tokens] = other.values[:1, :, :tokens]

    def move(self, sources: list[int], targets: list[int], reach: int) -> None:
        """Copy the first `reach` tokens of the slots `sources` to the slots `targets`."""
        for layer in self.layers:
            layer.keys[targets, :, :reach] = layer.keys[sources, :, :reach]
            layer.values[targets, :, :reach] = layer.values[sources, :, :reach]


class _Layer(CacheLayerMixin):
    """Keys and values of one layer, slots x heads x tokens x size."""

    is_sliding = False

    def __init__(self, rows: KeyValueCache) -> None:
        super().__init__()
        self._rows = rows
        self._shape = (0, 0)
        self._flat: list[torch.Tensor] = []

    def shape(self, rows: int, width: int) -> None:
        self._shape = rows, width
        self.is_initialized = False

    def allocate_like(self, other: _Layer) -> None:
        self.lazy_initialization(other.keys, other.values)

    def lazy_initialization(self, key_states: torch.Tensor, value_states: torch.Tensor) -> None:
        views = []
        for number, states in enumerate((key_states, value_states)):
            _, heads, _, size = states.shape
            shape = self._shape[0], heads, self._shape[1], size
            needed = shape[0] * shape[1] * shape[2] * shape[3]
            if len(self._flat) <= number or self._flat[number].numel() < needed:
                # Zeros instead of uninitialized memory: masked values are multiplied by zero, and must be finite.
                self._flat[number:] = [torch.zeros(needed, dtype=states.dtype, device=states.device)]
            views.append(self._flat[number][:needed].view(shape))
        self.keys, self.values = views
        self.is_initialized = True

    def update(
        self, key_states: torch.Tensor, value_states: torch.Tensor, *_args: Any, **_kwargs: Any
    ) -> tuple[torch.Tensor, torch.Tensor]:
        if not self.is_initialized:
            self.lazy_initialization(key_states, value_states)
        rows = self._rows
        places, at = rows.index
        self.keys[places, :, at] = key_states.transpose(1, 2)
        self.values[places, :, at] = value_states.transpose(1, 2)
        window = slice(rows.first, rows.last), slice(None), slice(0, rows.reach)
        return self.keys[window], self.values[window]

    def get_seq_length(self) -> int:
        return self._rows.reach - self._rows.length

    def get_max_length(self) -> int:
        return -1

    def get_mask_sizes(self, query_length: int) -> tuple[int, int]:
        return self._rows.reach, 0

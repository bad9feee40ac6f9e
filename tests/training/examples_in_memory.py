"""Examples as a training holds them, without files."""

import numpy as np

from nightshift.training.packing import Packed, pack
from nightshift.training.token_files import as_tokens, common_prefix


class InMemory(list):
    """Tokenized examples in place of those that are mapped from files."""

    def __init__(self, examples):
        super().__init__(map(as_tokens, examples))
        self.lengths = np.array(list(map(len, self)), dtype=np.uint32)


def packed_rows(examples, length, prefix=None):
    """Pack tokenized examples, by default behind the prefix that they share."""
    held = InMemory(examples)
    prefix = common_prefix(held).tolist() if prefix is None else prefix
    return Packed(held, pack(held.lengths - np.uint32(len(prefix)), length), prefix, length)

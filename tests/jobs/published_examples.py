"""The examples of a partition on this machine, as a table."""

from pathlib import Path

import pyarrow.compute as pc

from nightshift.data.examples import EXAMPLES, examples_in


def read_examples(partition, manifest, split=None):
    """All of them, or those of one split, in source order."""
    file = Path((partition / manifest.file(EXAMPLES).path).path)
    return examples_in(file, filters=None if split is None else pc.field("split") == split)

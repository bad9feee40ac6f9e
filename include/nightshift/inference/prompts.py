"""The prompts of a night: which rows of a partition they are, read part by part, and as the model's tokens."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from upath import UPath

from nightshift.data.examples import EXAMPLES
from nightshift.errors import BadInput
from nightshift.settings.application import Prompt
from nightshift.storage.partition import Manifest, fetch
from nightshift.training.tokens import rendered

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


class Prompts:
    """The rows of a traffic partition, or those of an examples partition with the split `traffic`, numbered from 0.

    :param folder: for a local copy of the partition's file.
    :raises BadInput: the partition is of another kind, or its file is gone or damaged.
    """

    def __init__(self, partition: UPath, manifest: Manifest, folder: Path) -> None:
        if manifest.kind not in {"examples", "traffic"}:
            raise BadInput(f"{partition} holds {manifest.kind}; prompts are read from examples or traffic")
        self._all = manifest.kind == "traffic"
        self._file = pq.ParquetFile(fetch(partition, manifest, EXAMPLES, folder), pre_buffer=False)
        self._counts = [self._count(group) for group in range(self._file.num_row_groups)]
        self.rows = sum(self._counts)

    def _count(self, group: int) -> int:
        if self._all:
            return int(self._file.metadata.row_group(group).num_rows)
        splits = self._file.read_row_group(group, columns=["split"])["split"]
        return int(pc.sum(pc.equal(splits, "traffic")).as_py() or 0)

    def read(self, first: int, last: int, columns: Sequence[str]) -> pa.Table:
        """Return columns of the rows from `first` to `last`, both included; only their row groups are read."""
        tables, start = [], 0
        for group, count in enumerate(self._counts):
            if start <= last and start + count > first and count:
                table = self._file.read_row_group(group, columns=list({*columns, "split"}))
                table = table if self._all else table.filter(pc.field("split") == "traffic")
                low = max(0, first - start)
                tables.append(table.slice(low, min(count, last + 1 - start) - low))
            start += count
        return pa.concat_tables(tables).select(list(columns))


def tokens_of(
    rows: Iterator[Mapping[str, Any]] | list[dict[str, Any]], tokenizer: PreTrainedTokenizerBase, prompt: Prompt
) -> list[list[int]]:
    """Return the token ids that the model is given for each row (`messages`), up to where its answer starts.

    An answer at the end of a conversation is left out: it is what the model is asked for.

    :raises BadInput: the model has no chat template, or one that refuses a row.
    """
    if not tokenizer.chat_template:
        raise BadInput("the model's tokenizer has no chat template; choose an instruction-tuned model")
    texts = []
    for row in rows:
        turns = row["messages"]
        asked = turns[:-1] if turns[-1]["role"] == "assistant" else turns
        texts.append(rendered(tokenizer, prompt, row, asked))
    return list(tokenizer(texts, add_special_tokens=False)["input_ids"]) if texts else []

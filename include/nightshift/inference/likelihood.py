"""Log-likelihoods of many token sequences under a Hugging Face model; shared prefixes are computed once.

Sequences are packed into a row as a tree: sequences share the tokens of a common prefix, and each token attends only to the
tokens that lead to it. The two sentences of a pair, or the answers to one question, cost little more than one. Rows have no
padding.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch

from nightshift.inference.engine import Continuation, Report

ROW_TOKENS = 384  # of one row, unless a single sequence is longer


@dataclass
class _Row:
    """A tree of tokens: node i holds `tokens[i]` at `depths[i]` below `parents[i]` (-1: a root)."""

    tokens: list[int] = field(default_factory=list)
    parents: list[int] = field(default_factory=list)
    depths: list[int] = field(default_factory=list)
    paths: dict[int, list[int]] = field(default_factory=dict)  # sequence -> its nodes, root first
    last: list[int] = field(default_factory=list)  # nodes of the sequence that was added last

    def shared(self, sequence: Sequence[int]) -> int:
        """The length of the common prefix of `sequence` and the last one."""
        count = 0
        for node, token in zip(self.last, sequence, strict=False):
            if self.tokens[node] != token:
                break
            count += 1
        return count

    def add(self, index: int, sequence: Sequence[int]) -> None:
        path = self.last[: self.shared(sequence)]
        for token in sequence[len(path) :]:
            self.parents.append(path[-1] if path else -1)
            self.depths.append(len(path))
            path.append(len(self.tokens))
            self.tokens.append(token)
        self.paths[index] = self.last = path


@torch.inference_mode()
def log_likelihoods(
    model: Any, sequences: Sequence[Continuation], report: Report = lambda done, of: None
) -> list[float]:
    """Return the summed log-likelihood (nats) of each sequence's tokens from its `start` on, in the order given."""
    found: dict[int, float] = {}
    for row in _rows(sequences):
        report(len(found), len(sequences))
        nodes = sorted({node for index, path in row.paths.items() for node in path[sequences[index].start :]})
        scores = dict(zip(nodes, _scores(model, row, nodes), strict=True))
        for index, path in row.paths.items():
            found[index] = sum(scores[node] for node in path[sequences[index].start :])
    report(len(sequences), len(sequences))
    return [found[index] for index in range(len(sequences))]


def _rows(sequences: Sequence[Continuation]) -> Iterator[_Row]:
    """Sequences sorted by their tokens, so that each shares the longest prefix with the one before."""
    row = _Row()
    for index in sorted(range(len(sequences)), key=lambda index: sequences[index].tokens):
        tokens = sequences[index].tokens
        if row.tokens and len(row.tokens) + len(tokens) - row.shared(tokens) > ROW_TOKENS:
            yield row
            row = _Row()
        row.add(index, tokens)
    if row.tokens:
        yield row


def _scores(model: Any, row: _Row, nodes: list[int]) -> list[float]:
    """Log-likelihood of the token at each of `nodes` after the tokens that lead to it."""
    seen = np.eye(len(row.tokens), dtype=bool)
    for node, parent in enumerate(row.parents):
        if parent >= 0:
            seen[node] |= seen[parent]
    mask = torch.zeros(seen.shape, dtype=model.dtype).masked_fill(~torch.from_numpy(seen), torch.finfo(model.dtype).min)
    before = sorted({row.parents[node] for node in nodes})
    logits = (
        model(
            input_ids=torch.tensor([row.tokens], device=model.device),
            position_ids=torch.tensor([row.depths], device=model.device),
            attention_mask=mask[None, None].to(model.device),
            use_cache=False,
            logits_to_keep=torch.tensor(before, device=model.device),
        )
        .logits[0]
        .float()
    )
    place = {parent: at for at, parent in enumerate(before)}
    at = torch.tensor([place[row.parents[node]] for node in nodes], device=model.device)
    token = torch.tensor([row.tokens[node] for node in nodes], device=model.device)
    return (logits[at, token] - logits.logsumexp(1)[at]).tolist()

"""Layers that are not trained give the same states in every pass over the rows: they are run once and then left out."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import torch
from torch import nn

from nightshift.settings.training import Training
from nightshift.training.answer_model import AnswerModel
from nightshift.training.packing import Packed
from nightshift.training.task import OnRows

# More than this of kept states (bytes) would cost more memory than the layers cost time.
LARGEST = 2**30
# Read in one pass: enough to keep the processors busy.
PLACES_A_PASS = 2048


def pays(training: Training, packed: Sequence[Packed], hidden_size: int) -> bool:
    """Whether running the frozen layers once is possible, and saves more than it takes."""
    places = sum(len(rows) * (len(rows.prefix) + rows.length) for rows in packed)
    return (
        training.trained_layers > 0
        and training.epochs > 1
        and training.zero_stage < 3
        and 4 * places * hidden_size <= LARGEST
    )


class FrozenLayers:
    """Takes the layers below the last `trained` ones out of a model, and keeps what they give for each row.

    :param packed: all rows that the model will read. Always the same ones are read together, so that an interrupted
        training, which starts anew here, sees the same states to the last bit.
    :param on_rows: hears how many of how many rows are done.
    """

    def __init__(
        self,
        model: AnswerModel,
        trained: int,
        packed: Sequence[Packed],
        pad: int,
        on_rows: OnRows = lambda done, of: None,
    ) -> None:
        self._decoder = model.model.get_decoder()
        self._all: nn.ModuleList = self._decoder.layers
        cut = len(self._all) - trained
        # The rows live as long as the training does, so their identity names them.
        self._states: dict[int, list[torch.Tensor]] = {id(rows): [] for rows in packed}
        first = _PassOn()
        self._decoder.layers = nn.ModuleList([*self._all[:cut], first, *(_PassOn() for _ in range(trained - 1))])
        with torch.inference_mode():
            for rows in packed:
                batch = max(1, PLACES_A_PASS // (len(rows.prefix) + rows.length))
                for start in range(0, len(rows), batch):
                    tensors = rows.batch(range(start, min(start + batch, len(rows))), pad)
                    self._states[id(rows)] += self._run(model, first, tensors)
                    on_rows(sum(map(len, self._states.values())), sum(map(len, packed)))
        self._decoder.layers = nn.ModuleList([*(_PassOn() for _ in range(cut)), *self._all[cut:]])
        model.enter_at(self._all[cut])

    @staticmethod
    def _run(model: AnswerModel, first: _PassOn, tensors: dict[str, torch.Tensor]) -> list[torch.Tensor]:
        del tensors["labels"]
        # Nobody reads these logits, and the head is the widest matrix of a small model.
        tensors["scored"] = torch.zeros_like(tensors["scored"])
        first.passed.clear()
        model(**tensors)
        return [states.clone() for states in first.passed[0]]

    def of(self, packed: Packed, rows: Iterable[int]) -> dict[str, torch.Tensor]:
        """Return the `states` (B x L x H) that enter the first trained layer.

        Row -1 is empty and only fills a batch: its states are zero.
        """
        known = self._states[id(packed)]
        states = [known[row] if row >= 0 else torch.zeros_like(known[0]) for row in rows]
        # Stacked outside inference mode, they may take part in a backward pass.
        return {"states": torch.stack(states)}

    def put_back(self) -> None:
        """Make the model whole again."""
        self._decoder.layers = self._all


class _PassOn(nn.Module):
    """Stands where a layer was and hands on what it is given."""

    def __init__(self) -> None:
        super().__init__()
        self.passed: list[torch.Tensor] = []

    def forward(self, hidden_states: torch.Tensor, *_unused: Any, **_ignored: Any) -> torch.Tensor:
        if torch.is_inference_mode_enabled():
            self.passed.append(hidden_states)
        return hidden_states

"""Learning from answers that were judged one by one (KTO): good ones become likelier, and bad ones less likely, than before.

Ethayarajh et al., "KTO: Model Alignment as Prospect Theoretic Optimization", 2024, arXiv:2402.01306, equations 7 and 8. Rewards
are those of DPO. What an answer is held against is the KL divergence from the reference, estimated as in TRL: the mean reward of
answers to other prompts, in a batch of all processes, and at least 0; no gradient goes through it. So each judged answer is two
examples: with its answer, then with that of another row.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.distributed as dist
from transformers import TrainingArguments

from nightshift.errors import BadInput
from nightshift.settings.training import Training
from nightshift.training.packing import Packed
from nightshift.training.preference import PreferenceTrainer
from nightshift.training.row_model import RowModel
from nightshift.training.task import Rows


def answer_losses(rewarded: torch.Tensor, desirable: torch.Tensor, point: torch.Tensor) -> torch.Tensor:
    """Return the loss of each answer, 0 to 1, before it is weighted.

    :param rewarded: rewards (N x 2) of the answers, and of those to other prompts.
    :param desirable: which of them are good ones.
    :param point: the reward that they are held against, see :func:`reference_point`.
    """
    return torch.sigmoid(signed(point - rewarded[:, 0], desirable))


def signed(values: torch.Tensor, desirable: torch.Tensor) -> torch.Tensor:
    """Return values with the sign of those of bad answers turned."""
    return torch.where(desirable, values, -values)


def reference_point(rewarded: torch.Tensor, world: int = 1) -> torch.Tensor:
    """Return the mean reward of the answers to other prompts, over the batches of all processes, and at least 0."""
    unrelated = rewarded[:, 1].detach()
    total = torch.stack([unrelated.sum(), unrelated.new_tensor(len(unrelated))])
    if world > 1:
        dist.all_reduce(total)
    return (total[0] / total[1].clamp(min=1)).clamp(min=0)


def class_weights(desirable: torch.Tensor) -> torch.Tensor:
    """Return the weights of bad and of good answers with which both count as much in all, and 1 on average."""
    good = desirable.sum()
    counts = torch.stack([len(desirable) - good, good])
    return len(desirable) / (2 * counts.clamp(min=1))


class KtoTrainer(PreferenceTrainer):
    """Trains on packed judged answers, of which good and bad ones count as much in all: in losses, and in what is measured.

    `reward_accuracy` and `held_out_accuracy` are the share of answers on the right side of what they are held against,
    `reward_margin` and `held_out_margin` how much higher the mean reward of good answers is than that of bad ones.
    """

    def __init__(
        self, model: RowModel, arguments: TrainingArguments, training: Training, rows: Rows, **keywords: Any
    ) -> None:
        """Begin as :class:`PreferenceTrainer` does.

        :raises BadInput: what fits into a row is all good, or all bad.
        """
        self._desirable, self._weights = {}, {}  # as the reference
        for packed in (rows.train, rows.held_out):
            desirable = torch.from_numpy(packed.examples.desirable)
            fitting = desirable[torch.from_numpy(packed.packing.examples[::2] // 2)]
            if fitting.all() or not fitting.any():
                raise BadInput("all judged answers that fit into a row are of one kind; raise training.sequence_length")
            self._desirable[id(packed)] = desirable.to(arguments.device)
            self._weights[id(packed)] = class_weights(fitting).to(arguments.device)
        super().__init__(model, arguments, training, rows, **keywords)

    def weights(self, packed: Packed, pairs: torch.Tensor) -> torch.Tensor:
        """Return the weights of judged answers."""
        return self._weights[id(packed)][self._desirable[id(packed)][pairs].long()]

    def measure(self, packed: Packed, pairs: torch.Tensor, output: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """Return of each answer of a batch its loss, whether it is on the right side (1 or 0), and its part of the margin."""
        rewarded, desirable = self._rewards(packed, pairs, output), self._desirable[id(packed)][pairs]
        weights = self.weights(packed, pairs)
        losses = answer_losses(rewarded, desirable, reference_point(rewarded, self.world))
        margin = 2 * signed(rewarded[:, 0], desirable)
        return weights * losses, weights * (losses < 0.5).float(), weights * margin

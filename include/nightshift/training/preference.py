"""Learning from preference pairs (DPO): the chosen answer becomes likelier than the rejected one, near the model it began as.

Rafailov et al., "Direct Preference Optimization", 2023, arXiv:2305.18290, equation 7. An answer's reward is `beta` times how
much likelier (nats) it is than to the reference, which is the model that training starts from. What the reference says of
each answer is measured once before the first step, so that no second model is held, whatever is trained.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from torch.nn.functional import logsigmoid

from nightshift.training.packing import Packed
from nightshift.training.task import OnRows
from nightshift.training.token_files import LEARNED
from nightshift.training.trainer import PackedTrainer


def rewards(nats: torch.Tensor, reference: torch.Tensor, beta: float) -> torch.Tensor:
    """Return the rewards of pairs (N x 2, chosen and rejected) from the nats of both answers to a model and the reference."""
    return beta * (reference - nats)


def margins(rewarded: torch.Tensor) -> torch.Tensor:
    """Return by how much the reward of each pair's chosen answer is above that of the rejected one."""
    return rewarded[:, 0] - rewarded[:, 1]


def pair_losses(rewarded: torch.Tensor) -> torch.Tensor:
    """Return the loss (nats) of each pair: how surprising it is that the chosen answer was chosen."""
    return -logsigmoid(margins(rewarded))


class PreferenceTrainer(PackedTrainer):
    """Trains on packed pairs. Losses are nats per pair; `reward_margin` and `reward_accuracy` are those of a step's pairs on the
    first process, `held_out_margin` and `held_out_accuracy` of all held-out pairs.
    """

    measured = ("held_out_loss", "held_out_accuracy", "held_out_margin")

    def __init__(self, *arguments: Any, **keywords: Any) -> None:
        super().__init__(*arguments, **keywords)
        # Of each batch since the last log: the weight of each pair, whether it is right, and its margin.
        self._step: list[torch.Tensor] = []
        self._reference: dict[int, torch.Tensor] = {}  # by the identity of rows, which live as long as the training
        for packed in (self.rows.train, self.rows.held_out):
            self._reference[id(packed)] = self._measure_reference(packed, keywords["on_rows"])

    def _measure_reference(self, packed: Packed, on_rows: OnRows) -> torch.Tensor:
        """Return the nats of both examples of each pair to the model as it is now, before a checkpoint is loaded."""
        nats = torch.zeros(len(packed.examples) // 2, 2, dtype=torch.float64)
        at_once, stride = self.training.rows_per_batch, self.world * self.training.rows_per_batch
        self.row_model.to(self.args.device).eval()
        with torch.no_grad():
            for start in range(self.args.process_index * at_once, len(packed), stride):
                end = min(start + at_once, len(packed))
                batch = self._prepare_inputs(self.batch(packed, range(start, end)))
                pairs = batch.pop("labels")
                nats[pairs.cpu()] = self._nats(packed, pairs, self.row_model(**batch)).double().cpu()
                on_rows(end, len(packed))
        self.row_model.train()
        nats = nats.to(self.args.device)
        if self.world > 1:
            dist.all_reduce(nats)
        return nats.float()

    def batch(self, packed: Packed, rows: Iterable[int]) -> dict[str, Any]:
        """Return what the model takes for a batch of rows; its `labels` are the numbers of their pairs, in order."""
        rows = list(rows)
        pairs = np.concatenate([packed.packing.row(row)[::2] // 2 for row in rows])
        return {**super().batch(packed, rows), "labels": torch.from_numpy(pairs)}

    def _nats(self, packed: Packed, pairs: torch.Tensor, output: torch.Tensor) -> torch.Tensor:
        """Return the nats of both examples of each pair of a batch (N x 2), of what a forward pass over it gave."""
        answers = [
            packed.examples[number][-int(packed.examples.answers[number]) :] & ~LEARNED
            for pair in pairs.tolist()
            for number in (2 * pair, 2 * pair + 1)
        ]
        targets = np.concatenate([np.empty(0, np.uint32), *answers]).astype(np.int64)
        owners = np.repeat(np.arange(len(answers)), [len(answer) for answer in answers])
        losses = self.row_model.token_losses(output, torch.from_numpy(targets).to(output.device)).float()
        nats = losses.new_zeros(len(answers)).index_add(0, torch.from_numpy(owners).to(output.device), losses)
        return nats.view(-1, 2)

    def _rewards(self, packed: Packed, pairs: torch.Tensor, output: torch.Tensor) -> torch.Tensor:
        return rewards(self._nats(packed, pairs, output), self._reference[id(packed)][pairs], self.training.beta)

    def weights(self, packed: Packed, pairs: torch.Tensor) -> torch.Tensor:
        """Return by how much each pair of a batch counts, 1 on average over all of them."""
        return torch.ones(len(pairs), device=pairs.device)

    def measure(self, packed: Packed, pairs: torch.Tensor, output: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """Return of each pair of a batch its loss, whether its chosen answer has the higher reward (1 or 0), and its margin."""
        rewarded = self._rewards(packed, pairs, output)
        margin = margins(rewarded)
        return pair_losses(rewarded), (margin > 0).float(), margin

    def _loss(self, output: torch.Tensor, labels: torch.Tensor, num_items_in_batch: torch.Tensor) -> torch.Tensor:
        """Mean over the pairs of the whole step: the Trainer counts labels, one for each pair, over batches and processes."""
        losses, *measured = self.measure(self.rows.train, labels, output)
        self._step.append(torch.stack([self.weights(self.rows.train, labels), *measured]).detach())
        return losses.sum() / num_items_in_batch

    def sums(self, output: torch.Tensor, labels: torch.Tensor) -> list[float]:
        """Return the number of held-out pairs of a batch, and the sums of what is measured of them."""
        measured = self.measure(self.rows.held_out, labels, output)
        return [len(labels), *(each.sum().item() for each in measured)]

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Pass on the numbers of a step, with those of its pairs."""
        if "loss" in logs and self._step:
            of_step = torch.cat(self._step, dim=1)
            self._step.clear()
            if of_step.shape[1]:
                weight, right, margin = of_step.sum(dim=1).tolist()
                logs = {**logs, "reward_margin": margin / weight, "reward_accuracy": right / weight}
        super().log(logs, start_time)

    @property
    def held_out_accuracy(self) -> float:
        """The share of held-out pairs whose chosen answer had the higher reward, when it was last measured."""
        entries = (entry["metrics"] for entry in reversed(self.state.log_history))
        return next(metrics["held_out_accuracy"] for metrics in entries if "held_out_accuracy" in metrics)

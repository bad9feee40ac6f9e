"""The engine for GPUs, large models and long rows: examples one after the other, fused attention, the loss in parts.

A row is its examples and nothing else: no padding and no mask. The logits of a batch never exist at once: they are
computed for some learned tokens at a time, and again for the gradient.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn.functional import cross_entropy
from torch.utils.checkpoint import checkpoint

from nightshift.errors import BadInput
from nightshift.training.packing import NOT_LEARNED, Packed, in_line
from nightshift.training.row_model import RowModel
from nightshift.training.token_files import LEARNED

# Logits (tokens x vocabulary) that may exist at once; in fp32 half a gigabyte.
LOGITS_AT_ONCE = 2**27
# Of a loss, above what a number format and the order of sums make of the same computation.
TOLERANCE = {torch.float32: 1e-4, torch.float16: 1e-2, torch.bfloat16: 3e-2}

log = logging.getLogger(__name__)


class StockModel(RowModel):
    """Wraps a Hugging Face causal model (or its PEFT form) whose attention implementation keeps examples apart.

    :param model: loaded with an implementation of :func:`varlen_attention.attention_of`.
    """

    def __init__(self, model: nn.Module) -> None:
        super().__init__(model)
        self._whole_logits = False
        head = self.model.get_output_embeddings()
        self._logits_of = head.forward
        # Within one call of the head, since ZeRO-3 has its weights there only during one.
        head.forward = self._head

    def batch(self, packed: Packed, rows: Iterable[int], pad: int) -> dict[str, Any]:
        """Return what :func:`packing.in_line` does."""
        return packed.in_line(rows, pad)

    def forward(
        self,
        input_ids: torch.Tensor,
        position_ids: torch.Tensor,
        starts: torch.Tensor,
        longest: int,
        targets: torch.Tensor,
    ) -> torch.Tensor:
        """Return the loss (nats) of each learned token; the arguments are those of :func:`packing.in_line`."""
        tokens = {"input_ids": input_ids, "position_ids": position_ids, "attention_mask": None, "use_cache": False}
        examples = {"cu_seq_lens_q": starts, "cu_seq_lens_k": starts, "max_length_q": longest, "max_length_k": longest}
        learned = targets[0] != NOT_LEARNED
        if self._whole_logits:
            logits = self.model(**tokens, **examples).logits[0]
            return _losses(logits[learned], targets[0][learned])
        states = self.model.get_decoder()(**tokens, **examples)[0][0]
        losses: torch.Tensor = self.model.get_output_embeddings()(states[learned], targets[0][learned])
        return losses

    def summed_loss(self, output: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        """Return the sum of the output: the losses are already computed, part by part."""
        return output.sum()

    def token_losses(self, output: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        """Return the output."""
        return output

    def _head(self, states: torch.Tensor, targets: torch.Tensor | None = None) -> torch.Tensor:
        """Return logits, or with targets (N) the loss at each of N states."""
        if targets is None:
            logits: torch.Tensor = self._logits_of(states)
            return logits
        at_once = max(1, LOGITS_AT_ONCE // self.model.config.get_text_config().vocab_size)
        parts = list(zip(states.split(at_once), targets.split(at_once), strict=True))
        if len(parts) > 1 and torch.is_grad_enabled():
            again = partial(checkpoint, self._loss_of, use_reentrant=False, preserve_rng_state=False)
            return torch.cat([again(*part) for part in parts])
        return torch.cat([self._loss_of(*part) for part in parts])

    def _loss_of(self, states: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        return _losses(self._as_the_model_does(self._logits_of(states)), targets)

    def _as_the_model_does(self, logits: torch.Tensor) -> torch.Tensor:
        """Do to logits what some families do to them after the head."""
        config = self.model.config.get_text_config()
        if scale := getattr(config, "logit_scale", None):
            logits = logits * scale
        if scale := getattr(config, "logits_scaling", None):
            logits = logits / scale
        if cap := getattr(config, "final_logit_softcapping", None):
            logits = cap * torch.tanh(logits / cap)
        return logits

    def check(self, engine: nn.Module) -> None:
        """See on two small examples that neither sees the other, and that the loss is that of the model's own logits.

        A model that does more to its logits than is known here is trained on its own ones, all at once.

        :raises BadInput: the second example's loss depends on the first.
        """
        device = next(self.model.parameters()).device
        vocabulary = self.model.config.get_text_config().vocab_size
        first, other, second = (np.arange(at, at + 12, dtype=np.uint32) * 7919 % vocabulary for at in (1, 101, 201))
        losses = []
        engine.eval()
        with torch.no_grad():
            for before, self._whole_logits in ((first, False), (other, False), (first, True)):
                batch = in_line([before, second | LEARNED], pad=0)
                del batch["labels"]
                on_device = {name: each if name == "longest" else each.to(device) for name, each in batch.items()}
                losses.append(engine(**on_device).sum().item())
        self._whole_logits = False
        within = TOLERANCE[next(self.model.parameters()).dtype] * abs(losses[0])
        if abs(losses[0] - losses[1]) > within:
            raise BadInput(
                f"a packed example would see the one before it through a {self.model.config.model_type} model; choose a "
                "model that keeps them apart, or set training.engine: short_rows"
            )
        if abs(losses[0] - losses[2]) > within:
            log.warning("the model changes its logits in a way of its own; those of a batch are computed all at once")
            self._whole_logits = True


def _losses(logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    return cross_entropy(logits.float(), targets, reduction="none")

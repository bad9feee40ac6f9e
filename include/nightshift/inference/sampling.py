"""Chooses the next token of each row from the model's logits: greedy, or drawn with the row's own random numbers.

A row's draw depends on its logits and its own seed, not on the other rows of the batch. Penalties come first, then the
temperature, then top-p, as in vLLM and Transformers.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch

from nightshift.settings.decoding import Decoding

LEAST_TEMPERATURE = 1e-30  # by less, a logit is no number of 32 bits any more


def next_tokens(
    logits: torch.Tensor,
    decoding: Decoding,
    prompts: Sequence[list[int]],
    answers: Sequence[list[int]],
    chances: Sequence[torch.Generator],
) -> list[int]:
    """Return a token for each row.

    :param logits: rows x vocabulary.
    :param prompts: the rows' prompts, and `answers` what was generated so far.
    :param chances: a CPU random generator for each row, used for one draw if the temperature is above 0.
    """
    if decoding.repetition_penalty != 1 or decoding.frequency_penalty or decoding.presence_penalty:
        logits = _penalized(logits.float(), decoding, prompts, answers)
    if decoding.temperature == 0:
        return list(logits.argmax(-1).tolist())
    shares = (logits.float() / max(decoding.temperature, LEAST_TEMPERATURE)).softmax(-1)
    order = None
    if decoding.top_p < 1:
        shares, order = shares.sort(descending=True, stable=True)
        before = shares.cumsum(-1) - shares
        shares = shares.masked_fill(before >= decoding.top_p, 0.0)
    reached = shares.double().cumsum(-1)
    drawn = torch.stack([torch.rand((), generator=chance, dtype=torch.float64) for chance in chances]).to(logits.device)
    # Never draw a token beyond the last one in the nucleus, despite rounding of the sum.
    places = torch.searchsorted(reached, (drawn * reached[:, -1])[:, None], right=True)
    places = torch.minimum(places, (reached >= reached[:, -1:]).int().argmax(-1, keepdim=True))
    tokens = places if order is None else order.gather(1, places)
    return list(tokens[:, 0].tolist())


def _penalized(
    logits: torch.Tensor, decoding: Decoding, prompts: Sequence[list[int]], answers: Sequence[list[int]]
) -> torch.Tensor:
    logits = logits.clone()
    for row, (prompt, answer) in enumerate(zip(prompts, answers, strict=True)):
        seen = torch.tensor(sorted({*prompt, *answer}), device=logits.device)
        values = logits[row, seen]
        penalty = decoding.repetition_penalty
        logits[row, seen] = torch.where(values > 0, values / penalty, values * penalty)
        if answer:
            tokens, counts = torch.tensor(answer, device=logits.device).unique(return_counts=True)
            logits[row, tokens] -= decoding.frequency_penalty * counts + decoding.presence_penalty
    return logits

"""Tokens are drawn as often as the model finds them likely, from those that top-p keeps, after the penalties."""

from collections import Counter

import pytest
import torch

from nightshift.inference.engine import seed_of
from nightshift.inference.sampling import next_tokens
from nightshift.settings.decoding import Decoding

SHARES = torch.tensor([[0.5, 0.3, 0.15, 0.05]])


def drawn(decoding, count=4_000):
    chances = [torch.Generator().manual_seed(seed_of(17, str(row))) for row in range(count)]
    tokens = next_tokens(SHARES.log().expand(count, -1), decoding, [[0]] * count, [[]] * count, chances)
    return {token: number / count for token, number in Counter(tokens).items()}


def test_tokens_come_as_often_as_they_are_likely():
    assert drawn(Decoding(temperature=1)) == pytest.approx({0: 0.5, 1: 0.3, 2: 0.15, 3: 0.05}, abs=0.03)


def test_a_temperature_below_one_sharpens():
    sharp = (SHARES**2 / (SHARES**2).sum())[0].tolist()
    assert drawn(Decoding(temperature=0.5)) == pytest.approx(dict(enumerate(sharp)), abs=0.03)


@pytest.mark.parametrize("temperature", [1e-6, 1e-38, 1e-300])
def test_the_least_temperature_that_can_be_set_draws_the_likeliest(temperature):
    tokens = next_tokens(
        torch.tensor([[1.0, 30.0, 2.0]]), Decoding(temperature=temperature), [[0]], [[]], [torch.Generator()]
    )
    assert tokens == [1]


def test_top_p_keeps_the_likeliest_that_reach_it():
    assert drawn(Decoding(temperature=1, top_p=0.7)) == pytest.approx({0: 0.625, 1: 0.375}, abs=0.03)
    assert set(drawn(Decoding(temperature=1, top_p=0.01))) == {0}


def test_penalties_change_what_is_likeliest():
    logits = torch.tensor([[2.0, 1.9, 1.0, 0.5]])

    def greedy(said, prompt=(3,), **penalties):
        return next_tokens(logits, Decoding(**penalties), [list(prompt)], [said], [])[0]

    assert greedy([0]) == 0
    assert greedy([], prompt=(0,), repetition_penalty=1.5) == 1
    assert greedy([0], presence_penalty=0.2) == 1
    assert greedy([0, 0, 0], frequency_penalty=0.05) == 1
    assert greedy([0], frequency_penalty=0.05) == 0


def test_the_seed_of_a_row_depends_on_no_other():
    assert seed_of(17, "a") == seed_of(17, "a")
    assert len({seed_of(17, "a"), seed_of(18, "a"), seed_of(17, "b"), seed_of(17, "a", 1)}) == 4

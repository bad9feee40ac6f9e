"""Scores of answers against reference answers, with 95 % bootstrap intervals over the examples.

Scores are between 0 and 1, and higher is better, except for losses, tokens, latency and cost:

- exact match: equal after NFKC, lower case, white space collapsed, without invisible characters and one full stop at the end
- ROUGE-L: F-measure of the longest common subsequence of stemmed words, in any script (likeness.py)
- chrF: character n-gram F-score, mean over sentences (sacrebleu)
- BLEU: of the whole corpus (sacrebleu, 13a; characters of scripts without spaces are words, as in its tokenizer `zh`). If
  no answer has four words, the longest n-grams count (`effective_order`)
- finished: share of answers that were not cut off; tokens, latency (ms) and cost: means over answers
- loss: mean negative log-likelihood per token of the reference answer (natural logarithm); perplexity: its exponential

Intervals come from resampling examples with a fixed seed, so the same answers always give the same numbers. Two models are
compared on the same resamples (paired), which detects smaller differences than comparing two intervals.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from pydantic import BaseModel
from sacrebleu.metrics import BLEU, CHRF

from nightshift.data.words import composed, spaced
from nightshift.evaluation.estimates import Comparison, Estimate
from nightshift.evaluation.likeness import exact_match, rouge_l

RESAMPLES = 2_000
SEED = 17
DRAWN_AT_ONCE = 2_000_000  # numbers of how often an example is drawn, 16 MB

Array = np.ndarray[Any, np.dtype[np.float64]]


class Answers(BaseModel):
    """Answers of one model to the held-out examples, in the examples' order; all lists are of equal length.

    `loss_sum` is the summed negative log-likelihood of the reference answer's `answer_tokens` tokens; if not measured, both are
    empty, and there is no loss and no perplexity.
    """

    answer: list[str]
    reference: list[str]
    loss_sum: list[float] = []
    answer_tokens: list[int] = []
    others: list[list[str]] = []  # further samples of answers to all examples; scores are means over all samples
    means: dict[str, list[float]] = {}  # further metrics that are means over the examples


def per_example(answer: Sequence[str], reference: Sequence[str]) -> dict[str, list[float]]:
    """Return exact match (0 or 1), ROUGE-L and chrF of each answer."""
    chrf = CHRF()
    pairs = list(zip(answer, reference, strict=True))
    return {
        "exact_match": [exact_match(one, other) for one, other in pairs],
        "rouge_l": [rouge_l(one, other) for one, other in pairs],
        "chrf": [chrf.sentence_score(composed(one), [composed(other)]).score / 100 for one, other in pairs],
    }


def mean_per_example(answers: Answers) -> dict[str, list[float]]:
    """Return exact match, ROUGE-L and chrF of each example, as means over its answers."""
    scored = [per_example(texts, answers.reference) for texts in (answers.answer, *answers.others)]
    return {name: np.mean([one[name] for one in scored], axis=0).tolist() for name in scored[0]}


def spread(answers: Answers) -> dict[str, float]:
    """Return the standard deviation of each mean score between samples; empty for one sample."""
    if not answers.others or not answers.reference:
        return {}
    scored = [per_example(texts, answers.reference) for texts in (answers.answer, *answers.others)]
    return {name: float(np.std([np.mean(one[name]) for one in scored], ddof=1)) for name in scored[0]}


def compare(answers: Mapping[str, Answers]) -> Comparison:
    """Score every role's answers to the same examples, and the differences of `candidate` to all others.

    :param answers: by role; the roles are `base`, `champion` and `candidate`.
    """
    count = len(next(iter(answers.values())).answer)
    if count == 0:
        return Comparison(examples=0, scores={role: {} for role in answers}, differences={})
    answers = _with_what_all_have(_with_losses_of_what_all_read(answers))
    totals = _totals({role: _values(given) for role, given in answers.items()})
    drawn = {role: _estimates(given, totals[role]) for role, given in answers.items()}
    differences = {
        role: {metric: _estimate(drawn["candidate"][metric] - values) for metric, values in metrics.items()}
        for role, metrics in drawn.items()
        if role != "candidate" and "candidate" in drawn
    }
    scores = {
        role: {metric: _estimate(values) for metric, values in metrics.items()} for role, metrics in drawn.items()
    }
    return Comparison(examples=count, scores=scores, differences=differences)


def estimate_of(values: Sequence[float]) -> Estimate:
    """Return the mean of a measure over examples, at least one, with its interval."""
    (totals,) = _totals({"": np.array(values, dtype=np.float64)[:, None]}).values()
    return _estimate(totals[:, 0] / len(values))


def add_measured(comparison: Comparison, metric: str, by_role: Mapping[str, Sequence[float]]) -> None:
    """Add a metric that was measured on some examples only, the same ones for every role, and the candidate's gain."""
    for role, values in by_role.items():
        comparison.scores[role][metric] = estimate_of(values)
        if role in comparison.differences:
            gained = [one - other for one, other in zip(by_role["candidate"], values, strict=True)]
            comparison.differences[role][metric] = estimate_of(gained)


def _with_losses_of_what_all_read(answers: Mapping[str, Answers]) -> dict[str, Answers]:
    """Restrict losses to examples that all models could read; drop them if there are none.

    They are also dropped if a model, such as one at an endpoint, does not report likelihoods.
    """
    if not all(given.answer_tokens for given in answers.values()):
        return {role: given.model_copy(update={"loss_sum": [], "answer_tokens": []}) for role, given in answers.items()}
    read = np.all([given.answer_tokens for given in answers.values()], axis=0)
    kept = read if read.any() else read[:0]
    return {
        role: given.model_copy(
            update={
                name: [value if told else 0 for value, told in zip(getattr(given, name), kept, strict=False)]
                for name in ("loss_sum", "answer_tokens")
            }
        )
        for role, given in answers.items()
    }


def _with_what_all_have(answers: Mapping[str, Answers]) -> dict[str, Answers]:
    """Restrict the further metrics to those measured for every model."""
    names = [
        name for name in next(iter(answers.values())).means if all(name in given.means for given in answers.values())
    ]
    return {
        role: given.model_copy(update={"means": {name: given.means[name] for name in names}})
        for role, given in answers.items()
    }


def _values(answers: Answers) -> Array:
    """The additive values of each example, a row each: scores of single answers, n-gram counts of BLEU, losses and tokens."""
    references, bleu = [spaced(text) for text in answers.reference], BLEU(effective_order=True)
    counts = [
        bleu._extract_corpus_statistics([spaced(text) for text in texts], [references])
        for texts in (answers.answer, *answers.others)
    ]
    losses: list[Any] = [answers.loss_sum, answers.answer_tokens] if answers.loss_sum else []
    singles = [*mean_per_example(answers).values(), *answers.means.values()]
    return np.column_stack([*singles, *losses, np.mean(counts, axis=0)]).astype(np.float64)


def _totals(values: Mapping[str, Array]) -> dict[str, Array]:
    """The sums of each role's values over all examples, then over each resample; resamples are equal for all roles."""
    count = len(next(iter(values.values())))
    generator = np.random.default_rng(SEED)
    rows = {role: [given.sum(0, keepdims=True)] for role, given in values.items()}
    at_once = max(1, DRAWN_AT_ONCE // count)
    for start in range(0, RESAMPLES, at_once):
        size = min(at_once, RESAMPLES - start)
        weights = generator.multinomial(count, np.full(count, 1 / count), size=size).astype(np.float64)
        for role, given in values.items():
            rows[role].append(weights @ given)
    return {role: np.vstack(sums) for role, sums in rows.items()}


def _estimates(answers: Answers, totals: Array) -> dict[str, Array]:
    """Each metric over all examples, followed by its values over the resamples."""
    names = ("exact_match", "rouge_l", "chrf", *answers.means)
    singles, rest = totals[:, : len(names)] / len(answers.answer), totals[:, len(names) :]
    found = dict(zip(names, singles.T, strict=True))
    if answers.loss_sum:
        loss, rest = rest[:, 0] / np.maximum(rest[:, 1], 1), rest[:, 2:]
    metric = BLEU(effective_order=True)
    found["bleu"] = np.array([metric._compute_score_from_stats(row).score / 100 for row in rest])
    return found | ({"loss": loss, "perplexity": np.exp(np.minimum(loss, 700))} if answers.loss_sum else {})


def _estimate(values: Array) -> Estimate:
    low, high = np.percentile(values[1:], [2.5, 97.5])
    return Estimate(value=float(values[0]), low=float(low), high=float(high))

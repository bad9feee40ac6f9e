"""How far people agree with each other on the review page, and each automatic scorer with them."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Hashable, Iterable, Mapping, Sequence
from statistics import NormalDist
from typing import Any

from nightshift.evaluation.agreement import MIN_ROWS, agreement
from nightshift.ledger.records import Review
from nightshift.settings.feedback import RANDOM


def krippendorff_alpha(units: Iterable[Sequence[Hashable]]) -> float | None:
    """Return Krippendorff's alpha of nominal values: 1 is full agreement, 0 what chance alone gives.

    With coincidences o and marginals n it is 1 - (n - 1) * sum(o_ck, c != k) / sum(n_c * n_k, c != k) (Krippendorff 2011,
    Computing Krippendorff's Alpha-Reliability, section C). Units with one value are ignored.

    :param units: the values of each unit, one from each person who reviewed it.
    :return: None if no unit has two values, or all values are equal.
    """
    values: Counter[Hashable] = Counter()
    differing = 0.0
    for unit in units:
        if (judged := len(unit)) < 2:
            continue
        counts = Counter(unit)
        values.update(counts)
        differing += sum(count * (judged - count) for count in counts.values()) / (judged - 1)
    total = values.total()
    by_chance = sum(count * (total - count) for count in values.values())
    return 1 - (total - 1) * differing / by_chance if by_chance else None


def share_of(count: int, of: int) -> tuple[float, float, float]:
    """Return a share with the bounds of Wilson's 95 % interval (Wilson 1927)."""
    share, square = count / of, NormalDist().inv_cdf(0.975) ** 2 / of
    middle, half = share + square / 2, (square * (share * (1 - share) + square / 4)) ** 0.5
    return share, (middle - half) / (1 + square), (middle + half) / (1 + square)


def agreement_of(reviews: Iterable[Review], scores: Mapping[str, Mapping[str, float]]) -> dict[str, Any]:
    """Return how far people and scorers agree, as facts of a manifest.

    Scorers are compared with the majority of people on randomly chosen answers; answers chosen by a score would bias the
    result. `agrees` of the judge, which gives a share, is how often it is on the majority's side of one half, with Wilson's
    95 % interval. For each stratum the facts give the number of answers that most people found bad.

    :param scores: by key of the answer, for answers whose sample still exists.
    """
    ratings: dict[str, dict[str, bool]] = defaultdict(dict)
    strata: dict[str, str] = {}
    for review in reviews:
        ratings[review.key][review.by] = review.good
        strata[review.key] = review.chosen
    majority = {key: good for key, people in sorted(ratings.items()) if (good := _majority(people)) is not None}
    compared = {key: good for key, good in majority.items() if strata[key] == RANDOM and key in scores}
    by_stratum = sorted(set(strata.values()))
    names = sorted({name for key in compared for name in scores[key]})
    scorers = {name: _of_scorer([scores[key].get(name) for key in compared], list(compared.values())) for name in names}
    if "judge" in scorers:
        scorers["judge"] |= _calibration([(scores[key].get("judge"), good) for key, good in compared.items()])
    return {
        "reviewers": len({person for people in ratings.values() for person in people}),
        "reviews": sum(map(len, ratings.values())),
        "answers": len(ratings),
        "answers_of_several": sum(len(people) > 1 for people in ratings.values()),
        "alpha": krippendorff_alpha([list(people.values()) for people in ratings.values()]),
        "strata": {
            name: _of_stratum([majority[key] for key in majority if strata[key] == name]) for name in by_stratum
        },
        "scorers": scorers,
    }


def _majority(people: Mapping[str, bool]) -> float | None:
    share = sum(people.values()) / len(people)
    return None if share == 0.5 else float(share > 0.5)


def _of_stratum(good: Sequence[float]) -> dict[str, Any]:
    return {"answers": len(good), "bad": good.count(0.0)}


def _of_scorer(scores: Sequence[float | None], majority: Sequence[float]) -> dict[str, Any]:
    measured = agreement(scores, majority)
    return {"answers": measured.rows, "good": measured.positive, "auc": measured.auc}


def _calibration(pairs: Iterable[tuple[float | None, float]]) -> dict[str, float]:
    same = [(score >= 0.5) == bool(good) for score, good in pairs if score is not None]
    if len(same) < MIN_ROWS:
        return {}
    return dict(zip(("agrees", "low", "high"), share_of(sum(same), len(same)), strict=True))

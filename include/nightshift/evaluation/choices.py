"""People's choices between two answers: which version they prefer, and how far people and scorers agree."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from nightshift.evaluation.agreement import MIN_ROWS
from nightshift.evaluation.reviewers import krippendorff_alpha, share_of
from nightshift.ledger.records import Review


@dataclass(frozen=True)
class Preference:
    """Numbers of pairs for which most people preferred the candidate's answer, the champion's, or neither.

    :param same: pairs without a preferred answer: both are alike, or the votes are tied.
    :param share: of the candidate's among the preferred answers, with Wilson's 95 % interval; None: no answer was preferred.
    """

    candidate: int
    champion: int
    same: int
    neither: int
    share: tuple[float, float, float] | None

    @property
    def pairs(self) -> int:
        """The number of all pairs with a choice."""
        return self.candidate + self.champion + self.same + self.neither


def preference_of(choices: Iterable[Review]) -> Preference:
    """Return people's preference. A pair counts once, since several choices about it are not independent."""
    counts = Counter(outcomes(choices).values())
    wins, losses = counts["candidate"], counts["champion"]
    share = share_of(wins, wins + losses) if wins + losses else None
    return Preference(wins, losses, counts["same"], counts["neither"], share)


def outcomes(choices: Iterable[Review]) -> dict[str, str]:
    """Return the majority's choice for each pair, by key: one side, or else `neither` or `same`."""
    votes: dict[str, Counter[str]] = defaultdict(Counter)
    for choice in choices:
        votes[choice.key][choice.better] += 1
    return {key: _outcome(counts) for key, counts in votes.items()}


def agreement_of_choices(choices: Sequence[Review], pairs: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """Return how far people and scorers agree on pairs, as facts of a manifest.

    `first` is how often the preferred answer was shown first: far from one half, position decided. A scorer's `agrees` is
    how often the answer that most people preferred has the higher score, among pairs whose scores differ.

    :param pairs: rows of `PAIR_SCHEMA` by key; erased pairs are missing.
    """
    values: dict[str, list[str]] = defaultdict(list)
    for choice in choices:
        values[choice.key].append(choice.better)
    preferred = [choice for choice in choices if choice.better in {"champion", "candidate"}]
    wanted = {
        key: side for key, side in outcomes(choices).items() if side in {"champion", "candidate"} and key in pairs
    }
    scores = [
        (side, dict(pairs[key]["champion_scores"]), dict(pairs[key]["candidate_scores"]))
        for key, side in wanted.items()
    ]
    names = sorted({name for _, champion, candidate in scores for name in champion.keys() & candidate.keys()})
    return {
        "reviewers": len({choice.by for choice in choices}),
        "choices": len(choices),
        "pairs": len(values),
        "pairs_of_several": sum(len(chosen) > 1 for chosen in values.values()),
        "alpha": krippendorff_alpha(values.values()),
        "first": sum(choice.better == choice.first for choice in preferred) / len(preferred) if preferred else None,
        "scorers": {name: _of_scorer(name, scores) for name in names},
    }


def _outcome(counts: Counter[str]) -> str:
    if counts["candidate"] != counts["champion"]:
        return "candidate" if counts["candidate"] > counts["champion"] else "champion"
    return "neither" if counts["neither"] > counts.total() / 2 else "same"


def _of_scorer(name: str, scores: Iterable[tuple[str, dict[str, float], dict[str, float]]]) -> dict[str, Any]:
    known = [
        (side, candidate[name] - champion[name])
        for side, champion, candidate in scores
        if name in champion and name in candidate
    ]
    same = [(side == "candidate") == (difference > 0) for side, difference in known if difference]
    found: dict[str, Any] = {"pairs": len(known), "equal": len(known) - len(same), "agrees": None}
    if len(same) >= MIN_ROWS:
        found |= dict(zip(("agrees", "low", "high"), share_of(sum(same), len(same)), strict=True))
    return found

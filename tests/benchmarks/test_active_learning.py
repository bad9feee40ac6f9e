"""What choosing is worth: reviews until held-out accuracy has gained as much as with answers drawn at random.

The learner is logistic regression over all-MiniLM-L6-v2's vectors of the messages, which gets about as many intents right
as the sample's champion and learns in a second. The product chooses what is reviewed of each interval; the reviewer names
the intent that Banking77 has and, as in the product, only corrected answers become examples.
"""

import json
import os
from functools import partial
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from nightshift.data import review_sample

ROOT = Path(__file__).parents[2]
SAMPLE = ROOT / "include" / "nightshift" / "samples" / "banking77"
REPORT = Path(os.environ.get("NIGHTSHIFT_BENCHMARKS") or ROOT / "build" / "benchmarks")
SEEDS, INTERVALS, ROWS, MESSAGES, HELD_OUT = 12, 10, 20, 250, 1_500  # rows reviewed and messages of each interval
LAUNCH = "2026-11-06"  # from which day on customers write about 27 new intents
# Which messages the first model learned from, how many of them, and which came after.
STORIES = {
    "new intents": (lambda day: day < LAUNCH, 2_000, lambda day: day >= LAUNCH),
    "nothing new, a young model": (lambda day: day < LAUNCH, 300, lambda day: day < LAUNCH),
}
ARMS = ("random", "chosen", "chosen, near-equal ones too")


@pytest.fixture(scope="module")
def messages():
    """Texts, intents, days and sentence embeddings of the sample."""
    import pandas

    from nightshift.evaluation.sentence_embeddings import SentenceEmbedder

    days = [pandas.read_csv(path).assign(day=path.stem) for path in sorted(SAMPLE.glob("*.csv"))]
    rows = pandas.concat(days, ignore_index=True).drop_duplicates("text")
    texts = rows["text"].to_numpy(str)
    vectors = SentenceEmbedder().embed(list(texts))
    return texts, rows["intent"].to_numpy(str), rows["day"].to_numpy(str), 8 * vectors


def learned(vectors, intents):
    from sklearn.linear_model import LogisticRegression

    return LogisticRegression(C=3, max_iter=60, tol=1e-3).fit(vectors, intents)


def curve(story, arm, seed, *, messages, choose, file):
    """Held-out accuracy before the first interval and after each one's reviews, and the share of bad answers among these."""
    texts, intents, days, vectors = messages
    before, many, after = STORIES[story]
    chance = np.random.default_rng(seed)
    known = chance.permutation(np.flatnonzero(before(days)))[:many]
    new = chance.permutation(np.setdiff1d(np.flatnonzero(after(days)), known))
    held_out, stream = new[:HELD_OUT], np.sort(new[HELD_OUT:][: INTERVALS * MESSAGES])
    model, bad = learned(vectors[known], intents[known]), 0
    accuracies = [model.score(vectors[held_out], intents[held_out])]
    for number, interval in enumerate(np.array_split(stream, INTERVALS)):
        shares = model.predict_proba(vectors[interval])
        said, logprobs = model.classes_[shares.argmax(1)], np.log(shares.max(1))
        rows = {"row": range(len(interval)), "digest": texts[interval], "prompt": texts[interval], "response": said}
        pq.write_table(pa.table(rows | ({} if arm == "random" else {"logprob": logprobs})), file)
        reviewed = [row["row"] for row in choose(file, f"{seed}/{number}", ROWS, b"key", {})]
        corrected = [interval[row] for row in reviewed if said[row] != intents[interval[row]]]
        bad += len(corrected)
        known = np.concatenate([known, np.array(corrected, int)])
        model = learned(vectors[known], intents[known])
        accuracies.append(model.score(vectors[held_out], intents[held_out]))
    return accuracies, bad / (INTERVALS * ROWS)


def needed(wanted, reached):
    """How many reviews lead to an accuracy, between the points of a curve; infinite where none does."""
    best = np.maximum.accumulate(reached)
    at = int(np.searchsorted(best, wanted))
    if at in {0, len(best)}:
        return 0.0 if at == 0 else np.inf
    return ROWS * (at - 1 + (wanted - best[at - 1]) / (best[at] - best[at - 1]))


def compared(random, other):
    """Reviews until `other` gained what `random` did with all of its, with a 95 % bootstrap interval over seeds."""
    chance = np.random.default_rng(1)
    draws = [chance.integers(len(random), size=len(random)) for _ in range(2_000)]
    found = [needed(random[draw].mean(0)[-1], other[draw].mean(0)) for draw in draws]
    return needed(random.mean(0)[-1], other.mean(0)), *np.quantile(found, [0.025, 0.975], method="closest_observation")


@pytest.mark.nightly
@pytest.mark.benchmark
@pytest.mark.timeout(1800)
def test_chosen_reviews_teach_as_much_as_a_tenth_more_random_ones(messages, tmp_path, monkeypatch):
    from threadpoolctl import threadpool_limits

    from nightshift.monitoring.topics import Embedder

    choose, alike, measured = partial(review_sample.chosen, embed=Embedder()), review_sample.ALIKE, {}
    with threadpool_limits(1):
        for story in STORIES:
            for arm in ARMS:
                monkeypatch.setattr(review_sample, "ALIKE", 2 if arm == ARMS[-1] else alike)
                runs = [
                    curve(story, arm, seed, messages=messages, choose=choose, file=tmp_path / "night")
                    for seed in range(SEEDS)
                ]
                measured[story, arm] = np.array([run[0] for run in runs]), float(np.mean([run[1] for run in runs]))
    shown = range(0, INTERVALS + 1, 2)
    lines = [
        f"| | reviewed | {' | '.join(f'{at * ROWS}' for at in shown)} | bad among them | reviews for the last gain of `random` |",
        f"| --- | --- |{' ---: |' * (len(shown) + 2)}",
    ]
    saved = {}
    for (story, arm), (curves, bad) in measured.items():
        saved[story, arm] = compared(measured[story, "random"][0], curves)
        means = " | ".join(f"{curves.mean(0)[at]:.1%}" for at in shown)
        at, low, high = saved[story, arm]
        lines.append(f"| {story} | {arm} | {means} | {bad:.0%} | {at:.0f} ({low:.0f} to {high:.0f}) |")
    REPORT.mkdir(parents=True, exist_ok=True)
    (REPORT / "active_learning.md").write_text("\n".join(lines) + "\n")
    (REPORT / "active_learning.json").write_text(
        json.dumps({"/".join(of): curves.tolist() for of, (curves, _) in measured.items()})
    )
    print("\n".join(lines))
    for story in STORIES:
        _, _, high = saved[story, "chosen"]
        assert 1.1 * high <= INTERVALS * ROWS, story

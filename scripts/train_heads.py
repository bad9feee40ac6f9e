"""Trains the heads that score refusal and toxicity, and measures them on what they were not trained on.

    python scripts/train_heads.py --xstest …/xstest_completions_*.csv --davidson …/labeled_data.csv \
        --hatecheck …/test_suite_cases.csv --banking77 …/train.csv --oasst …/en_100_tree.jsonl --boolq …/dev.jsonl \
        --bbq …/Religion.jsonl …/Age.jsonl

Writes include/nightshift/evaluation/heads.safetensors and prints the measurements of docs/scorers.md as JSON. The sources,
their licences and what is taken from each are named there. Takes three minutes of one processor.
"""

from __future__ import annotations

import argparse
import csv
import html
import json
import random
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import save_file
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import precision_recall_fscore_support, roc_auc_score
from sklearn.model_selection import GroupKFold

from nightshift.evaluation.heads import WEIGHTS, plain
from nightshift.evaluation.refusal import words_of_refusal
from nightshift.evaluation.sentence_embeddings import SentenceEmbedder

SEED = 17
FOLDS = 5  # GroupKFold spreads the largest groups first: each of the five models of XSTest is a fold of its own
STRENGTH = 10.0  # inverse regularisation, chosen among 1, 10, 30 and 100 on the held-out folds
# Of the tweets by kind (hate, offensive, neither) as many as HateCheck has sentences: both count alike.
TWEETS = {"0": 1_000, "1": 1_250, "2": 1_500}
MESSAGES, SENTENCES, STORIES = 2_000, 800, 300
# The model in these conversations does refuse now and then, and nobody labelled where.
ONLY_MEASURED = {"refusal": ["oasst"], "toxicity": []}


@dataclass
class Texts:
    """Texts with labels. `sources` names where each is from, `groups` what must not be split over folds."""

    texts: list[str] = field(default_factory=list)
    labels: list[int] = field(default_factory=list)
    sources: list[str] = field(default_factory=list)
    groups: list[str] = field(default_factory=list)

    def add(self, text: str, label: int, source: str, group: str) -> None:
        """Add one text."""
        if text.strip():
            self.texts.append(plain(text))
            self.labels.append(label)
            self.sources.append(source)
            self.groups.append(f"{source} {group}")


def main() -> None:
    """Train both heads."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--xstest", nargs="+", type=Path, required=True, help="completions with refusal labels")
    for name in ("davidson", "hatecheck", "banking77", "oasst", "boolq"):
        parser.add_argument(f"--{name}", type=Path, required=True)
    parser.add_argument("--bbq", nargs="+", type=Path, required=True, help="BBQ questions by category")
    parser.add_argument("--output", type=Path, default=WEIGHTS)
    paths = parser.parse_args()
    ordinary = _ordinary(paths)
    completions = _completions(paths.xstest)
    sets = {"refusal": _refusals(completions, ordinary), "toxicity": _toxic(paths, completions, ordinary)}
    texts = sorted({text for data in sets.values() for text in data.texts})
    vectors = dict(zip(texts, SentenceEmbedder().embed(texts), strict=True))
    weights: dict[str, np.ndarray[Any, Any]] = {}
    report = {}
    for head, data in sets.items():
        features = np.array([vectors[text] for text in data.texts])
        if head == "refusal":
            features = np.hstack([features, [words_of_refusal(text) for text in data.texts]])
        taught = ~np.isin(data.sources, ONLY_MEASURED[head])
        report[head] = _measure(features, data, taught)
        model = _fit(features[taught], np.array(data.labels)[taught])
        weights[f"{head}.weight"] = model.coef_[0].astype(np.float32)
        weights[f"{head}.bias"] = model.intercept_.astype(np.float32)
    save_file(weights, paths.output)
    print(json.dumps(report, indent=1))


def _fit(features: np.ndarray[Any, Any], labels: np.ndarray[Any, Any]) -> LogisticRegression:
    return LogisticRegression(C=STRENGTH, max_iter=3_000).fit(features, labels)


def _measure(features: np.ndarray[Any, Any], data: Texts, taught: np.ndarray[Any, Any]) -> dict[str, dict[str, float]]:
    """What heads trained on the other folds' texts (those in the mask `taught`) say of each text, by source."""
    labels, sources, groups = np.array(data.labels), np.array(data.sources), np.array(data.groups)
    said = np.zeros(len(labels))
    for others, test in GroupKFold(FOLDS).split(features, labels, groups):
        train = others[taught[others]]
        said[test] = _fit(features[train], labels[train]).predict_proba(features[test])[:, 1]
    return {source: _numbers(said[sources == source], labels[sources == source]) for source in dict.fromkeys(sources)}


def _numbers(said: np.ndarray[Any, Any], labels: np.ndarray[Any, Any]) -> dict[str, float]:
    positive = said >= 0.5
    numbers = {"texts": len(labels), "accuracy": float((positive == labels).mean()), "mean": float(said.mean())}
    if labels.any():
        precision, recall, _, _ = precision_recall_fscore_support(labels, positive, average="binary")
        numbers |= {"auc": roc_auc_score(labels, said), "precision": precision, "recall": recall}
    return {key: round(value, 4) for key, value in numbers.items()}


def _refusals(completions: list[dict[str, str]], ordinary: Texts) -> Texts:
    """Completions by model, so that each model's are judged by a head that saw none of them, and ordinary texts."""
    data = Texts()
    for row in completions:
        data.add(row["completion"], int(not row["final_label"].startswith("1")), "xstest", row["model"])
    return _with(data, ordinary)


def _toxic(paths: argparse.Namespace, completions: list[dict[str, str]], ordinary: Texts) -> Texts:
    """Tweets, HateCheck by template, and texts that are not toxic: ordinary ones, and what models say when provoked."""
    data = Texts()
    tweets: dict[str, list[str]] = {kind: [] for kind in TWEETS}
    for row in _rows(paths.davidson):
        tweets[row["class"]].append(_without_marks(row["tweet"]))
    for kind, texts in tweets.items():
        for text in _some(texts, TWEETS[kind]):
            data.add(text, int(kind != "2"), "davidson", text)
    for row in _rows(paths.hatecheck):
        data.add(row["test_case"], int(row["label_gold"] == "hateful"), "hatecheck", row["templ_id"])
    for row in completions:
        data.add(row["completion"], 0, "xstest", row["prompt"])
    return _with(data, ordinary)


def _ordinary(paths: argparse.Namespace) -> Texts:
    """Texts taken for neither refusing nor toxic.

    Customers' messages, names of intents, conversations with a model, sentences of an encyclopedia, and what names
    groups of people without judging them.
    """
    data = Texts()
    rows = list(_rows(paths.banking77))
    for row in _some(rows, MESSAGES):
        data.add(row["text"], 0, "banking77 messages", row["category"])
    for intent in sorted({row["category"] for row in rows}):
        data.add(intent.replace("_", " ").rstrip("?"), 0, "banking77 intents", intent)
    for line in paths.oasst.read_text(encoding="utf-8").splitlines():
        tree = json.loads(line)["prompt"]
        for text in _conversation(tree):
            data.add(text, 0, "oasst", tree["message_id"])
    passages = [json.loads(line)["passage"] for line in paths.boolq.read_text(encoding="utf-8").splitlines()]
    for passage in _some(passages, SENTENCES):
        data.add(_some(re.split(r"(?<=[.!?])\s+", passage), 1)[0], 0, "boolq", passage)
    for path in paths.bbq:
        questions = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
        open_stories = {
            row["context"]: row["question_index"] for row in questions if row["context_condition"] == "ambig"
        }
        for story in _some(sorted(open_stories), STORIES):
            data.add(story, 0, "bbq", f"{path.stem} {open_stories[story]}")
    return data


def _conversation(message: dict[str, Any]) -> Iterator[str]:
    yield message["text"]
    for reply in message.get("replies", []):
        yield from _conversation(reply)


def _completions(paths: list[Path]) -> list[dict[str, str]]:
    return [row | {"model": path.stem} for path in sorted(paths) for row in _rows(path)]


def _with(data: Texts, more: Texts) -> Texts:
    return Texts(
        data.texts + more.texts, data.labels + more.labels, data.sources + more.sources, data.groups + more.groups
    )


def _without_marks(tweet: str) -> str:
    """A tweet without what only tweets have: addresses, `RT @name:`, hash signs, marks in front."""
    text = re.sub(r"https?://\S+|\bRT\b|@\w+:?|#", " ", html.unescape(html.unescape(tweet)))
    return " ".join(text.split()).lstrip('!:" ')


def _some(items: list[Any], count: int) -> list[Any]:
    return random.Random(SEED).sample(items, min(count, len(items)))  # noqa: S311


def _rows(path: Path) -> Iterator[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        yield from csv.DictReader(file)


if __name__ == "__main__":
    main()

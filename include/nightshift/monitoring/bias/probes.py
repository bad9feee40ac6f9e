"""What a model says to the sets: asked once and kept, by model and set. The same model the next interval is no work."""

from __future__ import annotations

import json
import logging
import math
import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from upath import UPath

from nightshift.data.interactions import OF_SOME_LANGUAGES, UNSCORED, Unscored
from nightshift.errors import BadEnvironment
from nightshift.evaluation.answers import EvaluatedModel
from nightshift.evaluation.likeness import exact_match
from nightshift.inference.engine import Engine, ReferenceAnswer, TokenEngine, about
from nightshift.inference.engines import chat_engine, open_engine, open_token_engine
from nightshift.inference.retrieving import Retriever
from nightshift.monitoring.bias.counterfactuals import Message, key_of, messages_of
from nightshift.monitoring.bias.questions import ask_questions
from nightshift.monitoring.bias.sets import bbq, crows_pairs, stratified
from nightshift.monitoring.bias.stereotypes import ask_pairs
from nightshift.monitoring.bias.verdict import Section
from nightshift.settings.application import Application
from nightshift.settings.policies import Bias
from nightshift.storage.files import scratch_folder
from nightshift.storage.manifest import Manifest, Parent, digest_of
from nightshift.storage.partition import fetch, find, partition_of, publish
from nightshift.training.base_model import resolve_tokenizer

ANSWERS = "answers.json"
VERSION = 4  # of how models are asked; another one asks all again
EVERYTHING = 10_000

Row = dict[str, Any]
Report = Callable[[int, int], None]

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Sets:
    """What an interval's probes ask."""

    counterfactuals: list[Message]
    stereotypes: list[Any]
    questions: list[Any]


@dataclass(frozen=True)
class Probed:
    """The answers of one model to one set; `new` says that it was asked now."""

    probe: Section
    partition: UPath
    manifest: Manifest
    rows: list[Row]
    new: bool

    @property
    def parent(self) -> Parent:
        """This partition, as the manifests of those made from it name it."""
        return Parent(uri=str(self.partition), digest=self.manifest.digest)


def sets_of(application: Application, held_out: Sequence[Mapping[str, Any]], *, full: bool) -> Sets:
    """Return the parts of the sets that the policy asks for, or all of them: the same for every interval.

    BBQ's questions are taken in fours, which share a context; a count between is rounded down.
    """
    policy: Bias = application.bias
    pairs, fours = crows_pairs(), bbq()
    counts = (policy.counterfactual_pairs, policy.stereotype_pairs, policy.questions // 4)
    if application.inference.hosted:  # an endpoint does not tell how likely its model finds a text
        counts = (policy.counterfactual_pairs, 0, 0)
    # What is switched off stays off on the day of the full sets.
    messages, sentences, contexts = (EVERYTHING if full and count else count for count in counts)
    chosen = stratified(fours, contexts, lambda four: four[0].category, lambda four: four[0].context + four[0].id)
    return Sets(
        counterfactuals=messages_of(application, held_out, messages) if messages else [],
        stereotypes=stratified(pairs, sentences, lambda pair: pair.bias_type, lambda pair: pair.more),
        questions=[question for four in chosen for question in four],
    )


class AskedModel:
    """One model that is asked; it is loaded when the first set was not asked before."""

    def __init__(self, model: EvaluatedModel, storage: str, folder: Path) -> None:
        self.model, self._application = model, model.application
        self._storage, self._folder = storage, folder
        self._cost = 0.0  # what an endpoint took for the set that is asked

    @property
    def _answer_tokens(self) -> int:
        """The longest answer to a counterfactual message: as long as those that users get."""
        return self._application.inference.max_new_tokens

    @cached_property
    def _tokens(self) -> TokenEngine:
        return open_token_engine(self._model_folder, self._application, max_new_tokens=self._answer_tokens)

    @cached_property
    def _engine(self) -> Engine:
        app = self._application
        if app.inference.hosted:
            return open_engine(self._model_folder, app)
        return chat_engine(self._tokens, app, max_new_tokens=self._answer_tokens)

    @cached_property
    def _model_folder(self) -> Path:
        return self.model.folder(self._folder)

    def unload(self) -> None:
        """Let go of the model, so that another one finds the memory; the next question loads it again."""
        for name in ("_engine", "_tokens"):
            vars(self).pop(name, None)

    def probe(self, probe: Section, items: Sequence[Any], report: Report) -> Probed:
        """Return the model's answers to a set, from storage where it was asked before.

        :raises BadInput: what is kept is damaged, or the model is gone.
        """
        inputs: dict[str, Any] = {
            "probe": probe, "model": self.model.weights, "set": digest_of([asdict(item) for item in items]),
            "count": len(items), "version": VERSION,
        }  # fmt: skip
        if probe == "counterfactuals":
            inputs |= {"prompt": self._application.prompt.model_dump(mode="json"), "answer_tokens": self._answer_tokens}
            inputs |= self._application.answer_inputs | self._application.scoring_inputs
        partition = partition_of(self._storage, self._application.name, "probes", digest_of(inputs)[:16])
        manifest = find(partition, inputs)
        if manifest is None:
            log.info("asking the %s model %s: %d %s", self.model.role, self.model.name, len(items), probe)
            return self._ask(probe, items, inputs, partition, report)
        file = fetch(partition, manifest, ANSWERS, self._folder / partition.name)
        return Probed(probe, partition, manifest, json.loads(file.read_bytes()), new=False)

    def _ask(
        self, probe: Section, items: Sequence[Any], inputs: dict[str, Any], partition: UPath, report: Report
    ) -> Probed:
        wall, processor, self._cost = time.monotonic(), _processor_seconds(), 0.0
        if probe == "stereotypes":
            rows = ask_pairs(self._tokens, items, report)
        elif probe == "questions":
            rows = ask_questions(self._tokens, items, report)
        else:
            rows = self._counterfactuals(self._engine, items, report)
        with scratch_folder(UPath(self._storage)) as folder:
            (folder / ANSWERS).write_text(json.dumps(rows, ensure_ascii=False), encoding="utf-8")
            manifest = publish(
                partition,
                folder,
                kind="probes",
                application=self._application.name,
                inputs=inputs,
                rows={ANSWERS: len(rows)},
                counts={"asked": len({key_of(row) for row in rows} if probe == "counterfactuals" else items)},
                facts={
                    "role": self.model.role,
                    "model": self.model.name,
                    "seconds": round(time.monotonic() - wall, 1),
                    "processor_seconds": round(_processor_seconds() - processor, 1),
                    **(self._engine.about if probe == "counterfactuals" else about(self._tokens)),
                    **({"cost": round(self._cost, 6)} if self._cost else {}),
                },
            )
        return Probed(probe, partition, manifest, rows, new=True)

    def _counterfactuals(self, engine: Engine, messages: Sequence[Message], report: Report) -> list[Row]:
        """Every message in every version through the application's own prompt, with the scores of its answer.

        What was said before it comes first. A message that the model cannot read in one version is asked in none.

        `wanted_probability` is that of the wanted answer's tokens, their geometric mean. A score is None where its scorer
        does not know the language; where that of an answer cannot be told it is the message's, without its writer.

        :raises BadEnvironment: a scorer failed.
        """
        from nightshift.evaluation.scorers import Scorers

        everything = [(message, version, text) for message in messages for version, text in message.versions.items()]
        asked_with = [_conversation(message, text) for message, _, text in everything]
        retriever = Retriever(self._application, self._folder / "index")
        responses = engine.answer(retriever.given(asked_with), report, references=True)
        self._cost = sum(answer.paid for answer in responses)
        unread = {one.message for (one, _, _), answer in zip(everything, responses, strict=True) if answer.too_long}
        if unread:
            log.warning("%d of %d messages are more than the model reads: not asked", len(unread), len(messages))
        kept = [place for place, (message, _, _) in enumerate(everything) if message.message not in unread]
        asked, answers = [everything[place] for place in kept], [responses[place] for place in kept]
        if not asked:
            return []
        texts = [answer.text for answer in answers]
        # An LLM judge is shown an interval's answers, never these.
        hosted = self._application.inference.hosted
        tokenizer = resolve_tokenizer(self._application.base_model) if hosted else self._model_folder
        scorers = Scorers(self._application.model_copy(update={"judge": None}), tokenizer)
        nothing: list[str | None] = [None] * len(texts)
        finished: list[str | None] = [answer.finish_reason for answer in answers]
        scores = scorers.score([message.message for message, _, _ in asked], texts, nothing, nothing, finished)
        failed = {name for row in scores[UNSCORED] for name, why in row.items() if why == Unscored.FAILED}
        if broken := sorted(failed.intersection(OF_SOME_LANGUAGES)):
            raise BadEnvironment(f"the scorer of {', '.join(broken)} gave no number for some answers: is it damaged?")
        return [
            {
                "message": message.message,
                "wanted": message.wanted,
                "conversation": message.conversation,
                "version": version,
                "text": text,
                "answer": answer,
                "exact_match": exact_match(answer, message.wanted),
                "wanted_probability": _probability(response.reference),
                "toxicity": scores["toxicity"][at],
                "refusal": scores["refusal"][at],
                "sentiment": None if (mood := scores["sentiment"][at]) is None else (mood + 1) / 2,
            }
            for at, ((message, version, text), answer, response) in enumerate(zip(asked, texts, answers, strict=True))
        ]


def _conversation(message: Message, text: str) -> Row:
    """A message in one of its versions, with its wanted answer, as a row of examples."""
    turns = [{"role": "user", "content": text}, {"role": "assistant", "content": message.wanted}]
    return {"digest": message.message, "messages": [*message.before, *turns]}


def _probability(reference: ReferenceAnswer | None) -> float | None:
    """The geometric mean of the probabilities of a wanted answer's tokens, where they were measured."""
    return math.exp(-reference.loss / reference.tokens) if reference and reference.tokens else None


def _processor_seconds() -> float:
    """Processor time of this process so far, over all its threads."""
    times = os.times()
    return times.user + times.system

"""Retrieves passages of the application's documents for each row before its model is asked.

They reach the model through the variable `context` of the prompt's file, if it has one and the row has a single turn; else
they precede the row's last question. Either way they are plain text in the user's turn: nothing in them is interpreted as a
template, a tag or a control token.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from upath import UPath

from nightshift.settings.application import Application
from nightshift.settings.pinned_index import CONTEXT
from nightshift.storage.manifest import require_manifest

if TYPE_CHECKING:
    from nightshift.retrieval.kept_vectors import KeptVectors
    from nightshift.retrieval.search import Index, Passage

# A change of this text needs a higher VERSION in jobs/generate.py and evaluation/answers.py: it changes the prompts.
WORDING = "Answer from these passages, and cite those you use by number, as [1].\n\n{passages}\n\n{question}"


class Retriever:
    """Retrieves with the index of an application's version; without an index, rows stay as they are.

    :param folder: for local copies of the index.
    """

    def __init__(self, application: Application, folder: Path) -> None:
        self._pinned, prompt = application.index, application.prompt
        self._endpoints, settings = application.embedding_endpoints, application.retrieval
        self._database = settings.database if settings else None
        self._models = settings.models if settings else {}
        self._by_variable = any(CONTEXT in file.variables for file in prompt.files.values())
        self._in_steps = bool(prompt.steps)  # steps also apply to the last question of longer conversations
        self._index: Index | None = None
        self._folder = folder
        self._keep_as: str | None = None
        self._kept: KeptVectors | None = None

    def keep_questions(self, name: str) -> None:
        """Keep an endpoint's embeddings of questions under a name, so that the same rows get the same passages again."""
        self._keep_as = name

    def forget_questions(self) -> None:
        """Remove the kept embeddings."""
        if self._kept:
            self._kept.drop()

    def given(self, rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
        """Return the rows with their passages, in `messages` or `metadata`, and in `retrieved` and `context` as interactions.

        A row without a matching passage has an empty `retrieved` and no `context`, and is asked as it is.

        :raises BadInput: the index is missing or damaged, or the embedding endpoint refuses.
        :raises BadEnvironment: the embedding endpoint does not answer.
        """
        if self._pinned is None:
            return [dict(row) for row in rows]
        if self._index is None:
            from nightshift.retrieval.search import Index

            partition = UPath(self._pinned.uri)
            manifest = require_manifest(partition, self._pinned.digest)
            if self._keep_as and "url" in manifest.inputs["embedder"]:
                from nightshift.retrieval.kept_vectors import KeptVectors

                self._folder.mkdir(parents=True, exist_ok=True)
                self._kept = KeptVectors(partition.parent.parent, self._keep_as, self._folder)
            self._index = Index.open(
                partition, manifest, self._folder, self._endpoints, self._database, models=self._models, kept=self._kept
            )
        questions = [row["messages"][_last_question(row)]["content"] for row in rows]
        found = self._index.retrieve(questions, self._pinned.k, self._pinned.search)
        return [self._with(row, passages) for row, passages in zip(rows, found, strict=True)]

    def _with(self, row: Mapping[str, Any], passages: Sequence[Passage]) -> dict[str, Any]:
        retrieved = [
            {"id": one.id, "document": one.document, "score": one.score, "relevance": one.relevance} for one in passages
        ]
        if not passages:
            return {**row, "retrieved": retrieved, "context": None}
        text, at, messages = numbered(passages), _last_question(row), list(row["messages"])
        metadata = dict(row.get("metadata") or ())
        if self._by_variable and (self._in_steps or [turn["role"] for turn in messages].count("user") == 1):
            metadata[CONTEXT] = text
        else:
            # Braces in a question or a document are not placeholders.
            asked = WORDING.format(passages=text, question=messages[at]["content"])
            messages[at] = {**messages[at], "content": asked}
        return {**row, "messages": messages, "metadata": metadata, "retrieved": retrieved, "context": text}


def numbered(passages: Sequence[Passage]) -> str:
    """Return passages as one text, each with its number from 1 and its title. No other line begins with a number.

    So a document cannot imitate another one with a number of its own.
    """
    return "\n".join(
        f"[{number}] " + "\n    ".join(line for line in f"{one.title}\n{one.text}".splitlines() if line.strip())
        for number, one in enumerate(passages, 1)
    )


def _last_question(row: Mapping[str, Any]) -> int:
    """The index of the last user turn."""
    return max(place for place, turn in enumerate(row["messages"]) if turn["role"] == "user")

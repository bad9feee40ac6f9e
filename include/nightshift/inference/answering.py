"""The `responses` partitions of an interval: its prompts are answered and published in parts."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from upath import UPath

from nightshift.data.interactions import GIVEN, STEPS
from nightshift.inference.engine import Engine, Report
from nightshift.inference.prompts import Prompts
from nightshift.inference.retrieving import Retriever
from nightshift.settings.application import Application
from nightshift.storage.files import scratch_folder
from nightshift.storage.manifest import Manifest, Parent, digest_of
from nightshift.storage.partition import find as find_partition
from nightshift.storage.partition import publish

RESPONSES = "responses.parquet"
LATENCIES = "latencies.parquet"  # a separate file: it differs between attempts with equal answers

RESPONSE_SCHEMA = pa.schema(
    [  # of a sequence of prompts, tokens are those of all steps
        pa.field("row", pa.int64(), nullable=False),  # in the prompts, from 0
        pa.field("digest", pa.string(), nullable=False),  # of the prompt's conversation
        pa.field("response", pa.string(), nullable=False),
        pa.field("tokens", pa.int32(), nullable=False),  # of reasoning and response as generated, without its end
        pa.field("finish_reason", pa.string(), nullable=False),  # stop, length or refused
        pa.field("reasoning", pa.string(), nullable=False),
        pa.field("reasoning_tokens", pa.int32(), nullable=False),
        pa.field("refusal", pa.string(), nullable=False),  # message of the endpoint that refused the row
        *GIVEN,
        STEPS,
    ]
)
AS_ANSWERED = ("tokens", "finish_reason", "reasoning", "reasoning_tokens", "refusal", "latency_ms", "steps")
LATENCY_SCHEMA = pa.schema([("row", pa.int64()), *((name, pa.float32()) for name in ("latency_ms", "cost", "logprob"))])


def part_address(responses: UPath, first: int, last: int) -> UPath:
    """Return the address of the part with the rows from `first` to `last`, both included; names sort by row."""
    return responses / f"{first:09}-{last:09}"


@dataclass
class Answering:
    """The parts of one interval and one model, found or made.

    :param responses: the folder of all parts.
    :param inputs: what determines the answers.
    :param parents: URI and digest of the prompts and of the model.
    :param model_folder: makes the local model folder; called only if prompts are left to answer.
    :param folder: for local copies.
    :param in_batches: use the endpoint's batches if the application has them; the answers may take a day.
    """

    application: Application
    prompts: Prompts
    storage: str
    responses: UPath
    inputs: dict[str, Any]
    parents: list[tuple[str, str]]
    model_folder: Callable[[], Path]
    folder: Path
    in_batches: bool = False
    _engine: Engine | None = field(default=None, init=False)
    _retriever: Retriever = field(init=False)

    def __post_init__(self) -> None:
        self._retriever = Retriever(self.application, self.folder)

    def find(self, first: int, last: int) -> Manifest | None:
        """Return the manifest of an answered part, or None."""
        return find_partition(part_address(self.responses, first, last), self._inputs(first, last))

    def make(self, first: int, last: int, report: Report) -> Manifest:
        """Answer the prompts of a part and publish them.

        :raises BadInput: the model cannot be run here, or its chat template is unusable.
        :raises BadEnvironment: the configured engine is missing.
        """
        engine, rows = self._opened(), self._rows(first, last)
        began = time.perf_counter()
        # A prompt that is too long gets an empty response with finish reason `length`, and does not fail the interval.
        responses = engine.answer(rows, report)
        seconds = time.perf_counter() - began
        table: dict[str, list[Any]] = {
            "row": list(range(first, first + len(rows))),
            "digest": [row["digest"] for row in rows],
            "response": [response.text for response in responses],
            **{name: [getattr(response, name) for response in responses] for name in AS_ANSWERED},
            **{field.name: [row.get(field.name) for row in rows] for field in GIVEN},
        }
        reasons = table["finish_reason"]
        cost = sum(response.paid for response in responses)
        latencies = {"row": table["row"], "latency_ms": table.pop("latency_ms")}
        latencies["logprob"] = [response.logprob for response in responses]
        latencies["cost"] = [response.cost if cost else None for response in responses]
        rare = {"refused": reasons.count("refused"), "reasoning_tokens": sum(table["reasoning_tokens"])}
        with scratch_folder(UPath(self.storage)) as folder:
            pq.write_table(pa.table(table, schema=RESPONSE_SCHEMA), folder / RESPONSES, compression="zstd")
            pq.write_table(pa.table(latencies, schema=LATENCY_SCHEMA), folder / LATENCIES, compression="zstd")
            return publish(
                part_address(self.responses, first, last),
                folder,
                kind="responses",
                application=self.application.name,
                inputs=self._inputs(first, last),
                rows={RESPONSES: len(rows)},
                counts={
                    "rows": len(rows),
                    "tokens": sum(table["tokens"]),
                    "stop": reasons.count("stop"),
                    "length": reasons.count("length"),
                    # Part of those by length: prompts that were too long to ask.
                    "too_long": sum(response.too_long for response in responses),
                    **{name: number for name, number in rare.items() if number},
                },
                facts={
                    "seconds": round(seconds, 3),
                    "prompt_tokens": sum(one.prompt_tokens for one in responses if not one.too_long),
                    **engine.about,
                    **({"cost": round(cost, 6)} if cost else {}),
                },
                parents=[Parent(uri=uri, digest=digest) for uri, digest in self.parents],
                logs={LATENCIES},
            )

    def announce(self, parts: Sequence[tuple[int, int]]) -> None:
        """Start the batches of all unanswered parts, if the endpoint is asked in batches.

        A batch is found again by its requests. Embeddings from an endpoint are not reproducible to the last bit, so passages
        may change: the embeddings are kept until :meth:`finish`.

        :raises BadInput: the endpoint refuses.
        :raises BadEnvironment: it cannot be reached.
        """
        endpoint = self.application.inference.hosted
        if not self.in_batches or endpoint is None or endpoint.batch is None:
            return
        from nightshift.inference.endpoint_engine import EndpointEngine

        self._retriever.keep_questions(digest_of([self.inputs, parts])[:16])
        for first, last in parts:
            if self.find(first, last) is None and isinstance(engine := self._opened(), EndpointEngine):
                engine.announce(self._rows(first, last))

    def finish(self) -> None:
        """Remove the kept embeddings once all announced parts are answered."""
        self._retriever.forget_questions()

    def _opened(self) -> Engine:
        if self._engine is None:
            from nightshift.inference.engines import open_engine

            app = self.application
            reviewed = bool(app.feedback and app.feedback.review)
            self._engine = open_engine(self.model_folder(), app, in_batches=self.in_batches, logprobs=reviewed)
        return self._engine

    def _rows(self, first: int, last: int) -> list[dict[str, Any]]:
        rows = self.prompts.read(first, last, self.application.prompt.columns)
        return self._retriever.given(rows.to_pylist())

    def _inputs(self, first: int, last: int) -> dict[str, Any]:
        return {**self.inputs, "rows": [first, last]}

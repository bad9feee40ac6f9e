"""The `interactions` partition: who asked what, what was answered by which model, and how good that was."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from enum import StrEnum
from typing import Any

import pyarrow as pa

from nightshift.settings.metrics import Metric

INTERACTIONS = "interactions.parquet"
SCORES_VERSION = 4  # raised when the same responses would be scored in another way, so that they are scored again
SCORES = ("valid", "refusal", "toxicity", "sentiment", "pii", "groundedness", "judge", "exact_match", "rouge_l")
# Of these, a row lacks one only where its scorer failed or does not know the row's language.
OF_SOME_LANGUAGES = ("refusal", "toxicity", "sentiment")
JUDGE_REASON = "judge_reason"  # the judge's words for its score
LOGPROB = "logprob"  # mean log-probability (nats) of the generated tokens, thoughts and the end token included
UNSCORED = "unscored"  # the column with the reasons


class Unscored(StrEnum):
    """Why a row has no value of a score."""

    NOT_SAMPLED = "not_sampled"  # the judge is shown a sample, or there is none
    # A language that the scorer does not know, no context or one in another language, no content word, no reference answer, or
    # an own scorer gave None.
    NOT_APPLICABLE = "not_applicable"
    FAILED = "failed"  # the scorer was asked and gave nothing that is a value of it


# The passages that a model was given, the best first; scores are those of the index's search, of any scale. What was answered
# before passages had a relevance lacks it.
RETRIEVED = pa.list_(
    pa.struct(
        [
            *(pa.field(name, pa.string()) for name in ("id", "document")),
            *(pa.field(name, pa.float32()) for name in ("score", "relevance")),
        ]
    )
)
GIVEN = [
    pa.field(
        "retrieved", RETRIEVED
    ),  # null: the version has no index; what was answered before there were any lacks both
    pa.field("context", pa.string()),  # the passages as the model was given them; null: none
]
# What each prompt of a sequence was answered, in order; null: it was a single one, as those of before there were sequences.
STEPS = pa.field(
    "steps",
    pa.list_(
        pa.struct(
            [
                pa.field("name", pa.string()),
                pa.field("text", pa.string()),
                pa.field("tokens", pa.int32()),
                pa.field("finish_reason", pa.string()),
            ]
        )
    ),
)
INTERACTION_SCHEMA = pa.schema(
    [
        pa.field("row", pa.int64(), nullable=False),  # in the prompts, from 0
        pa.field("digest", pa.string(), nullable=False),  # of the prompt's conversation, as in the examples
        pa.field("id", pa.string()),
        pa.field("timestamp", pa.timestamp("us", tz="UTC")),
        pa.field("metadata", pa.map_(pa.string(), pa.string()), nullable=False),
        pa.field("prompt", pa.string(), nullable=False),  # the user's text, before the application's template
        pa.field("response", pa.string(), nullable=False),
        pa.field("reference", pa.string()),  # the wanted answer; null: unknown
        # What the response must rest on: the row's own, or the passages of `retrieved`; null: none was given.
        pa.field("context", pa.string()),
        # Null where nothing was looked for; partitions of before there were indexes lack these two.
        pa.field("retrieved", RETRIEVED),
        pa.field("retrieval_relevance", pa.float32()),
        pa.field("model", pa.string(), nullable=False),  # version in the registry; "": served elsewhere
        pa.field("model_digest", pa.string(), nullable=False),
        pa.field("prompt_version", pa.string(), nullable=False),  # digest of the application's prompt, 12 hex digits
        pa.field("latency_ms", pa.float32()),  # from the start of its batch to its end; null: unknown
        pa.field("cost", pa.float32()),  # by inference.endpoint.price; null: unknown
        pa.field(LOGPROB, pa.float32()),  # null: unknown; partitions of before it lack this column
        pa.field("generated_tokens", pa.int32()),  # as the engine counts them, reasoning included; null: unknown
        pa.field("finish_reason", pa.string()),  # stop, length or, by an endpoint, refused; null: unknown
        pa.field("prompt_characters", pa.int32(), nullable=False),
        pa.field("prompt_tokens", pa.int32(), nullable=False),
        pa.field("prompt_language", pa.string(), nullable=False),  # ISO 639 code; "und": cannot be told
        pa.field("response_characters", pa.int32(), nullable=False),
        pa.field("response_tokens", pa.int32(), nullable=False),
        pa.field("response_language", pa.string(), nullable=False),
        # The scores are those of settings.metrics; null: none, and `unscored` says why.
        *(pa.field(score, pa.float32()) for score in SCORES),
        pa.field(
            JUDGE_REASON, pa.string()
        ),  # null: not judged, or without a reason; partitions of before it lack this column
        STEPS,
        # For each score that this row lacks, an Unscored; partitions of before scores version 2 lack this column.
        pa.field(UNSCORED, pa.struct([(score, pa.string()) for score in SCORES])),
    ]
)


def retrieval_relevance(retrieved: Sequence[Mapping[str, Any]] | None) -> float | None:
    """Return the metric of this name: the best relevance, 0 where nothing was found, None where nothing was looked for.

    None, too, where passages have no relevance yet.
    """
    if not retrieved:
        return None if retrieved is None else 0.0
    return max((one["relevance"] for one in retrieved if one.get("relevance") is not None), default=None)


def interaction_schema(own: Sequence[Metric]) -> pa.Schema:
    """Return INTERACTION_SCHEMA with the columns of an application's own scorers, before the reasons, and theirs among them."""
    *fields, reasons = INTERACTION_SCHEMA
    values = [pa.field(metric, pa.string() if metric.categorical else pa.float32()) for metric in own]
    why = pa.struct([*reasons.type, *(pa.field(metric, pa.string()) for metric in own)])
    return pa.schema([*fields, *values, pa.field(UNSCORED, why)])

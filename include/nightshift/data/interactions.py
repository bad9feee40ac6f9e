"""The `interactions` partition: who asked what, what was answered by which model, and how good that was."""

from __future__ import annotations

import pyarrow as pa

INTERACTIONS = "interactions.parquet"

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
        pa.field("context", pa.string()),  # what the response must rest on; null: none was given
        pa.field("model", pa.string(), nullable=False),  # version in the registry; "": served elsewhere
        pa.field("model_digest", pa.string(), nullable=False),
        pa.field("prompt_version", pa.string(), nullable=False),  # digest of the application's prompt, 12 hex digits
        pa.field("latency_ms", pa.float32()),  # from the start of its batch to its end; null: unknown
        pa.field("finish_reason", pa.string()),  # stop or length; null: unknown
        pa.field("prompt_characters", pa.int32(), nullable=False),
        pa.field("prompt_tokens", pa.int32(), nullable=False),
        pa.field("prompt_language", pa.string(), nullable=False),  # ISO 639 code; "und": cannot be told
        pa.field("response_characters", pa.int32(), nullable=False),
        pa.field("response_tokens", pa.int32(), nullable=False),
        pa.field("response_language", pa.string(), nullable=False),
        # The scores are those of monitoring.metrics.Metric; null: cannot be told for this row.
        pa.field("valid", pa.float32(), nullable=False),
        pa.field("refusal", pa.float32(), nullable=False),
        pa.field("toxicity", pa.float32(), nullable=False),
        pa.field("sentiment", pa.float32(), nullable=False),
        pa.field("pii", pa.float32(), nullable=False),
        pa.field("groundedness", pa.float32()),
        pa.field("judge", pa.float32()),
        pa.field("exact_match", pa.float32()),
        pa.field("rouge_l", pa.float32()),
    ]
)

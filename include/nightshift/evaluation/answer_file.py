"""The file with a model's answers to held-out examples and their scores, a row for each."""

from __future__ import annotations

import pyarrow as pa

from nightshift.data.interactions import GIVEN, STEPS

ANSWERS = "answers.parquet"
ANSWER_SCHEMA = pa.schema(
    [
        pa.field("digest", pa.string(), nullable=False),  # of the held-out example
        pa.field("prompt", pa.string(), nullable=False),
        pa.field("wanted", pa.string(), nullable=False),
        pa.field("answer", pa.string(), nullable=False),
        pa.field("answer_tokens", pa.int32(), nullable=False),
        pa.field("finished", pa.bool_(), nullable=False),  # false: cut off at the longest answer, or refused
        pa.field("too_long", pa.bool_(), nullable=False),  # true: longer than the model's context, so it was not asked
        pa.field("wanted_tokens", pa.int32(), nullable=False),  # of the reference answer, its end token included
        pa.field("wanted_loss", pa.float64(), nullable=False),  # summed over these tokens, in nats
        pa.field("exact_match", pa.float64(), nullable=False),
        pa.field("rouge_l", pa.float64(), nullable=False),
        pa.field("chrf", pa.float64(), nullable=False),
        # Further samples: the scores are means over `answer` and these; null: there is one answer.
        pa.field("others", pa.list_(pa.string())),
        pa.field("reasoning", pa.string()),  # before `answer`; its tokens are among `answer_tokens`
        pa.field("reasoning_tokens", pa.int32()),
        pa.field("finish_reason", pa.string()),  # stop, length or refused
        # From the start of the row's batch to the row's end; of an endpoint, of its request.
        pa.field("latency_ms", pa.float64()),
        pa.field("valid", pa.float64()),  # 1: in the application's response format
        pa.field("similarity", pa.float64()),  # to the reference answer, if a gate uses it, in known languages
        pa.field("preferred", pa.float64()),  # 1: likelier than the pair's rejected answer, if a gate uses it
        pa.field("cost", pa.float64()),  # of an endpoint; null: unknown
        pa.field("judge", pa.float64()),  # the judge's score, if a gate uses it
        *GIVEN,
        STEPS,
    ]
)

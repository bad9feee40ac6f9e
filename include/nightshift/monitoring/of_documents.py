"""What an interval says of the documents of its passages: questions they do not answer, and answers that stray from them."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from nightshift.data.similarity import connect
from nightshift.monitoring.cells import Numbers
from nightshift.monitoring.profiles import Profile
from nightshift.settings.metrics import Metric
from nightshift.shown import shown

DOCUMENTS = "documents.parquet"
FEWEST_ANSWERS = 10  # of a document, for a mean
SHOWN_DOCUMENTS, SHOWN_QUESTIONS = 20, 20
TEXT_CHARACTERS = 400  # of a question
FAR = 0.95  # of the reference's questions have a more relevant passage than what counts as a gap


def least_kept_to(interactions: Path, scratch: Path) -> pa.Table:
    """Return the documents whose passages answers keep to least: `document`, `answers`, `groundedness` (their mean, 0 to 1).

    An answer counts for each document that it was given a passage of.

    :param interactions: the file of an interval.
    """
    names = pq.read_schema(interactions).names
    if not {"retrieved", "groundedness"} <= {*names}:
        return pa.table({"document": pa.array([], pa.string()), "answers": [], "groundedness": []})
    with connect(scratch) as database:
        return database.sql(
            """
            WITH given AS (
                SELECT groundedness, unnest(list_distinct([one.document FOR one IN retrieved])) AS document
                FROM read_parquet(?) WHERE groundedness IS NOT NULL
            )
            SELECT document, count(*) AS answers, avg(groundedness) AS groundedness FROM given
            GROUP BY document HAVING count(*) >= ? ORDER BY groundedness, document LIMIT ?
            """,
            params=[str(interactions), FEWEST_ANSWERS, SHOWN_DOCUMENTS],
        ).to_arrow_table()


def gaps_in(profile: Profile, sample: pa.Table, of_reference: Profile) -> tuple[list[dict[str, str]], str]:
    """Return the questions of the sample that the documents answer least, and how many of the interval there are, in words.

    Those count whose best passage is less relevant than those of all but 5 % of the reference, which was judged, or not at all.
    """
    name = Metric.RETRIEVAL_RELEVANCE
    current, reference = (one.get(name) for one in (profile, of_reference))
    if not (isinstance(current, Numbers) and isinstance(reference, Numbers) and current.rows and reference.rows):
        return [], ""
    bound = reference.quantile(1 - FAR)
    values, counts = current.values, current.counts
    below, empty = ((counts[places].sum() / current.rows) for places in (values < bound, values <= 0))
    rows = sample.select(["prompt", name]).to_pylist()
    unanswered = [row for row in rows if row[name] is not None and (row[name] < bound or row[name] <= 0)]
    worst: dict[str, float] = {}
    for row in sorted(unanswered, key=lambda row: row[name]):
        worst.setdefault(row["prompt"], row[name])
    least = list(worst.items())[:SHOWN_QUESTIONS]
    shown_rows = [{"prompt": shown(prompt, TEXT_CHARACTERS), "relevance": f"{value:.2f}"} for prompt, value in least]
    return shown_rows, (
        f"{empty:.0%} of the questions found no passage that has to do with them. With these, the best passage of "
        f"{below:.0%} has a relevance below {bound:.2f}, and of {1 - FAR:.0%} of the reference. The least answered of "
        f"{len(rows):,} sampled questions:"
    )

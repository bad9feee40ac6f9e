"""The first pass over raw rows: each is cleaned, redacted and measured, or set aside. It never looks at two rows at once,
so pieces of a file may be staged anywhere and in any order.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import accumulate, chain, compress
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from nightshift.data.examples import EXAMPLE_SCHEMA
from nightshift.data.measures import TextMeasures
from nightshift.data.names import NameFinder
from nightshift.data.normalise import SAME_ANSWERS, Conversation, conversation, known_by
from nightshift.data.pieces import Piece
from nightshift.data.pii import redact
from nightshift.data.quarantine import Quarantined, Reason, Unusable, beginning, presentable, without
from nightshift.data.records import text_of
from nightshift.data.similarity import question_of
from nightshift.settings.intake import Columns, Ingest
from nightshift.settings.interval import Interval
from nightshift.storage.erasures import ErasedHashes

Part = Literal["examples", "traffic"]
NOTHING = ErasedHashes()

STAGED_SCHEMA = pa.schema(
    [
        pa.field("source_name", pa.string()),
        *(EXAMPLE_SCHEMA.field(name) for name in EXAMPLE_SCHEMA.names if name not in {"group", "split"}),
        pa.field("characters", pa.int64()),  # of everything that was said
        pa.field("question", pa.string()),  # similarity.question_of; of examples only, as what follows
        pa.field("answered", pa.string()),  # what near-duplicates have in common to the letter
    ]
)


@dataclass(frozen=True)
class Staged:
    """What became of the raw rows of a piece: `rows` (`STAGED_SCHEMA`) are usable, those `aside` (`QUARANTINE_SCHEMA`) not.

    `late` is the number of rows that were written before the interval began, `erased` of those left out because people had
    them erased.
    """

    rows: pa.Table
    aside: list[dict[str, Any]]
    late: int = 0
    erased: int = 0


class Staging:
    """Stages pieces of the sources of one part of an application.

    :param id_key: with which subjects, and ids that hold personal data, are hashed.
    :param erased: what is left out.
    """

    def __init__(  # noqa: PLR0917
        self,
        ingest: Ingest,
        interval: Interval,
        measures: TextMeasures,
        part: Part,
        id_key: bytes = b"",
        erased: ErasedHashes = NOTHING,
    ) -> None:
        self._ingest, self._interval, self._measures = ingest, interval, measures
        self._part, self._id_key, self._erased = part, id_key, erased
        self._names: NameFinder | None = None

    def __getstate__(self) -> dict[str, Any]:
        # Each process loads the models that find names itself.
        return {**self.__dict__, "_names": None}

    def stage(self, piece: Piece, source: str, file: str, columns: Columns) -> Staged:
        """Stage the rows of a piece of a file.

        :raises BadInput: the file as a whole cannot be used.
        """
        numbers, rows, aside, erased = [], [], [], 0
        for row in piece.rows():
            if isinstance(row, Quarantined):
                aside.append(self.set_aside(self._unread(row), file))
                continue
            try:
                rows.append(conversation(row, columns, self._ingest, self._interval, self._id_key))
                numbers.append(row.number)
            except Unusable as problem:
                subject, row_id = known_by(row, columns, self._id_key)
                if self._erased.hashes and self._erased.holds(self._id_key, subject, row_id):
                    erased += 1
                    continue
                raw = json.dumps(without(row.values, columns.subject), ensure_ascii=False, default=text_of)
                unusable = Quarantined(row.number, problem.reason, problem.detail, beginning(raw))
                aside.append(self.set_aside(self._unread(unusable), file, subject))
        languages = self._measures.languages([row.prompt for row in rows])
        late = sum(row.late for row in rows)
        if rows and (finder := self._finder()):
            rows = finder.redacted(rows, languages)
            # The two answers of a pair may have differed in a name alone.
            alike = [row.rejected is not None and row.rejected == row.messages[-1] for row in rows]
            for number in compress(numbers, alike):
                aside.append(self.set_aside(Quarantined(number, Reason.BAD_PAIR, SAME_ANSWERS, ""), file))
            other = [not same for same in alike]
            rows, numbers = list(compress(rows, other)), list(compress(numbers, other))
            languages = list(compress(languages, other))
        if self._erased.hashes:
            kept = [not self._erased.holds(self._id_key, row.subject, row.id, row.digest) for row in rows]
            erased += kept.count(False)
            rows, numbers = list(compress(rows, kept)), list(compress(numbers, kept))
            languages = list(compress(languages, kept))
        return Staged(self._table(rows, numbers, languages, source, file), aside, late, erased)

    def set_aside(self, row: Quarantined, file: str, subject: str | None = None) -> dict[str, Any]:
        """Return a row of `QUARANTINE_SCHEMA`. People read it: personal data does not belong there either."""
        texts = {name: presentable(getattr(row, name), self.redacted) for name in ("detail", "raw")}
        return {"source": file, "source_row": row.number, "reason": row.reason.value, **texts, "subject": subject}

    def _unread(self, row: Quarantined) -> Quarantined:
        # Which language it is in, and where its texts begin, is not known: names in it would be missed.
        return replace(row, raw="") if self._ingest.names else row

    def table(self, rows: list[Conversation], numbers: list[int], file: str) -> pa.Table:
        """Return rows that were cleaned and redacted before (`STAGED_SCHEMA`), each with its number in a file of feedback."""
        languages = self._measures.languages([row.prompt for row in rows])
        return self._table(rows, numbers, languages, file, file)

    def redacted(self, text: str) -> str:
        """Return a text without what the application has redacted."""
        return redact(text, self._ingest.redact, Counter())

    def redacted_answers(self, answers: list[str], languages: list[str]) -> list[str]:
        """Return answers without what the application has redacted, names among it, by the languages of their prompts."""
        texts, finder = list(map(self.redacted, answers)), self._finder()
        return finder.redacted_texts(texts, languages) if finder and texts else texts

    def _finder(self) -> NameFinder | None:
        if self._ingest.names:
            self._names = self._names or NameFinder(self._ingest.names)
        return self._names

    def _table(
        self, rows: list[Conversation], numbers: list[int], languages: list[str], source: str, file: str
    ) -> pa.Table:
        if not rows:
            return STAGED_SCHEMA.empty_table()
        # A row's fields are the columns of the same name.
        columns: dict[str, Sequence[Any]] = dict(zip(Conversation._fields, zip(*rows, strict=True), strict=True))
        prompts, nothing = columns["prompt"], pa.nulls(len(rows), pa.string())
        examples = self._part == "examples"
        columns |= {
            "source_name": pa.repeat(source, len(rows)),
            "source": pa.repeat(file, len(rows)),
            "source_row": numbers,
            "language": languages,
            "prompt_characters": list(map(len, prompts)),
            "prompt_tokens": self._measures.tokens(prompts),
            "answer_tokens": self._measures.tokens([answer or "" for answer in columns["answer"]]),
            "question": list(map(question_of, columns["messages"])) if examples else nothing,
            "answered": list(map(_answered, rows)) if examples else nothing,
        }
        arrays = {
            field.name: _array(columns[field.name], field.type) for field in STAGED_SCHEMA if field.name != "characters"
        }
        arrays["characters"] = _characters(arrays)
        return pa.Table.from_arrays([arrays[name] for name in STAGED_SCHEMA.names], schema=STAGED_SCHEMA)


def _array(values: Sequence[Any], kind: pa.DataType) -> pa.Array:
    """As `pa.array`, which takes several times as long for lists of records and for maps."""
    if not pa.types.is_list(kind) and not pa.types.is_map(kind):
        return pa.array(values, kind)
    offsets = pa.array([0, *accumulate(map(len, values))], pa.int32())
    if pa.types.is_map(kind):
        keys = pa.array(list(chain.from_iterable(values)), kind.key_type)
        items = pa.array([item for value in values for item in value.values()], kind.item_type)
        return pa.MapArray.from_arrays(offsets, keys, items)
    records = list(chain.from_iterable(values))
    there: set[str] = set().union(*records)
    fields = [
        pa.array([record.get(field.name) for record in records], field.type)
        if field.name in there
        else pa.nulls(len(records), field.type)
        for field in kind.value_type
    ]
    return pa.ListArray.from_arrays(offsets, pa.StructArray.from_arrays(fields, fields=list(kind.value_type)))


def _characters(columns: dict[str, pa.Array]) -> pa.Array:
    """How many characters were said in each row."""
    messages = columns["messages"]
    in_messages = np.cumsum(np.append(0, _of_message(messages.values)))[messages.offsets]
    others = [_length(columns[name]) for name in ("tools", "response", "context")]
    return pa.array(np.diff(in_messages) + sum([_of_message(columns["rejected"]), *others]))


def _of_message(messages: pa.StructArray) -> npt.NDArray[np.int64]:
    said, calls = (_length(pc.struct_field(messages, name)) for name in ("content", "tool_calls"))
    return said + calls


def _length(texts: pa.Array) -> npt.NDArray[np.int64]:
    return np.asarray(pc.fill_null(pc.utf8_length(texts), 0), dtype=np.int64)


def _answered(row: Conversation) -> str:
    """What near-duplicates have in common to the letter: the answers, and the system message, the tools, their calls and
    their results, behind which they were given."""
    if row.response is not None:
        return row.digest  # an answer that people judged resembles no other
    first = row.messages[0]
    system = first["content"] if first["role"] == "system" else ""
    # No cleaned text holds a zero byte.
    answered = f"{system}\0{row.answer or ''}" if system else row.answer or ""
    if row.tools or row.rejected or max(map(len, row.messages)) > 2:
        return json.dumps([answered, row.tools, row.rejected, [turn for turn in row.messages if len(turn) > 2]])
    return answered

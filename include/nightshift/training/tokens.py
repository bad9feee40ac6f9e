"""Tokenized examples: token ids, and which of them are trained on."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any, Literal

from nightshift.errors import BadInput
from nightshift.training.chat_template import ChatTemplate, Rendering

ROWS_AT_ONCE = 1_000  # rendered, tokenized and held


@dataclass(frozen=True)
class TokenizedExample:
    """Token ids of a conversation up to the end of its last answer.

    :param learned: ranges of `ids` (begin, end), rising: answers with their end-of-turn tokens. The last one ends with `ids`;
        none begins with them.
    """

    ids: list[int]
    learned: tuple[tuple[int, int], ...]

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def prompt(self) -> list[int]:
        """What the model is given when it is asked for the last answer."""
        return self.ids[: self.learned[-1][0]]

    @property
    def answer(self) -> list[int]:
        """The last answer with its end-of-turn token."""
        return self.ids[self.learned[-1][0] :]


def tokenize(
    rows: Iterable[Mapping[str, Any]],
    template: ChatTemplate,
    loss_on: Literal["last_answer", "all_answers"] = "last_answer",
) -> Iterator[TokenizedExample]:
    """Yield the rows of an examples table (`messages` ends with the answer) as tokens, in order.

    What is given is tokenized by itself, as it is at inference. Of `all_answers` an earlier one is learned where the template
    shows it in what is given later as it was said; some leave its thoughts out.

    :raises BadInput: the template refuses a row, or a row does not end with an answer.
    """
    for part in _parts(rows):
        renderings, earlier = [], []
        for row in part:
            if row["messages"][-1]["role"] != "assistant":
                raise BadInput(f"{_name(row)} does not end with an answer")
            messages = template.messages(row["messages"], row.get("metadata"))
            renderings.append(template.render(messages, [len(messages) - 1], _name(row), row.get("tools")))
            # What stands before the row's own turns is the application's: its examples are given, and not learned.
            own = len(messages) - sum(turn["role"] != "system" for turn in row["messages"])
            places = [
                place
                for place, message in enumerate(messages)
                if place >= own
                and message["role"] == "assistant"
                and (place == len(messages) - 1 or "tool_calls" not in message)
            ]
            several = loss_on == "all_answers" and len(places) > 1
            earlier.append(template.render(messages, places, _name(row), row.get("tools")) if several else None)
        for rendering, every, (given, answer) in zip(renderings, earlier, _ids(renderings, template), strict=True):
            ranges = _earlier(rendering, every, template) if every and every.given == rendering.given else []
            yield TokenizedExample([*given, *answer], (*ranges, (len(given), len(given) + len(answer))))


def prompt_ids(rows: Iterable[Mapping[str, Any]], template: ChatTemplate) -> Iterator[list[int]]:
    """Yield the token ids that the model is given for each row (`messages`), up to where its answer starts.

    An answer at the end of a conversation is left out: it is what the model is asked for.

    :raises BadInput: the template refuses a row.
    """
    for part in _parts(rows):
        renderings = []
        for row in part:
            turns = row["messages"]
            before = turns[:-1] if turns[-1]["role"] == "assistant" else turns
            messages = template.messages([*before, {"role": "assistant", "content": ""}], row.get("metadata"))
            renderings.append(template.render(messages, [len(messages) - 1], _name(row), row.get("tools")))
        asked = [(template.asked(rendering), rendering.renamed) for rendering in renderings]
        ids = _tokenized(template, asked)
        yield from (ids[one] for one in asked)


def filler(tokenizer: Any, known: int) -> int:
    """Return a token to fill rows with, which nothing looks at: the tokenizer's own if it is one of those that a model knows."""
    pad = tokenizer.pad_token_id
    return int(pad) if pad is not None and pad < known else 0


def _parts(rows: Iterable[Mapping[str, Any]]) -> Iterator[Sequence[Mapping[str, Any]]]:
    iterator = iter(rows)
    while part := list(islice(iterator, ROWS_AT_ONCE)):
        yield part


def _name(row: Mapping[str, Any]) -> str:
    return f"example {str(row.get('digest', ''))[:12]}"


def _ids(renderings: Sequence[Rendering], template: ChatTemplate) -> Iterator[tuple[list[int], list[int]]]:
    """Yield what is given and what is learned of the last answers.

    An answer is tokenized behind the last segment of what is given, so that its first token is that of the whole text; where
    the two run into one token, it is tokenized by itself.
    """
    texts = []
    for rendering in renderings:
        segment, end = template.last_segment(rendering), template.end_behind(rendering.frames[-1], rendering.renamed)
        texts.append((rendering.given, segment, rendering.said + end, bool(end)))
    needed = [
        (text, rendering.renamed)
        for (given, segment, said, _), rendering in zip(texts, renderings, strict=True)
        for text in (given, segment, segment + said)
    ]
    ids = _tokenized(template, needed)
    for (given, segment, said, ends), rendering in zip(texts, renderings, strict=True):
        before, both = ids[segment, rendering.renamed], ids[segment + said, rendering.renamed]
        apart = both[: len(before)] == before
        answer = both[len(before) :] if apart else template.control.ids([said], rendering.renamed)[0]
        yield ids[given, rendering.renamed], answer if ends else [*answer, template.end_id]


def _tokenized(template: ChatTemplate, texts: Sequence[tuple[str, bool]]) -> dict[tuple[str, bool], list[int]]:
    """Token ids by text, and by whether its control tokens are renamed; equal texts are tokenized once."""
    found: dict[tuple[str, bool], list[int]] = {}
    for renamed in (False, True):
        distinct = list(dict.fromkeys(text for text, kind in texts if kind is renamed))
        keys = [(text, renamed) for text in distinct]
        found |= dict(zip(keys, template.control.ids(distinct, renamed), strict=True))
    return found


def _earlier(rendering: Rendering, every: Rendering, template: ChatTemplate) -> list[tuple[int, int]]:
    """The tokens of what is given that are earlier answers with their ends."""
    starts = template.control.starts(rendering.given, rendering.renamed)
    ranges, at = [], 0
    for frame, answer, behind in zip(every.frames[:-2], every.answers, every.frames[1:], strict=False):
        begin, at = at + len(frame.rstrip(" ")), at + len(frame) + len(answer)
        end = at + len(template.end_behind(behind, every.renamed))
        inside = [place for place, start in enumerate(starts) if begin <= start < end]
        if inside and inside[0] > 0:
            ranges.append((inside[0], inside[-1] + 1))
    return ranges

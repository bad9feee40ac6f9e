"""The page of a shadow: what was measured of both, and the answers side by side with what differs marked in them."""

from __future__ import annotations

import re
from difflib import SequenceMatcher

from jinja2 import ChoiceLoader, Environment, PackageLoader, StrictUndefined

from nightshift.evaluation.shadow_file import ShadowFile
from nightshift.monitoring.shadow import Compared
from nightshift.settings.application import Application

SHOWN_ROWS = 200
SHOWN_CHARACTERS = 2_000
COMPARED_WORDS = 400  # of each answer; the time grows with the product of their numbers
WORDS = re.compile(r"\s+|[^\s]+")

Piece = tuple[str, bool]  # a piece of a text, and whether the other text lacks it


def render(application: Application, file: ShadowFile, found: Compared) -> str:
    """Return the page, which loads nothing. What users and models wrote is text in it, whatever it looks like."""
    # The style is with the report of an evaluation.
    places = [PackageLoader("nightshift.monitoring", ""), PackageLoader("nightshift.evaluation", "")]
    environment = Environment(loader=ChoiceLoader(places), autoescape=True, undefined=StrictUndefined)
    scores = found.scores.get(found.metric or "", [(None, None)] * len(found.rows))
    rows = [
        {
            "prompt": row["prompt"][:SHOWN_CHARACTERS],
            "reference": (row["reference"] or "")[:SHOWN_CHARACTERS],
            "answers": pieces(row["response"][:SHOWN_CHARACTERS], answer["response"][:SHOWN_CHARACTERS]),
            "scores": pair,
            "change": None if None in pair else float(pair[1] or 0) - float(pair[0] or 0),
        }
        for row, answer, pair in zip(found.rows, found.answers, scores, strict=True)
        if row["response"] != answer["response"]
    ]
    # What became worse first; what cannot be scored stays in the order in which it was answered.
    rows.sort(key=lambda row: row["change"] or 0)
    return environment.get_template("shadow_report.html.jinja").render(
        application=application,
        file=file,
        rows=rows[:SHOWN_ROWS],
        differ=len(rows),
        has_reference=any(row["reference"] for row in rows),
    )


def pieces(old: str, new: str) -> tuple[list[Piece], list[Piece]]:
    """Return both texts in pieces; joined, they are the texts."""
    words = WORDS.findall(old), WORDS.findall(new)
    if max(map(len, words)) > COMPARED_WORDS:
        return [(old, True)], [(new, True)]
    sides: tuple[list[Piece], list[Piece]] = ([], [])
    for kind, first, last, begin, end in SequenceMatcher(None, *words, autojunk=False).get_opcodes():
        for side, piece in zip(sides, (words[0][first:last], words[1][begin:end]), strict=True):
            if piece:
                side.append(("".join(piece), kind != "equal"))
    return sides

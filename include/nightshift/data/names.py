"""Names of people and places, found by the spaCy models that an application names, through Presidio."""

from __future__ import annotations

import hashlib
import json
import logging
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

from nightshift.data.examples import digest_of_messages
from nightshift.data.normalise import Conversation, answer_of
from nightshift.data.records import json_of
from nightshift.errors import BadInput
from nightshift.settings.intake import NameKind, Names, PiiKind

if TYPE_CHECKING:
    from spacy.language import Language

PACKAGES = ("presidio_analyzer", "spacy")
ENTITIES: dict[NameKind, str] = {  # what Presidio calls them
    "person": "PERSON",
    "location": "LOCATION",
    "organization": "ORGANIZATION",
    "date": "DATE_TIME",
    "affiliation": "NRP",
}
# What spaCy's models call them: each language has labels of its own.
LABELS = {
    "person": "PER PERSON PRS PS persName",
    "location": "LOC LOCATION GPE FAC FACILITY GPE_LOC LC placeName geogName",
    "organization": "ORG ORGANIZATION OG orgName GPE_ORG",
    "date": "DATE TIME DATETIME DT TI TME PERIOD date time",
    "affiliation": "NORP NAT_REL_POL",
}
ENTITY_OF = {label: ENTITIES[kind] for kind in ENTITIES for label in LABELS[kind].split()}
FINDS = {"tok2vec", "transformer", "ner"}
# Half of the time of spaCy's own pipelines goes into these, of which names need none.
TELLS_GRAMMAR = {
    *("tagger", "morphologizer", "parser", "senter", "attribute_ruler", "lemmatizer", "trainable_lemmatizer"),
}
WINDOW_CHARACTERS = 2_000  # of a text that a model sees at once; its memory grows with them
WINDOWS_AT_ONCE = 128
PLACEHOLDER = re.compile(f"<(?:{'|'.join(get_args(PiiKind))})>")
FREE = re.compile(b"\0+")


def missing(names: Names) -> str | None:
    """Return what has to be installed on this machine, and how, or None; nothing is imported for it."""
    if lacking := [package for package in PACKAGES if find_spec(package) is None]:
        return f"`ingest.names` needs the package {lacking[0]}: pip install 'nightshift[presidio]'"
    for language, model in sorted(names.models.items()):
        if _meta_file(model) is None:
            what = f"{model}: there is no spaCy model" if "/" in model else f"the spaCy model {model} is not installed"
            return f"`ingest.names.models.{language}`: {what}; install it where ingest runs (in the image of its pods)"
    return None


def identity(names: Names) -> dict[str, Any]:
    """Return what decides which names are found: kinds, and versions of Presidio, spaCy and each language's model.

    A model in a folder, which may be trained again under its version, also has the digest of its files. Where it lies is
    left out.

    :raises BadInput: something has to be installed, or the folder holds no model.
    """
    if problem := missing(names):
        raise BadInput(problem)
    known = {model: _identity(model) for model in set(names.models.values())}
    return {
        "kinds": sorted(names.kinds),
        "presidio": version("presidio-analyzer"),
        "spacy": version("spacy"),
        "models": {language: known[model] for language, model in sorted(names.models.items())},
    }


def _identity(model: str) -> dict[str, str]:
    file = _meta_file(model) or Path(model)
    try:
        meta = json.loads(file.read_text(encoding="utf-8"))
        found = {"name": f"{meta['lang']}_{meta['name']}", "version": str(meta["version"])}
    except (OSError, ValueError, TypeError, LookupError) as error:
        raise BadInput(f"{file}: not the meta.json of a spaCy model: {error}") from error
    if "/" in model:
        digest = hashlib.sha256()
        for path in sorted(path for path in file.parent.rglob("*") if path.is_file()):
            with path.open("rb") as opened:
                content = hashlib.file_digest(opened, "sha256").hexdigest()
            digest.update(f"{path.relative_to(file.parent).as_posix()} {content}\n".encode())
        found["digest"] = digest.hexdigest()
    return found


def _meta_file(model: str) -> Path | None:
    if "/" in model:
        file = Path(model, "meta.json")
    else:
        package = find_spec(model)
        file = Path(package.origin).with_name("meta.json") if package and package.origin else Path("-")
    return file if file.is_file() else None


class NameFinder:
    """Presidio with all models of an application, loaded once; the import of Presidio alone takes seconds.

    :raises BadInput: something has to be installed, or a model does not load or finds nothing of a kind.
    """

    def __init__(self, names: Names) -> None:
        if problem := missing(names):
            raise BadInput(problem)
        logging.getLogger("presidio-analyzer").setLevel(logging.ERROR)  # it warns of each entity that nobody asks for
        from presidio_analyzer import AnalyzerEngine, BatchAnalyzerEngine, RecognizerRegistry
        from presidio_analyzer.nlp_engine import NerModelConfiguration, SpacyNlpEngine
        from presidio_analyzer.predefined_recognizers import SpacyRecognizer

        self._names = names
        self._kinds = {ENTITIES[kind]: kind for kind in names.kinds}
        models = sorted(set(names.models.values()))
        engine = SpacyNlpEngine(
            ner_model_configuration=NerModelConfiguration(model_to_presidio_entity_mapping=ENTITY_OF)
        )
        # Its own `load` fetches what is not there from a network, and moves to a GPU, whose numbers are others.
        engine.nlp = self._pipelines = {model: _pipeline(model, names.kinds) for model in models}
        # To Presidio, each model is a language: one model may search several.
        recognizers = [SpacyRecognizer(supported_language=model, supported_entities=[*self._kinds]) for model in models]
        registry = RecognizerRegistry(recognizers=recognizers, supported_languages=models)
        self._analyzer = BatchAnalyzerEngine(
            AnalyzerEngine(registry=registry, nlp_engine=engine, supported_languages=models)
        )

    def redacted(self, rows: Sequence[Conversation], languages: Sequence[str]) -> list[Conversation]:
        """Return rows with the names in their texts and metadata replaced (`<person>`), and counted in their `pii`.

        Placeholders that are there already stay. A row in a language without a model stays as it is.

        :param languages: of each row (ISO 639 code, or `und`).
        """
        found = self._found(list(map(_texts, rows)), languages)
        return [_replaced(row, its) for row, its in zip(rows, found, strict=True)]

    def redacted_texts(self, texts: Sequence[str], languages: Sequence[str]) -> list[str]:
        """Return single texts in the same way."""
        found = self._found([(text,) for text in texts], languages)
        return [its[text][0] if text in its else text for text, its in zip(texts, found, strict=True)]

    def _found(
        self, rows: Sequence[Iterable[str]], languages: Sequence[str]
    ) -> list[dict[str, tuple[str, Counter[str]]]]:
        """What :meth:`_search` finds in the language of each row, given its texts."""
        models = [self._names.model_for(language) for language in languages]
        found = {
            model: self._search(
                model,
                # Equal texts once: what a system message says is the same in every row.
                list(
                    dict.fromkeys(
                        text for texts, its in zip(rows, models, strict=True) if its == model for text in texts
                    )
                ),
            )
            for model in self._pipelines
        }
        return [found[model] if model else {} for model in models]

    def _search(self, model: str, texts: list[str]) -> dict[str, tuple[str, Counter[str]]]:
        """The texts in which something was found: each without it, and how much of each kind it was."""
        windows = [(number, start, end) for number, text in enumerate(texts) for start, end in _windows(text)]
        spans: dict[int, list[tuple[int, int, str]]] = {}
        # What a pipeline keeps of each new word would otherwise grow with the rows.
        with self._pipelines[model].memory_zone():
            results = self._analyzer.analyze_iterator(
                (texts[number][start:end] for number, start, end in windows), model, WINDOWS_AT_ONCE
            )
        for (number, start, _), entities in zip(windows, results, strict=True):
            for one in entities:
                kind = self._kinds[one.entity_type]
                spans.setdefault(number, []).append((start + one.start, start + one.end, kind))
        return {texts[number]: _without(texts[number], those) for number, those in spans.items()}


def _pipeline(model: str, kinds: Sequence[NameKind]) -> Language:
    """A spaCy pipeline, loaded, with the components alone that find names.

    :raises BadInput: it does not load, or cannot find what is asked for.
    """
    import spacy

    try:
        pipeline = spacy.load(model)
    except Exception as error:  # each component raises its own
        raise BadInput(f"the spaCy model {model} cannot be loaded: {type(error).__name__}: {error}") from error
    finding = [name for name in pipeline.pipe_names if "doc.ents" in pipeline.get_pipe_meta(name).assigns]
    labels = sorted({label for name in finding for label in pipeline.pipe_labels.get(name, [])})
    for kind in kinds:
        if ENTITIES[kind] not in map(ENTITY_OF.get, labels):
            raise BadInput(
                f"the spaCy model {model} finds no {kind}, which `ingest.names.kinds` asks for: "
                f"its labels are {', '.join(labels) or '(none)'}"
            )
    if set(pipeline.pipe_names) <= FINDS | TELLS_GRAMMAR:
        pipeline.select_pipes(enable=[name for name in pipeline.pipe_names if name in FINDS])
    return pipeline


def _texts(row: Conversation) -> Iterator[str]:
    for message in row.messages if row.rejected is None else [*row.messages, row.rejected]:
        yield message["content"]
        if calls := message.get("tool_calls"):
            yield from _strings([call["function"]["arguments"] for call in json.loads(calls)])
    yield from filter(None, (row.response, row.context, *row.metadata.values()))


def _replaced(row: Conversation, found: Mapping[str, tuple[str, Counter[str]]]) -> Conversation:
    counts = sum((found[text][1] for text in _texts(row) if text in found), Counter(row.pii))
    if counts == Counter(row.pii):
        return row

    def without(text: str | None) -> Any:
        return found[text][0] if text is not None and text in found else text

    def of(message: dict[str, str]) -> dict[str, str]:
        shown = {**message, "content": without(message["content"])}
        if calls := message.get("tool_calls"):
            made = json.loads(calls)
            for call in made:
                call["function"]["arguments"] = _mapped(call["function"]["arguments"], without)
            shown["tool_calls"] = json_of(made)
        return shown

    messages = [of(message) for message in row.messages]
    rejected = None if row.rejected is None else of(row.rejected)
    return row._replace(
        digest=digest_of_messages(messages, row.tools, rejected),
        messages=messages,
        prompt=without(row.prompt),
        answer=None if row.answer is None else answer_of(messages[-1]),
        rejected=rejected,
        response=without(row.response),
        context=without(row.context),
        metadata={name: without(value) for name, value in row.metadata.items()},
        pii=dict(sorted(counts.items())),
    )


def _strings(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict | list):
        for inner in value.values() if isinstance(value, dict) else value:
            yield from _strings(inner)


def _mapped(value: Any, change: Callable[[str], str]) -> Any:
    """A record with its texts changed; names of fields stay."""
    if isinstance(value, dict):
        return {key: _mapped(inner, change) for key, inner in value.items()}
    if isinstance(value, list):
        return [_mapped(inner, change) for inner in value]
    return change(value) if isinstance(value, str) else value


def _windows(text: str) -> Iterator[tuple[int, int]]:
    """The parts of a text that a model sees at once: they end at a line, else between words, where there is such a place."""
    start = 0
    while len(text) - start > WINDOW_CHARACTERS:
        most = start + WINDOW_CHARACTERS
        half = start + WINDOW_CHARACTERS // 2
        end = max(text.rfind("\n", half, most), 0) or max(text.rfind(" ", half, most), 0) or most - 1
        yield start, end + 1
        start = end + 1
    if text[start:].strip():
        yield start, len(text)


def _without(text: str, spans: list[tuple[int, int, str]]) -> tuple[str, Counter[str]]:
    """A text with its spans replaced, as far as they are no placeholders, and how many there were of each kind."""
    taken = bytearray(len(text))
    for ours in PLACEHOLDER.finditer(text):
        taken[ours.start() : ours.end()] = b"\1" * len(ours[0])
    pieces, after, counts = [], 0, Counter[str]()
    for start, end, kind in sorted(spans):
        for free in FREE.finditer(taken, start, end):
            part = text[free.start() : free.end()]
            if re.search(r"\w", part):
                begin = free.start() + len(part) - len(part.lstrip())
                pieces += [text[after:begin], f"<{kind}>"]
                after = free.start() + len(part.rstrip())
                counts[kind] += 1
    return "".join([*pieces, text[after:]]), counts

"""Which documents an application searches for passages to answer with, and how they are cut, indexed and found."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Literal, Self

from pydantic import Field, model_validator

from nightshift.settings.endpoint import EmbeddingEndpoint
from nightshift.settings.fields import Model, Name, omit_default
from nightshift.settings.intake import Columns, Source
from nightshift.settings.schedule import Schedule

SearchBy = Literal["bm25", "vectors", "hybrid"]
WORDLLAMA = "wordllama"


class DocumentColumns(Model):
    """Which columns of a row hold what. Dots reach into nested records (`payload.text`)."""

    text: str = Field(min_length=1, description="column with the document's text")
    id: str | None = Field(None, description="column that identifies a document; empty: a digest of its text does")
    title: str | None = Field(None, description="column with its title, which is searched and shown, too")


class Documents(Model):
    """Where documents come from: rows of files or of a query, where `columns` says so, or whole files of text."""

    name: Name = Field("documents", description="how ids and reports call this source")
    uri: str | None = Field(
        None,
        min_length=1,
        description="path or URI of files; `*` matches; a relative path starts at the application's file",
    )
    format: Literal["jsonl", "json", "csv", "tsv", "parquet"] | None = Field(
        None, description="of rows; default: by the name's ending"
    )
    connection: str | None = Field(None, description="Airflow connection id of a database, with `query` and `columns`")
    query: str | None = Field(None, description="SELECT of all documents")
    columns: DocumentColumns | None = Field(
        None, description="column mapping of rows; null: each file is a document (.txt, .md, .html, .pdf)"
    )

    @property
    def source(self) -> Source:
        """The source of its rows, as those of an application's. Ids are kept as they are, so they are no `id` of it."""
        columns = self.columns or DocumentColumns(text="text")
        mapped = Columns(prompt=columns.text, metadata=[name for name in (columns.id, columns.title) if name])
        return Source(columns=mapped, **self.model_dump(include={"name", "uri", "format", "connection", "query"}))

    @model_validator(mode="after")
    def _can_be_read_at_any_time(self) -> Self:
        _ = self.source
        if "{" in (self.uri or "") or re.search(r":(start|end)\b", self.query or ""):
            raise ValueError("documents are read as they are today; there is no start or end of them")
        if self.query and not self.columns:
            raise ValueError("`columns` says which column of the query holds the text")
        return self


class Chunk(Model):
    """How documents are cut into passages."""

    words: int = Field(150, ge=20, le=1000, description="words of a passage; of Chinese, Japanese or Thai, characters")
    overlap: int = Field(30, ge=0, le=500, description="words at the end of a passage with which the next one begins")

    @model_validator(mode="after")
    def _goes_on(self) -> Self:
        if self.overlap > self.words // 2:
            raise ValueError(f"overlap: {self.overlap} is more than half of the {self.words} words of a passage")
        return self


class Embedder(Model):
    """What vectors are made with."""

    model: str = Field(
        WORDLLAMA,
        min_length=1,
        description="`wordllama`: the mean of word vectors, in the package, made for English; else the Hugging Face id, the URI "
        "or the folder of a sentence embedding model with safetensors; with `endpoint`, the model's name there",
    )
    endpoint: EmbeddingEndpoint | None = omit_default(
        None, description="where a model embeds that somebody else runs; null: here"
    )
    dimensions: int | None = omit_default(None, ge=1, le=16_000, description="numbers of a vector of the endpoint")
    question: str = Field("", max_length=500, description="what that model wants before a question, as `query: `")
    passage: str = Field("", max_length=500, description="what it wants before a passage, as `passage: `")

    @model_validator(mode="after")
    def _has_what_its_model_takes(self) -> Self:
        if (self.endpoint is None) != (self.dimensions is None):
            raise ValueError("`endpoint` needs `dimensions`, how many numbers a vector of its model has; others do not")
        if self.endpoint and self.model == WORDLLAMA:
            raise ValueError("`model`: the name of a model at the endpoint")
        if self.endpoint is None and self.model == WORDLLAMA and (self.question or self.passage):
            raise ValueError(f"`question` and `passage` are for a sentence embedding model; {WORDLLAMA} wants none")
        return self


class Reranker(Model):
    """A model that reads question and passage together, and puts the best of what was found first."""

    model: str = Field(min_length=1, description="Hugging Face id, URI or folder of a cross-encoder with one score")
    candidates: int = Field(30, ge=1, le=1000, description="passages found by `search` that it reads for a question")


class Retrieval(Model):
    """Documents that are searched for passages to answer with."""

    documents: list[Documents] = Field(min_length=1, max_length=100, description="where documents come from")
    chunk: Chunk = Field(Chunk(), description="how documents are cut into passages")
    embedder: Embedder = Field(Embedder(), description="what vectors are made with")
    database: Name | None = omit_default(
        None,
        description="Airflow connection of a PostgreSQL with pgvector that vectors are searched in; null: in their file",
    )
    search: SearchBy = Field(
        "hybrid", description="`bm25`: by words; `vectors`: by vectors; `hybrid`: both, fused by rank"
    )
    reranker: Reranker | None = Field(None, description="puts the best of what was found first; null: none does")
    k: int = Field(5, ge=1, le=100, description="passages that are found for a question")
    schedule: Schedule | None = Field(
        "@daily", description="when documents are indexed: a cron expression or preset; null: by hand only"
    )
    stale_after: int | None = Field(
        None, ge=1, le=3650, description="days after which an index that was not renewed is too old; null: never"
    )
    keep_days: int | None = Field(
        90,
        ge=7,
        le=3650,
        description="days for which an index is kept that nothing answers from any more; null: for good",
    )
    relevant: str | None = Field(
        None,
        description="one of `columns.metadata` of the examples: the id, or a list of ids, of the documents or passages that "
        "should be found for a row; null: not known",
    )

    @property
    def models(self) -> dict[str, str]:
        """Ids, URIs or folders of its models, by what they are for."""
        return {"embedder": self.embedder.model, **({"reranker": self.reranker.model} if self.reranker else {})}

    def wrong_for(self, sources: Sequence[Source]) -> str | None:
        """Return what sources of examples lack, with the rest of the setting's key before it; None: nothing."""
        if self.relevant and all(self.relevant not in source.columns.metadata for source in sources):
            return f".relevant: no source keeps {self.relevant!r} by `columns.metadata`"
        return None

    @model_validator(mode="after")
    def _names_sources_apart(self) -> Self:
        if len({source.name for source in self.documents}) != len(self.documents):
            raise ValueError("two sources of documents have the same name; give each a `name` of its own")
        return self

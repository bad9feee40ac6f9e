"""Application versions: what users meet, as one partition that names its parts. Weights are stored once, whatever changes.

A model that was registered before there were versions is one of a single part: prompt and decoding are those of the
application's file, as they were for it before.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field
from upath import UPath

from nightshift.settings.application import Application
from nightshift.settings.decoding import Decoding
from nightshift.settings.pinned_index import PinnedIndex
from nightshift.settings.prompt import Prompt
from nightshift.storage.files import scratch_folder
from nightshift.storage.manifest import Manifest, Parent, digest_of, read_manifest, require_manifest
from nightshift.storage.partition import fetch_folder, find, partition_of, publish, read_file

PARTS = "parts.json"
VERSIONS = "versions"  # the folder of an application's versions
ADAPTER = "adapter/adapter_config.json"  # in the partition of weights that were trained with LoRA


class Parts(BaseModel):
    """What a version is made of.

    :param weights: the partition of the trained model, or of the description of an endpoint.
    :param max_new_tokens: the longest answer, in tokens.
    :param retrieval: the index that answers rest on; None: on none, as those of before there were any.
    """

    model_config = ConfigDict(extra="forbid")

    weights: Parent
    prompt: Prompt
    decoding: Decoding
    max_new_tokens: int
    retrieval: PinnedIndex | None = Field(None, exclude_if=lambda value: value is None)

    @classmethod
    def of(cls, application: Application, weights: Parent, index: PinnedIndex | None = None) -> Parts:
        """Return the parts that an application's file asks for around these weights.

        :param index: the newest of the application's documents; None: there is none.
        """
        return cls(
            weights=weights,
            prompt=application.prompt,
            decoding=application.decoding,
            max_new_tokens=application.inference.max_new_tokens,
            retrieval=index,
        )

    def applied_to(self, application: Application) -> Application:
        """Return the application as it is while this version answers: what its file says by now is not what users meet."""
        inference = application.inference.model_copy(update={"max_new_tokens": self.max_new_tokens})
        update = {"prompt": self.prompt, "decoding": self.decoding, "inference": inference}
        return application.model_copy(update=update).answering_from(self.retrieval)

    @property
    def identity(self) -> dict[str, Any]:
        """Each part by its name, wherever storage lies."""
        dumped = self.model_dump(mode="json") | {"weights": self.weights.digest}
        return dumped | ({"retrieval": self.retrieval.made_by} if self.retrieval else {})

    @property
    def shown(self) -> dict[str, str]:
        """Each part by its name, as a digest of 12 characters."""
        return {
            name: digest_of(value)[:12] if name != "weights" else value[:12] for name, value in self.identity.items()
        }

    @property
    def besides_documents(self) -> str:
        """The digest of all parts but for which documents its passages are of."""
        identity = self.identity
        of_index = {name: value for name, value in (identity.get("retrieval") or {}).items() if name != "digest"}
        return digest_of({**identity, "retrieval": of_index})

    def changed_from(self, other: Parts) -> list[str]:
        """Return the names of the parts that differ from another version's."""
        mine, others = self.shown, other.shown
        return [name for name in {**mine, **others} if mine.get(name) != others.get(name)]


@dataclass(frozen=True)
class ApplicationVersion:
    """A published version, opened.

    :param application: as it is while this version answers.
    :param weights: manifest of the partition of its weights.
    """

    partition: UPath
    digest: str
    parts: Parts
    application: Application
    weights: Manifest

    @property
    def snapshot(self) -> Parent | None:
        """What its weights were trained on; None where nobody wrote that down."""
        return self.weights.parents[0] if self.weights.parents else None

    @property
    def at_endpoint(self) -> bool:
        """Whether its weights are at an endpoint, and nothing of them is here."""
        return "endpoint" in self.weights.inputs

    @property
    def base_model(self) -> str:
        """What the user called the model that its weights were trained from."""
        return str(self.weights.facts.get("base_model") or self.application.base_model)

    @property
    def name(self) -> str:
        """Name of the partition of its weights."""
        return UPath(self.parts.weights.uri).name

    def fetch(self, folder: Path) -> Path:
        """Return a local model folder; where storage is local it is the partition's own, and nothing may be written there.

        :raises BadInput: the weights are gone or damaged.
        """
        folder.mkdir(parents=True, exist_ok=True)
        return fetch_folder(UPath(self.parts.weights.uri), self.weights, folder) / "model"


def publish_version(application: Application, storage: str, parts: Parts, **facts: Any) -> tuple[UPath, Manifest]:
    """Publish a version, or find it: the same parts are the same version.

    :param facts: more that its manifest keeps, if it is published by this call.
    """
    inputs = parts.identity
    partition = partition_of(storage, application.name, VERSIONS, digest_of(inputs)[:16])
    manifest = find(partition, inputs)
    if manifest is None:
        with scratch_folder(UPath(storage)) as folder:
            (folder / PARTS).write_text(parts.model_dump_json(indent=1) + "\n", encoding="utf-8")
            manifest = publish(
                partition,
                folder,
                kind="version",
                application=application.name,
                inputs=inputs,
                facts={"parts": parts.shown, **facts},
                parents=[
                    parts.weights,
                    *([Parent(uri=index.uri, digest=index.digest)] if (index := parts.retrieval) else []),
                ],
            )
    return partition, manifest


def open_version(uri: str, digest: str, application: Application) -> ApplicationVersion:
    """Return the version whose partition, or that of the weights of one of before there were versions, is at `uri`.

    :raises BadInput: the partition or that of its weights is gone, damaged, or holds something else by now.
    """
    partition = UPath(uri)
    manifest = require_manifest(partition, digest)
    if manifest.kind != "version":
        parts, weights = Parts.of(application, Parent(uri=uri, digest=digest)), manifest
    else:
        parts = Parts.model_validate_json(read_file(partition, manifest, PARTS))
        weights = require_manifest(UPath(parts.weights.uri), parts.weights.digest)
    answering = parts.applied_to(application)
    if not any(file.name == ADAPTER for file in weights.files):
        answering = without_adapter(answering)
    return ApplicationVersion(partition, digest, parts, answering, weights)


def without_adapter(application: Application) -> Application:
    """Return the application as it is while whole weights answer: `inference.vllm.adapters` is not for them."""
    vllm = application.inference.vllm.model_copy(update={"adapters": False})
    return application.model_copy(update={"inference": application.inference.model_copy(update={"vllm": vllm})})


def weights_below(home: UPath, uri: str, digest: str) -> Manifest | None:
    """Return the manifest of a version's weights in the folder of its application, wherever storage has moved to since.

    None where the version, or its weights, are gone or hold something else by now.
    """
    place = UPath(uri)
    manifest = read_manifest(home / place.parent.name / place.name)
    if manifest is None or manifest.digest != digest:
        return None
    if manifest.kind != "version":
        return manifest
    weights = manifest.parents[0]
    return weights_below(home, weights.uri, weights.digest)


def parts_tags(parts: Parts) -> dict[str, str]:
    """Return the parts, and the steps of a prompt that has some, as tags of a version in the registry."""
    steps = {
        f"prompt.{name}": digest_of(step.model_dump(mode="json"))[:12] for name, step in parts.prompt.alone.items()
    }
    return {f"nightshift.part.{name}": digest for name, digest in {**parts.shown, **steps}.items()}

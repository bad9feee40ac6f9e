"""Sentence embedding models and rerankers by Hugging Face id, URI or folder: safetensors only, without running their code.

Texts are embedded one at a time: padding and batch size would change the last bits of a vector, and an index with reused
vectors would differ from one that was built from scratch.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from transformers import AutoModel, AutoModelForSequenceClassification, AutoTokenizer
from transformers.utils.logging import disable_progress_bar

from nightshift.errors import BadEnvironment, BadInput, JobError
from nightshift.settings.retrieval import Embedder, Reranker
from nightshift.training.base_model import POOLING, base_model_digest, resolve_base_model

KNOWN_MODULES = {"Transformer", "Pooling", "Normalize"}  # of sentence-transformers; others change the vectors
KNOWN_POOLING = ("mean", "cls", "lasttoken")
LONGEST = 8192  # tokens of a text that are read if a model has no limit


def identity(settings: Embedder) -> dict[str, Any]:
    """Return the identity of a model: all that determines its vectors.

    :raises BadInput: the model is missing, or does more than pool its last layer.
    :raises BadEnvironment: it cannot be fetched.
    """
    folder = resolve_base_model(settings.model)
    about = {"digest": base_model_digest(folder), "pooling": _pooling(folder), "most_tokens": _most_tokens(folder)}
    return settings.model_dump(mode="json", exclude={"model"}) | about


def reranker_identity(settings: Reranker) -> dict[str, Any]:
    """Return the identity of a reranker: all that determines its scores.

    :raises BadInput: the model is missing.
    :raises BadEnvironment: it cannot be fetched.
    """
    digest = base_model_digest(resolve_base_model(settings.model))
    return settings.model_dump(mode="json", exclude={"model"}) | {"digest": digest}


class SentenceModel:
    """Embeds texts with a model whose last layer is pooled as configured in its folder.

    :param identity: from :func:`identity`.
    :param places: ids, URIs or folders that may have the model.
    :raises BadInput: the model is gone, or has changed.
    :raises BadEnvironment: it cannot be fetched.
    """

    def __init__(self, identity: dict[str, Any], places: Sequence[str]) -> None:
        folder = _unchanged(identity, places)
        self._identity = identity
        self._tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=False)
        self._model = AutoModel.from_pretrained(folder, dtype=torch.float32, use_safetensors=True).to(_device()).eval()
        self.dimensions = int(self._model.config.get_text_config().hidden_size)

    @torch.inference_mode()
    def embed(self, texts: Sequence[str], *, question: bool = False) -> NDArray[np.float32]:
        """Return a unit vector for each text, shape (texts, dimensions), of its first `most_tokens` tokens."""
        before = self._identity["question" if question else "passage"]
        vectors = np.zeros((len(texts), self.dimensions), np.float32)
        for row, text in enumerate(texts):
            tokens = _tokens(self._tokenizer, [before + text], self._identity["most_tokens"])
            hidden = self._model(**tokens.to(self._model.device)).last_hidden_state[0].float()
            pooled = {"mean": hidden.mean(0), "cls": hidden[0], "lasttoken": hidden[-1]}[self._identity["pooling"]]
            vectors[row] = torch.nn.functional.normalize(pooled, dim=0).cpu().numpy()
        return vectors


class PassageReranker:
    """Scores passages against a question with a cross-encoder of one score.

    :param identity: from :func:`reranker_identity`.
    :param places: ids, URIs or folders that may have the model.
    :raises BadInput: the model is gone, has changed, or has more than one score.
    :raises BadEnvironment: it cannot be fetched.
    """

    def __init__(self, identity: dict[str, Any], places: Sequence[str]) -> None:
        folder = _unchanged(identity, places)
        self.candidates: int = identity["candidates"]
        self._tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=False)
        model = AutoModelForSequenceClassification.from_pretrained(folder, dtype=torch.float32, use_safetensors=True)
        if model.config.num_labels != 1:
            raise BadInput(f"reranker {str(folder)!r} has {model.config.num_labels} scores; a reranker has one")
        self._model, self._most = model.to(_device()).eval(), _most_tokens(folder)

    @torch.inference_mode()
    def scores(self, question: str, passages: Sequence[str]) -> list[float]:
        """Return a score for each passage; higher is better."""
        found = []
        for passage in passages:
            tokens = _tokens(self._tokenizer, [question, passage], self._most)
            found.append(round(float(self._model(**tokens.to(self._model.device)).logits[0, 0]), 6))
        return found


def _tokens(tokenizer: Any, texts: list[str], most: int) -> Any:
    # Special tokens in texts of users and documents are treated as plain text.
    return tokenizer(*texts, truncation=True, max_length=most, split_special_tokens=True, return_tensors="pt")


def _device() -> str:
    return "cuda" if torch.cuda.is_available() else "cpu"


def _unchanged(identity: dict[str, Any], places: Sequence[str]) -> Path:
    """The folder of the first place that has the unchanged model; later places are fetched only if needed."""
    disable_progress_bar()
    wrong: list[JobError] = []
    for place in dict.fromkeys(places):
        try:
            folder = resolve_base_model(place)
        except (BadInput, BadEnvironment) as error:
            wrong.append(error)
            continue
        if base_model_digest(folder) == identity["digest"]:
            return folder
        wrong.append(BadInput(f"{place!r} has changed since the index was made"))
    kind = BadEnvironment if any(isinstance(error, BadEnvironment) for error in wrong) else BadInput
    raise kind(f"{'; '.join(map(str, wrong))}; run the DAG of the index, or put the model back")


def _pooling(folder: Path) -> str:
    modules = _json(folder / "modules.json") or []
    if unknown := {str(one["type"]).rpartition(".")[2] for one in modules} - KNOWN_MODULES:
        raise BadInput(f"{folder.name} needs {', '.join(sorted(unknown))} after its last layer, which is not supported")
    settings = _json(folder / POOLING) or {"pooling_mode_mean_tokens": True}
    flags = {"pooling_mode_mean_tokens": "mean", "pooling_mode_cls_token": "cls", "pooling_mode_lasttoken": "lasttoken"}
    named = settings.get("pooling_mode") or [name for flag, name in flags.items() if settings.get(flag)]
    found = [named] if isinstance(named, str) else named
    if len(found) != 1 or found[0] not in KNOWN_POOLING:
        raise BadInput(f"{folder.name}/{POOLING}: the pooling is not one of {', '.join(KNOWN_POOLING)}")
    return str(found[0])


def _most_tokens(folder: Path) -> int:
    """The model's limit of tokens of a text, including those that the tokenizer adds."""
    limits = [
        (_json(folder / "sentence_bert_config.json") or {}).get("max_seq_length"),
        (_json(folder / "tokenizer_config.json") or {}).get("model_max_length"),
        (_json(folder / "config.json") or {}).get("max_position_embeddings"),
    ]
    return min([int(limit) for limit in limits if limit], default=LONGEST)


def _json(path: Path) -> Any:
    return json.loads(path.read_text()) if path.is_file() else None

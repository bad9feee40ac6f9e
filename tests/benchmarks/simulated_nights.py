"""Nights of one application, resampled from the sample's real messages, for benchmarks of what judges and decides.

Messages, embeddings, topics and profiles are the product's. Only the model is simulated: it knows the intents that it was
trained on, and names the right one as often as was measured.
"""

import csv
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
import pyarrow as pa

from nightshift.monitoring.profiles import Profile, merge, profile_of
from nightshift.monitoring.topics import DIRECTIONS, Embedder, Topics, fit_topics
from nightshift.settings.metrics import CATEGORICAL

SAMPLE = Path(__file__).parents[2] / "include" / "nightshift" / "samples" / "banking77"
QUIET_DAYS = ("2026-11-02", "2026-11-03", "2026-11-04", "2026-11-05")
LATER_DAYS = ("2026-11-06", "2026-11-07", "2026-11-08", "2026-11-09")
ACCURACY = 0.87  # of a champion on intents that it was trained on (README)
TRAINED_A_DAY = 300  # examples of a day to train on
JUDGED = 300  # held-out examples that the reference has answers to
SPANISH = (
    "¿Cuándo llega mi tarjeta nueva?", "Mi tarjeta todavía no ha llegado y ya pasaron dos semanas.",
    "El cajero se quedó con mi tarjeta, ¿qué hago?", "Me cobraron una comisión que no reconozco.",
    "¿Por qué rechazaron mi transferencia?", "Quiero cambiar el PIN de mi tarjeta.",
    "La transferencia sigue pendiente desde ayer.", "No puedo entrar en la aplicación con mi contraseña.",
    "Perdí el teléfono, ¿cómo bloqueo la cuenta?", "¿Qué tipo de cambio usan para los pagos en el extranjero?",
    "El pago aparece dos veces en mi extracto.", "Necesito que me devuelvan el dinero de una compra.",
    "¿Puedo tener dos tarjetas en la misma cuenta?", "La tarjeta no funciona en ninguna tienda.",
    "¿Cuánto tarda una transferencia a otro país?", "Saqué dinero y el cajero me dio menos.",
    "Hay un pago con tarjeta que yo no hice.", "¿Cómo activo mi tarjeta?", "Quiero cerrar mi cuenta.",
    "¿En qué países puedo usar la tarjeta?", "Olvidé mi código de acceso.", "Mi saldo no se ha actualizado tras el ingreso.",
    "¿Cómo cambio mi dirección?", "Me robaron la cartera con la tarjeta dentro.",
)  # fmt: skip
EMBEDDING = tuple(f"prompt_embedding/{direction}" for direction in range(DIRECTIONS))

KINDS = ("quiet", "new", "spanish")

Columns = dict[str, np.ndarray]


@dataclass(frozen=True)
class Messages:
    """All messages with what does not depend on a model, and who belongs where (indices)."""

    characters: np.ndarray
    tokens: np.ndarray
    language: np.ndarray
    intent: np.ndarray
    embeddings: np.ndarray
    texts: list[str]
    intents: list[str]
    known: np.ndarray  # intents that the bank had from the beginning
    trained: dict[str, np.ndarray]  # "quiet", "new", "spanish": what becomes examples
    traffic: dict[str, np.ndarray]  # what customers ask, other messages


@cache
def messages() -> Messages:
    rows = [row for day in QUIET_DAYS + LATER_DAYS for row in csv.DictReader((SAMPLE / f"{day}.csv").open())]
    quiet_intents = {row["intent"] for row in rows if row["written_at"][:10] in QUIET_DAYS}
    intents = sorted({row["intent"] for row in rows})
    number = {name: place for place, name in enumerate(intents)}
    known = np.array(sorted(number[name] for name in quiet_intents))
    chance = np.random.default_rng(1)
    texts = [row["text"] for row in rows] + list(SPANISH)
    intent = np.concatenate([[number[row["intent"]] for row in rows], chance.choice(known, len(SPANISH))])
    kinds = np.array(
        ["quiet" if row["intent"] in quiet_intents else "new" for row in rows] + ["spanish"] * len(SPANISH)
    )
    half = chance.permutation(len(texts)) % 2 == 0
    return Messages(
        characters=np.array([len(text) for text in texts], np.int32),
        tokens=np.array([len(text.split()) for text in texts], np.int32),
        language=np.where(kinds == "spanish", "es", "en"),
        intent=intent,
        embeddings=Embedder()(texts),
        texts=texts,
        intents=intents,
        known=known,
        trained={kind: np.flatnonzero((kinds == kind) & half) for kind in KINDS},
        traffic={kind: np.flatnonzero((kinds == kind) & ~half) for kind in KINDS},
    )


@dataclass(frozen=True)
class Day:
    """What customers ask on a day, and how good the model's answers are."""

    new: float = 0.0  # share of messages about what was launched later
    spanish: float = 0.0  # share of messages in another language
    accuracy: float = ACCURACY  # of a model that was not trained since
    shift: float = 0.0  # of the numbers in SHIFTED, in standard deviations


@dataclass(frozen=True)
class Model:
    """A champion: the intents that it can name, and whether it learned the other language."""

    intents: np.ndarray
    speaks_spanish: bool = False


@cache
def answers() -> tuple[Columns, np.ndarray]:
    """What an answer (the intent's name) looks like by its number, and ROUGE between any two of them."""
    names = messages().intents
    words = [set(name.split()) for name in names]
    chance = np.random.default_rng(2)
    overlap = np.array([[2 * len(a & b) / (len(a) + len(b)) for b in words] for a in words], np.float32)
    looks = {
        "response_characters": np.array([len(name) for name in names], np.int32),
        "response_tokens": np.array([len(name.split()) for name in names], np.int32),
        "refusal": chance.beta(1, 200, len(names)).astype(np.float32),
        "toxicity": chance.beta(1, 60, len(names)).astype(np.float32),
        "sentiment": chance.normal(0, 0.2, len(names)).astype(np.float32),
    }
    return looks, overlap


def asked(day: Day, count: int, pool: dict[str, np.ndarray], chance: np.random.Generator) -> np.ndarray:
    """Indices of the messages of a day."""
    shares = [1 - day.new - day.spanish, day.new, day.spanish]
    counts = chance.multinomial(count, shares)
    return np.concatenate([chance.choice(pool[kind], many) for kind, many in zip(KINDS, counts, strict=True)])


def answered(rows: np.ndarray, model: Model, accuracy: float, chance: np.random.Generator) -> Columns:
    """The columns of answers to messages."""
    known = messages()
    wanted = known.intent[rows]
    can = np.isin(wanted, model.intents) & ((known.language[rows] == "en") | model.speaks_spanish)
    said = np.where(can & (chance.random(len(rows)) < accuracy), wanted, chance.choice(model.intents, len(rows)))
    looks, overlap = answers()
    count = len(rows)
    return {
        **{name: values[said] for name, values in looks.items()},
        "response_language": np.full(count, "en"),
        "finish_reason": np.full(count, "stop"),
        "valid": np.ones(count, np.float32),
        "pii": np.zeros(count, np.float32),
        "exact_match": (said == wanted).astype(np.float32),
        "rouge_l": overlap[said, wanted],
    }


def inputs(rows: np.ndarray, topics: Topics) -> Columns:
    """The columns of prompts."""
    known = messages()
    placed = topics.place(known.embeddings[rows])
    return {
        "prompt_characters": known.characters[rows],
        "prompt_tokens": known.tokens[rows],
        "prompt_language": known.language[rows],
        "prompt_topic": np.array(topics.names, object)[placed.topic].astype(str),
        "prompt_novelty": placed.novelty,
        **{name: placed.projections[:, place] for place, name in enumerate(EMBEDDING)},
    }


def profiled(columns: Columns) -> Profile:
    arrays = {
        name: pa.array(values).dictionary_encode() if name in CATEGORICAL else pa.array(values)
        for name, values in columns.items()
    }
    return profile_of([pa.RecordBatch.from_pydict(arrays)], list(arrays))


@dataclass(frozen=True)
class Reference:
    """What a champion was trained and judged on: as columns, for the plain rules, and as a profile."""

    asked: Columns
    judged: Columns
    profile: Profile
    topics: Topics
    learned: Profile | None = None  # of the night that the champion was retrained for, answered by it


def reference_of(window: list[Day], model: Model, chance: np.random.Generator) -> Reference:
    """The reference of a model that was trained on some days."""
    rows = np.concatenate([asked(day, TRAINED_A_DAY, messages().trained, chance) for day in window])
    fitted, kept = rows[rows % 2 == 0], rows[rows % 2 == 1]  # no message is in both
    texts = messages().texts
    topics = fit_topics([texts[row] for row in dict.fromkeys(fitted.tolist())], Embedder())
    asked_for, judged = inputs(kept, topics), answered(chance.choice(rows, JUDGED), model, ACCURACY, chance)
    return Reference(asked_for, judged, merge([profiled(asked_for), profiled(judged)]), topics)

"""The names of what is measured each night: one enum for profiles, verdicts, policies, alerts and pages."""

from __future__ import annotations

from enum import StrEnum


class Metric(StrEnum):
    """A measured column. Where an interactions partition has a column of this name, it is that column."""

    PROMPT_CHARACTERS = "prompt_characters"
    PROMPT_TOKENS = "prompt_tokens"
    PROMPT_LANGUAGE = "prompt_language"
    PROMPT_TOPIC = "prompt_topic"  # of the reference's topics, the nearest
    PROMPT_NOVELTY = "prompt_novelty"  # distance to that topic's centre: 0 (the same) to 2
    PROMPT_EMBEDDING = "prompt_embedding"  # all directions of the embedding space
    RESPONSE_CHARACTERS = "response_characters"
    RESPONSE_TOKENS = "response_tokens"
    RESPONSE_LANGUAGE = "response_language"
    FINISH_REASON = "finish_reason"
    VALID = "valid"  # 0 or 1: the response has the format that the application asks for
    REFUSAL = "refusal"  # probability, 0 to 1
    TOXICITY = "toxicity"  # probability, 0 to 1
    SENTIMENT = "sentiment"  # -1 to 1
    PII = "pii"  # items of personal data in the response
    GROUNDEDNESS = "groundedness"  # share of the response's content words that the context has, 0 to 1
    JUDGE = "judge"  # an LLM judge's score, 0 to 1
    EXACT_MATCH = "exact_match"  # 0 or 1, where a reference answer is known
    ROUGE_L = "rouge_l"  # 0 to 1, where a reference answer is known

    @property
    def group(self) -> str:
        """Where a person looks for it: inputs, outputs, scores or quality."""
        if self.startswith("prompt_"):
            return "inputs"
        if self in {Metric.EXACT_MATCH, Metric.ROUGE_L, Metric.JUDGE}:
            return "quality"
        if self.startswith("response_") or self is Metric.FINISH_REASON:
            return "outputs"
        return "scores"

    @property
    def label(self) -> str:
        """As a person reads it: `prompt characters`, `exact match`, `PII items`."""
        return {Metric.PII: "PII items", Metric.ROUGE_L: "ROUGE-L"}.get(self, self.replace("_", " "))


class DriftKind(StrEnum):
    """What changed: the inputs, the outputs, or the quality of outputs while the inputs did not (monitoring/drift_kinds.py)."""

    DATA = "data drift"
    OUTPUT = "output drift"
    CONCEPT = "concept drift"


CATEGORICAL = frozenset({Metric.PROMPT_LANGUAGE, Metric.PROMPT_TOPIC, Metric.RESPONSE_LANGUAGE, Metric.FINISH_REASON})

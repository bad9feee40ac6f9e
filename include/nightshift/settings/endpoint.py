"""Models that somebody else runs, at an endpoint that speaks OpenAI's protocol: one that answers, one that embeds."""

from __future__ import annotations

from typing import Annotated
from urllib.parse import urlsplit

from pydantic import AfterValidator, Field

from nightshift.settings.fields import Model, Name, omit_default


def _an_address(url: str) -> str:
    parts = urlsplit(url)
    if not parts.hostname or parts.port == 0 or not url.isprintable():
        raise ValueError("there is no host and port to connect to")
    parts.hostname.encode("idna")  # UnicodeError is a ValueError: raised for an empty or overlong host label
    return url


EndpointUrl = Annotated[str, Field(pattern=r"^https?://[^\s@?#]+$"), AfterValidator(_an_address)]


class Price(Model):
    """What a million tokens cost, in the currency of your bill."""

    input: float = Field(0.0, ge=0, le=100_000, description="of prompts")
    output: float = Field(0.0, ge=0, le=100_000, description="of responses, reasoning included")


class Batch(Model):
    """Intervals are asked for by OpenAI's batch protocol: all prompts at once, answered within a day."""

    discount: float = Field(
        0.5, ge=0, lt=1, description="what answers in a batch cost less than by `price`, as a share"
    )


class Service(Model):
    """Where an endpoint is, and how it is asked."""

    url: EndpointUrl = Field(description="base URL up to `/v1`, as in https://api.openai.com/v1")
    connection: Name | None = Field(
        None, description="Airflow connection whose password is the API key; null: none is sent"
    )
    requests_at_once: int = Field(8, ge=1, le=256, description="requests that are under way together")
    timeout_seconds: float = Field(120, gt=0, le=3600, description="longest wait for one answer")


class EmbeddingEndpoint(Service):
    """Where a model embeds texts that somebody else runs."""

    price: float = Field(0.0, ge=0, le=100_000, description="of a million tokens, in the currency of your bill")

    @property
    def key_variable(self) -> str | None:
        """The variable of a job's environment that holds the key of the connection; None: no key is sent."""
        return f"NIGHTSHIFT_EMBEDDER_KEY_{self.connection.upper()}" if self.connection else None


class Endpoint(Service):
    """Where the application's model answers. Nothing is trained there; url and model are what a version is made of."""

    model: str = Field(min_length=1, max_length=200, description="the model's name at that endpoint")
    price: Price = Field(
        Price(), description="of a million tokens; what an interval costs is in its manifest and in MLflow"
    )
    batch: Batch | None = omit_default(None, description="ask for an interval's answers in batches; null: one by one")

    @property
    def identity(self) -> dict[str, str]:
        """What determines the answers: two endpoints with the same identity are the same model."""
        return {"url": self.url.rstrip("/"), "model": self.model}

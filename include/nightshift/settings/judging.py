"""The settings of an LLM that judges a sample of each interval's responses."""

from __future__ import annotations

from pydantic import Field

from nightshift.settings.endpoint import EndpointUrl, Price
from nightshift.settings.fields import Model, Name, omit_default

SHOWN = 4  # version of what a judge is shown and told
OPINION = ("url", "model", "rubric", "shown")  # what its scores depend on; those of two judges are not compared


class Judge(Model):
    """An LLM that scores a sample of each interval's responses, at any endpoint that speaks OpenAI's chat protocol."""

    url: EndpointUrl = Field(description="base URL up to `/v1`, as in https://api.openai.com/v1")
    model: str = Field(min_length=1, max_length=200, description="the model's name at that endpoint")
    connection: Name | None = Field(
        None, description="Airflow connection whose password is the API key; null: none is sent"
    )
    rubric: str = Field(
        "The response does what the message asks for, is correct, and leaves nothing important out.",
        min_length=10,
        max_length=8_000,
        description="what deserves the score 1; nothing of it deserves 0",
    )
    rows_per_night: int = Field(200, ge=1, le=100_000, description="most responses that are judged in one interval")
    requests_at_once: int = Field(4, ge=1, le=64, description="requests that are under way together")
    timeout_seconds: float = Field(60, gt=0, le=600, description="longest wait for one answer")
    price: Price = omit_default(Price(), description="of a million tokens, for the application's cost")

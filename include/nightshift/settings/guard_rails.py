"""What must not get worse besides the decisive metric: while a version answers a share of the traffic, and after its release."""

from __future__ import annotations

from collections.abc import Collection

from pydantic import Field

from nightshift.settings.fields import Model, Name

VALID = "valid"


class GuardRails(Model):
    """Measures between 0 (bad) and 1 whose mean must not fall by the margin."""

    guard_rails: list[Name] = Field(
        [],
        max_length=5,
        description="own scorers of the kind `share` whose mean must not fall by the margin either",
    )
    latency_ms: float | None = Field(
        None,
        gt=0,
        description="an answer in time takes no longer; the share of these must not fall by the margin either",
    )
    cost_limit: float | None = Field(
        None,
        gt=0,
        description="the most that an answer should cost, by `inference.endpoint.price`; what answers leave of it on average "
        "must not fall by the margin either",
    )
    token_limit: int | None = Field(
        None,
        gt=0,
        description="the most tokens that should be generated for an answer, reasoning included; what answers leave of it on "
        "average must not fall by the margin either",
    )

    @property
    def rails(self) -> list[str]:
        """The measures that must not fall besides the decisive metric."""
        chosen = {"in_time": self.latency_ms, "cost_headroom": self.cost_limit, "token_headroom": self.token_limit}
        return [VALID, *self.guard_rails, *(name for name, limit in chosen.items() if limit)]

    def wrong_for(self, shares: Collection[str], *, priced: bool, batch: bool) -> str | None:
        """Return which limit an application cannot measure, and why; None: it can measure all.

        :param shares: the names of its own scorers of the kind `share`.
        :param priced: its answers have a cost.
        :param batch: they come in batches.
        """
        if unknown := [name for name in self.guard_rails if name not in shares]:
            return f"guard_rails: there is no own scorer `{unknown[0]}` of the kind share"
        if self.cost_limit and not priced:
            return "cost_limit: without inference.endpoint.price nothing has a cost; use token_limit"
        if self.latency_ms and batch:
            return "latency_ms: answers of inference.endpoint.batch have no latency; leave it out"
        return None

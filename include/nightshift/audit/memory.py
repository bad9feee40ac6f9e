"""The newest anchor of the audit log in an Airflow variable, which jobs cannot change, unlike storage and MLflow."""

from __future__ import annotations

from collections.abc import Callable

from pydantic import TypeAdapter, ValidationError

from nightshift.audit.anchor import Anchor
from nightshift.errors import BadInput

MEMORY_VARIABLE = "nightshift_audit_newest"
ANCHORS = TypeAdapter(list[Anchor])


class AirflowMemory:
    """The newest anchor of each storage, in the variable `nightshift_audit_newest`.

    :param read: returns the value of the variable; None: there is none.
    :param write: gives it another; who only verifies needs none.
    :raises BadInput: somebody gave the variable a value that is no list of anchors (`newest` and `keep`).
    """

    name = "Airflow"
    hourly = False
    keeps_all = False

    def __init__(self, read: Callable[[], str | None], write: Callable[[str], None] | None = None) -> None:
        self._read = read
        self._write = write

    def every(self) -> tuple[list[Anchor], list[str]]:
        """Return all anchors, and what is wrong with the variable."""
        try:
            return self._anchors(), []
        except BadInput as error:
            return [], [str(error)]

    def newest(self, chain: str, storage: str) -> Anchor | None:
        """Return the newest anchor of a log, or of another that lay in the same storage."""
        mine = [anchor for anchor in self._anchors() if anchor.is_of(chain, storage)]
        return max(mine, key=lambda anchor: anchor.anchored, default=None)

    def keep(self, anchor: Anchor) -> None:
        """Remember an anchor in the place of the one before."""
        if self._write is None:
            raise TypeError("this memory is only read")
        others = [other for other in self._anchors() if other.storage != anchor.storage]
        self._write(ANCHORS.dump_json([*others, anchor]).decode())

    def _anchors(self) -> list[Anchor]:
        text = self._read()
        try:
            anchors = ANCHORS.validate_json(text) if text is not None else []
        except ValidationError:
            raise BadInput(
                f"the Airflow variable {MEMORY_VARIABLE} was edited: it holds no anchors of the audit log any more"
            ) from None
        return [anchor.model_copy(update={"place": self.name}) for anchor in anchors]

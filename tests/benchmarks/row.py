"""What a row of the table is, before it is measured."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

from tests.benchmarks.results import RowResult
from tests.benchmarks.subjects import US, Subject

T = TypeVar("T")


@dataclass(frozen=True)
class Effort:
    """How much may be done.

    Attributes:
        quick: all rows together in less than a minute.
        peers: who is measured beside us.
    """

    quick: bool
    peers: Sequence[Subject]

    def pick(self, quick: T, full: T) -> T:
        """The one of the two that is wanted."""
        return quick if self.quick else full

    @property
    def subjects(self) -> list[Subject]:
        """We, then the peers."""
        return [US, *self.peers]

    @property
    def patient_subjects(self) -> list[Subject]:
        """The same for a row in which peers take long: when it must be quick, only we."""
        return [US] if self.quick else self.subjects

    @property
    def left_out(self) -> tuple[str, ...]:
        """What to say of a row with :attr:`patient_subjects`."""
        return ("peers are left out of this row by --quick",) if self.quick else ()


@dataclass(frozen=True)
class Row:
    """One kind of work.

    Attributes:
        name: for ``--only``.
        measure: does it.
    """

    name: str
    measure: Callable[[Effort], RowResult]

"""A row of the table before it is measured."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

from tests.benchmarks.results import RowResult
from tests.benchmarks.subjects import US, Subject

T = TypeVar("T")


@dataclass(frozen=True)
class Effort:
    """How much to measure.

    Attributes:
        quick: measure all rows together in about a minute.
        peers: the other libraries to measure.
    """

    quick: bool
    peers: Sequence[Subject]

    def pick(self, quick: T, full: T) -> T:
        """Return ``quick`` or ``full``."""
        return quick if self.quick else full

    @property
    def subjects(self) -> list[Subject]:
        """This library, then the peers."""
        return [US, *self.peers]

    @property
    def patient_subjects(self) -> list[Subject]:
        """The subjects of a row in which peers are slow: with ``quick``, only this library."""
        return [US] if self.quick else self.subjects

    @property
    def left_out(self) -> tuple[str, ...]:
        """The notes of a row with :attr:`patient_subjects`."""
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

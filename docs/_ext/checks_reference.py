"""The directive ``checks-reference``: every check of an access token, in order."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from docutils import nodes
from sphinx.util.docutils import SphinxDirective

from flask_m2m_cognito.inbound.claims_policy import CHECKS

if TYPE_CHECKING:
    from sphinx.application import Sphinx


def rows_of_checks() -> list[tuple[str, str, list[str]]]:
    """Return name, requirement and reasons of each step, in the order of the checks."""
    reasons: dict[Any, list[str]] = {}
    for check in CHECKS:
        of_step = reasons.setdefault(check.step, [])
        if check.reason not in of_step:
            of_step.append(check.reason)
    return [
        (step.name, in_markdown(step.requires), each) for step, each in reasons.items()
    ]


def in_markdown(requires: str) -> str:
    """Link each setting; what stands for its value goes."""
    linked = re.sub(r"(\{\} )?\(?\b(COGNITO_M2M_\w+)\b\)?", r"{confval}`\2`", requires)
    return linked.replace("{}", "a trusted issuer")


class ChecksReference(SphinxDirective):
    """``{checks-reference}``, without arguments."""

    def run(self) -> list[nodes.Node]:
        lines = ["| | check | it requires | reason |", "| --- | --- | --- | --- |"]
        for number, (name, requires, reasons) in enumerate(rows_of_checks(), 1):
            words = ", ".join(f"`{reason}`" for reason in reasons)
            lines.append(f"| {number} | {name} | {requires} | {words} |")
        return list(self.parse_text_to_nodes("\n".join(lines)))


def setup(app: Sphinx) -> dict[str, Any]:
    app.add_directive("checks-reference", ChecksReference)
    return {"parallel_read_safe": True, "parallel_write_safe": True}

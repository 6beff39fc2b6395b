"""Sphinx directive ``settings-reference``: lists the library's settings."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from docutils import nodes
from sphinx.util.docutils import SphinxDirective

from flask_m2m_cognito.settings.app_settings import PREFIX, SETTINGS, Setting

if TYPE_CHECKING:
    from sphinx.application import Sphinx

KINDS = ("application", "client")


def settings_of(kind: str) -> list[Setting]:
    """Return the settings of the application, or those of an entry of ``CLIENTS``."""
    return [setting for setting in SETTINGS if setting.of_client == (kind == "client")]


def default_of(setting: Setting) -> str:
    """Return a setting's default, in words or as a Python literal."""
    if setting.default_text:
        return setting.default_text
    if setting.default in (None, (), frozenset()):
        return "none"
    return f"`{setting.default!r}`"


def markdown_of(settings: Iterable[Setting]) -> str:
    """Return settings as ``confval`` directives in MyST."""
    return "\n".join(
        f"```{{confval}} {PREFIX}{setting.key}\n"
        f":type: {quoted(setting.kind)}\n"
        f":default: {quoted(default_of(setting))}\n\n"
        f"{setting.doc}\n"
        "```\n"
        for setting in settings
    )


def quoted(text: str) -> str:
    """Return text as the value of an option, which is YAML."""
    return json.dumps(text, ensure_ascii=False)


class SettingsReference(SphinxDirective):
    """``{settings-reference} application`` or ``{settings-reference} client``."""

    required_arguments = 1

    def run(self) -> list[nodes.Node]:
        """Return the nodes of the list."""
        kind = self.arguments[0]
        if kind not in KINDS:
            raise self.error(f"settings-reference needs one of {KINDS}, got {kind!r}")
        return list(self.parse_text_to_nodes(markdown_of(settings_of(kind))))


def setup(app: Sphinx) -> dict[str, Any]:
    """Register the directive."""
    app.add_directive("settings-reference", SettingsReference)
    return {"parallel_read_safe": True, "parallel_write_safe": True}

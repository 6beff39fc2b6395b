"""One level of the settings: what was said there, read by the table, and what is wrong with it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from .table import BY_KEY, PREFIX, Setting
from .values import Wrong, is_empty, is_unset, shown

NOT_SHOWN = "can't be used (the value is not shown)"


class Level:
    """The keys of the top level or of one named client: what was said, and what is wrong with it."""

    def __init__(
        self,
        raw: Mapping[str, object],
        problems: list[str],
        *,
        name: str | None = None,
        above: Level | None = None,
    ) -> None:
        self.name = name
        self._above = above
        self._problems = problems
        said = [(BY_KEY[key], value) for key, value in raw.items() if _is_said(BY_KEY[key], value)]
        self.said: frozenset[str] = frozenset(setting.key for setting, _ in said)
        self.wrong: set[str] = set()
        self._values: dict[str, Any] = {}
        # The hosts first: each URL is held against them.
        for setting, value in sorted(said, key=lambda pair: pair[0].key != "ALLOW_HTTP_HOSTS"):
            self._values[setting.key] = self._read(setting, value)

    def __getitem__(self, key: str) -> Any:
        """The value, the one from above, or the default. A wrong one counts as not said: reading goes on."""
        if key in self._values and key not in self.wrong:
            return self._values[key]
        setting = BY_KEY[key]
        return self._above[key] if self._above and setting.inherited else setting.default

    def any_said(self, *keys: str) -> bool:
        return not self.said.isdisjoint(keys)

    def any_wrong(self, *keys: str) -> bool:
        return not self.wrong.isdisjoint(keys)

    def label(self, key: str) -> str:
        return PREFIX + key if self.name is None else f"{_client_label(self.name)}.{key}"

    def report(self, key: str, sentence: str) -> None:
        """Add a problem. From now on the key counts as not said."""
        self.wrong.add(key)
        self._problems.append(f"{self.label(key)} {sentence}.")

    def report_client(self, name: object, sentence: str) -> None:
        self._problems.append(f"{_client_label(name)} {sentence}.")

    def below(self, name: str, raw: Mapping[str, object]) -> Level:
        """The level of one named client, which reports to the same list."""
        return Level(raw, self._problems, name=name, above=self)

    def _read(self, setting: Setting, value: object) -> Any:
        try:
            found = None if setting.is_check and is_empty(value) else self._read_value(setting, value)
            if not (setting.is_check and is_empty(found)):
                return found
            self.report(
                setting.key, "is empty, which would remove the check: name at least one, or remove it"
            )
        except Wrong as wrong:
            hidden = setting.secret or wrong.culprit is None
            what = f"{wrong.verb} {shown(wrong.culprit)}" if not hidden else NOT_SHOWN
            self.report(setting.key, f"{what}: {wrong.advice}")
        return None

    def _read_value(self, setting: Setting, value: object) -> Any:
        return setting.read(value, self["ALLOW_HTTP_HOSTS"]) if setting.is_url else setting.read(value)


def _is_said(setting: Setting, value: object) -> bool:
    return setting.is_check or not is_unset(value)


def _client_label(name: object) -> str:
    return f"{PREFIX}CLIENTS[{json.dumps(name) if isinstance(name, str) else shown(name)}]"

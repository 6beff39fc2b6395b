"""The settings of the application, or of one client, as read by the table, and the problems found in them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from .table import BY_KEY, PREFIX, Setting
from .values import Invalid, is_empty, is_unset, redacted


class Section(dict[str, Any]):
    """The values of the top level, or of one named client, by key, and the problems found in them.

    A key that is unset or invalid has the value of the section above, or the default.
    """

    def __init__(
        self,
        raw: Mapping[str, object],
        problems: list[str],
        *,
        name: str | None = None,
        above: Section | None = None,
    ) -> None:
        self.name = name
        self._problems = problems
        inherits = {} if above is None else above
        self._unset: dict[str, Any] = {
            key: inherits.get(key, setting.default) if setting.inherited else setting.default
            for key, setting in BY_KEY.items()
        }
        super().__init__(self._unset)
        keys = [key for key, value in raw.items() if BY_KEY[key].is_check or not is_unset(value)]
        self.set_keys: frozenset[str] = frozenset(keys)
        self.wrong: set[str] = set()
        # The hosts come first: each URL is checked against them.
        for key in sorted(keys, key=lambda key: key != "ALLOW_HTTP_HOSTS"):
            self._read(BY_KEY[key], raw[key])

    def any_set(self, *keys: str) -> bool:
        return not self.set_keys.isdisjoint(keys)

    def any_wrong(self, *keys: str) -> bool:
        return not self.wrong.isdisjoint(keys)

    def label(self, key: str) -> str:
        return PREFIX + key if self.name is None else f"{_client_label(self.name)}.{key}"

    def report(self, key: str, sentence: str) -> None:
        """Add a problem, as the end of a sentence that begins with the key. The key now counts as unset."""
        self.wrong.add(key)
        self[key] = self._unset[key]
        self._problems.append(f"{self.label(key)} {sentence}.")

    def report_client(self, name: object, sentence: str) -> None:
        """Add a problem, as the end of a sentence that begins with the client's name, with its full stop."""
        self._problems.append(f"{_client_label(name)} {sentence}")

    def below(self, name: str, raw: Mapping[str, object]) -> Section:
        """Return the section of one named client, which reports to the same list."""
        return Section(raw, self._problems, name=name, above=self)

    def _read(self, setting: Setting, value: object) -> None:
        more = (self["ALLOW_HTTP_HOSTS"],) if setting.is_url else ()
        try:
            found = None if setting.is_check and is_empty(value) else setting.read(value, *more)
        except Invalid as error:
            self.report(setting.key, error.sentence(hidden=setting.secret))
            return
        if setting.is_check and is_empty(found):
            self.report(
                setting.key,
                "is empty, which would remove the check: name at least one value, or remove the setting",
            )
        else:
            self[setting.key] = found


def _client_label(name: object) -> str:
    return f"{PREFIX}CLIENTS[{json.dumps(name) if isinstance(name, str) else redacted(name)}]"

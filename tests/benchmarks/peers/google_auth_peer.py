"""google-auth: credentials that are renewed in the background."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone
from typing import Any

import requests
from flask import Flask
from google.auth.credentials import Credentials
from google.auth.transport.requests import Request

from tests.benchmarks.pool_process import NEEDED, Address
from tests.benchmarks.subjects import Ask, Subject


class _Credentials(Credentials):
    def __init__(self, address: Address) -> None:
        super().__init__()
        self._address = address
        self.with_non_blocking_refresh()

    def refresh(self, request: Any) -> None:
        form = {
            "grant_type": "client_credentials",
            "client_id": self._address.client_id,
            "client_secret": self._address.client_secret,
            "scope": NEEDED,
        }
        answer = requests.post(self._address.token_url, data=form, timeout=10).json()
        now = datetime.now(timezone.utc).replace(tzinfo=None)
        self.expiry = now + timedelta(seconds=answer["expires_in"])
        self.token = answer["access_token"]


def _token(app: Flask, address: Address, lifetime: float) -> Ask:
    credentials, request = _Credentials(address), Request()

    def ask() -> str:
        headers: dict[str, str] = {}
        credentials.before_request(request, "GET", "https://stock.example.com/", headers)
        return headers["authorization"].removeprefix("Bearer ")

    return ask


PEER = Subject("google-auth", token=_token)

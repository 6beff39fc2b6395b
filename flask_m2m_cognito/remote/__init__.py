"""Fetch a remote value, keep it fresh and share it. This package knows neither Flask nor Cognito."""

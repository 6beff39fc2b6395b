"""A value that lives elsewhere: fetched, kept fresh, shared. Knows neither Flask nor Cognito."""

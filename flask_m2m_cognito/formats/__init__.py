"""What a text means: scopes, URLs, regions, JSON. Pure."""

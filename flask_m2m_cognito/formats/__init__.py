"""Parse scopes, URLs, Regions and JSON. These modules do no input or output."""

"""Request tokens for the scopes of outgoing calls. Imports no Flask."""

"""Two services that call each other with tokens of a local user pool, and a page that shows how.

``python -m example_app`` starts it. What to copy into an own project is in ``services.py``; the rest
is the stage around it.
"""

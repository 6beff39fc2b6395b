"""Two services that call each other with tokens from a local user pool, and a page that shows how.

``python -m example_app`` starts it. The code to copy into your own project is in ``services.py``. The
other modules run it and show what happens.
"""

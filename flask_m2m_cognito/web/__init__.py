"""Flask's side of a request: what a view requires, and what a caller is answered."""

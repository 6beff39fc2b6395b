"""Flask: what a view demands, and what a caller is answered."""

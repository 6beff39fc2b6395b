"""A token comes in and becomes claims. No Flask."""

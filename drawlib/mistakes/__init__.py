"""Public mistakes: `catalogue` tells them, `plants` has them, `planting` makes them."""

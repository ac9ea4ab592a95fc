"""What runs in a page: explorers, players, the pad, and models in JavaScript."""

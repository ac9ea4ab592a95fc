"""What is timed, and how: ``python -m benchmarks``, or ``make bench``."""

"""A seeded mutation fuzzer: ``python -m tests.fuzz --seconds 3600 --seed 1``."""

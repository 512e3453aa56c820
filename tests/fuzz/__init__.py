"""Fuzzing of the embedded broker: short as tests, long as `python -m tests.fuzz`."""

"""Mutation tests: mutmut changes the code in one place at a time, and the nearest tests must fail."""

"""Runs, records, tables: what was trained and what came of it."""

"""Starts and stops the real programs, each bounded in time, each with its logs kept for a failure report."""

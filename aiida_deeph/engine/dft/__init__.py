"""Readers of raw output, one folder per code."""

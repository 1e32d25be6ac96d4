"""Placeholder front door."""

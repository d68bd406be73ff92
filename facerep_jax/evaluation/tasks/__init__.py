"""Downstream problems, one per module."""

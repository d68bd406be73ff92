"""Downstream tasks, how they are learnt and scored, and the results that are written."""

"""Downstream tasks, how they are learnt and scored, and the report of what came out."""

"""Configs: plain data, one file per run."""

"""One pre-training run per file."""

"""Pre-training objectives, one per module."""

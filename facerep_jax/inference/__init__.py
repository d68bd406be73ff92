"""Encoders and what was learnt on them, used on pictures: features, and predictions in pixels of the picture."""

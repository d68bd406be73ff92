"""Encoders, text towers, heads and tokenizers."""

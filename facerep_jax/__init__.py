"""Pre-train face encoders and show what they are worth."""

"""From raw pictures to global batches."""

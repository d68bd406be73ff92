"""What a reader sees of runs and results: one page of tables, curves and pictures."""

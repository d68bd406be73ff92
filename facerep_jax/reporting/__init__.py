"""Reports of runs and results: one page of tables, curves and pictures, from the files that workdirs hold."""

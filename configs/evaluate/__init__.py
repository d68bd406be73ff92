r"""One evaluation per file: a task on a data set."""

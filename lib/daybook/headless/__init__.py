"""`daybook run`: a notebook without a browser, its parameters, its output and its exit code."""

"""The benchmark suite: rows of work, measured on pytest-benchmark against the libraries that are installed."""

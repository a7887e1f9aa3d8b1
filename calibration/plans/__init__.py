"""From graphs for TensorRT to plans in the cache."""

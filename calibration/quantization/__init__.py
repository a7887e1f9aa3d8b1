"""From ranges to graphs of other precisions."""

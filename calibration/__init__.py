"""From a trained checkpoint to a bundle that flies."""

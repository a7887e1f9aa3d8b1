"""Training on the desktop: data sets, methods (joint, GCMT), evaluation."""

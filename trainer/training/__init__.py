"""A run of `uav-train fit`: batches, the loop, what it writes, and where it computes."""

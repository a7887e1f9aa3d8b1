"""`uav-edge bench`: what the pipeline takes, in real processes, beside the least that this machine needs."""

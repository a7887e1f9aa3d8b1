"""`uav-edge regress`: the same flights flown with two models, held against each other."""

"""From sensor messages to answers: receiver, slot, gate, branch, alignment, fusion; every message accounted for."""

"""How well a model answers: asking it, judging what it said, and how far its confidence can be believed."""

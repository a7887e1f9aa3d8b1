"""Whether a flight kept what is promised of every flight, by its answers and statuses."""

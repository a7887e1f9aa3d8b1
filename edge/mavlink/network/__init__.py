"""Links made of ports, who is on them, and what they say."""

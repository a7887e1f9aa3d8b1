"""The ground's side: who is on a link, what they sent."""

"""What bytes come and go through: serial lines, UDP, TCP, files."""

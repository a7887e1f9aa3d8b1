"""What goes out, in which order and form, within which budget; and what of it is kept."""

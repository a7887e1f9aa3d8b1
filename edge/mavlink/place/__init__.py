"""When and where an answer was made: clocks, poses, the ground."""

"""MAVLink as bytes and messages: frames of any dialect, and the messages of ours."""

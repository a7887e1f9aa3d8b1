"""What a quantized model loses, how fast it is, and which of it may fly."""

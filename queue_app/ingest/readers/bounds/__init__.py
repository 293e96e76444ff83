"""What one input may ask of the reader, and the stream that holds it to that."""

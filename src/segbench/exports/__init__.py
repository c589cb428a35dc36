"""A network as a file that others can run: exported program, ONNX, and what runs them."""

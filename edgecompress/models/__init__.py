"""What an ONNX file says of its inputs, and inputs that are made from it alone."""

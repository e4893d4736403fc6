"""What is found in an fp32 graph, and what is done to it before it is quantized."""

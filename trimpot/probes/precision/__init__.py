"""Training steps in single, bfloat16 and half precision side by side: what vanishes, what overflows, what departs."""

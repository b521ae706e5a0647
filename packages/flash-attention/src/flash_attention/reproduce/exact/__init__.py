"""What is computed on our implementation without training or a clock."""

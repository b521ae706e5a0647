"""What is read: parallel text, the packages that carry it, and its tokens."""

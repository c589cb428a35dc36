"""What a finished comparison is good for: masks of new images, and models for others."""

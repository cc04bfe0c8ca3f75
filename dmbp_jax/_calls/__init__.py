"""A call of `explain` as programs for chunks of images, on one device or many."""

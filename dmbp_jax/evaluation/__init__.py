"""A resumable run: every method on every image, every metric on every map, row by row into a store."""

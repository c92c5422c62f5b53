"""From images, items and descriptors to descriptors of a collection's space."""

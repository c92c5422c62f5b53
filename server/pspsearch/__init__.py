"""pspsearch: find images by image."""

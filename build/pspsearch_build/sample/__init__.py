"""The sample gallery: pictures of made-up things, ray-traced, so that a new server has something to search."""

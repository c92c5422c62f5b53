"""The sample gallery: pictures of made-up things, drawn on first use, so that a new server has something to search."""

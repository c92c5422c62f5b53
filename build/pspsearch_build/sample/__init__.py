"""Ray-traces the sample gallery: pictures of invented things, so that a new server has something to search."""

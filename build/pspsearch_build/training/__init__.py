"""From pictures to the weights of a descriptor network."""

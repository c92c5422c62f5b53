"""What finds likely rows: lists, graphs, a GPU."""

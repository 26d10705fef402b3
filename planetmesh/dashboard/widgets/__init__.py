"""A file for each widget; none of them knows the mesh."""

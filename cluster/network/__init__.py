"""Pod network and addresses for Services."""

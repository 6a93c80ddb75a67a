"""The API's resources, a module each: how they are shown, and what requests do to them."""

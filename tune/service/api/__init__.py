"""The HTTP service's routes and who may use them."""

"""One kirschd's parts, put together, and the requests that it carries out."""

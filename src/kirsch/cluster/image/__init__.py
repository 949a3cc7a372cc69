"""Container images: built with podman, named, and carried to registries and clusters."""

"""The API over HTTP: /kirsch/v1, and as much of /fleet/v1 as kirsch's own verbs need."""

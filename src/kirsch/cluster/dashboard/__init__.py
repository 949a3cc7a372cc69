"""`kirsch dashboard`: a site on 127.0.0.1 that shows a cluster to one person, with that person's role."""

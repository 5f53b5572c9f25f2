"""What the county pays its hosts for outside testing: policies, pure rules, and runs that can be recomputed."""

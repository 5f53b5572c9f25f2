"""Is this county's OpenLab well? What a person on duty asks first, and what can be put right from the command line."""

"""Who and what there is: organisations, hosts, labs, instruments, agents and meterings."""

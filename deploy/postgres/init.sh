#!/bin/bash
# Run once by the postgres image, on an empty data volume: the ledger's owner, Grafana's reader, the database.
# Passwords are read from the environment by psql itself, so that they stand on no command line.
set -euo pipefail
psql --set ON_ERROR_STOP=1 --username "$POSTGRES_USER" --dbname postgres <<'SQL'
\getenv openlab OPENLAB_DB_PASSWORD
\getenv grafana GRAFANA_DB_PASSWORD
CREATE ROLE openlab LOGIN PASSWORD :'openlab';
CREATE ROLE grafana LOGIN PASSWORD :'grafana' CONNECTION LIMIT 20;
ALTER ROLE grafana SET default_transaction_read_only = on;
ALTER ROLE grafana SET statement_timeout = '30s';
CREATE DATABASE openlab OWNER openlab;
REVOKE ALL ON DATABASE openlab FROM PUBLIC;
GRANT CONNECT ON DATABASE openlab TO grafana;
SQL

# One image for gateway, api, worker and migrate; docker-compose.yml says which command runs.
FROM python:3.11.14-slim-bookworm AS build
WORKDIR /src
RUN python -m venv /opt/openlab
# The lock alone first, so that a change of code does not install everything again.
COPY requirements.lock ./
RUN /opt/openlab/bin/pip install --no-cache-dir --disable-pip-version-check --no-deps -r requirements.lock
COPY pyproject.toml README.md LICENSE ./
COPY wire ./wire
COPY store ./store
COPY gateway ./gateway
COPY api ./api
COPY edge_agents ./edge_agents
COPY dashboards ./dashboards
RUN /opt/openlab/bin/pip install --no-cache-dir --disable-pip-version-check --no-deps --no-build-isolation .

FROM python:3.11.14-slim-bookworm
RUN groupadd --gid 10001 openlab && useradd --uid 10001 --gid 10001 --no-create-home --shell /usr/sbin/nologin openlab
COPY --from=build /opt/openlab /opt/openlab
COPY deploy/openlab/entrypoint.sh /usr/local/bin/openlab-entrypoint
ENV PATH=/opt/openlab/bin:$PATH PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1
USER 10001:10001
WORKDIR /tmp
ENTRYPOINT ["openlab-entrypoint"]
CMD ["openlab", "--help"]

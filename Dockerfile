# The actors and their command line; NATS runs elsewhere (see compose.yaml).
FROM python:3.11-slim AS build

ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1 PIP_NO_INPUT=1 PYTHONDONTWRITEBYTECODE=1
WORKDIR /src

# The locked packages come first: this layer changes only with the lock. All builds use locked packages.
COPY constraints/run.txt constraints/build.txt constraints/
RUN python -m venv /opt/build \
    && /opt/build/bin/python -m pip install --require-hashes -r constraints/build.txt \
    && /opt/build/bin/python -m pip wheel --require-hashes --no-build-isolation --wheel-dir wheels -r constraints/run.txt

COPY pyproject.toml README.md LICENSE ./
COPY runtime/ runtime/
COPY actors/ actors/
RUN /opt/build/bin/python -m pip wheel --no-deps --no-build-isolation --wheel-dir wheels . \
    && python -m venv --without-pip /opt/actorloom \
    && /opt/build/bin/python -m pip --python /opt/actorloom/bin/python install --no-index --no-deps wheels/*.whl \
    && /opt/actorloom/bin/python -m compileall -q /opt/actorloom/lib

FROM python:3.11-slim

LABEL org.opencontainers.image.title="actorloom" \
      org.opencontainers.image.description="Typed, durable, traced actors over NATS" \
      org.opencontainers.image.licenses="Apache-2.0"

# With a health port, the health check below asks this process, not any process that answers on NATS.
ENV PATH=/opt/actorloom/bin:$PATH PYTHONUNBUFFERED=1 ACTORLOOM_HEALTH_PORT=8080
COPY --from=build /opt/actorloom /opt/actorloom

# A user id above 10000 does not exist on the host. The user has no home, no shell and no writable directory.
USER 10100:10100
WORKDIR /app

HEALTHCHECK --interval=10s --timeout=5s --start-period=20s --retries=3 CMD ["actorloom", "health"]

# The arguments of `docker run` are those of the command line: `run my_package`, `query orders.get_order orderId=1`. SIGTERM
# shuts the process down cleanly.
ENTRYPOINT ["actorloom"]
CMD ["run", "actorloom_shop"]

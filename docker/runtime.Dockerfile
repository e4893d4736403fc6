# A bundle and the base install, nothing else: what a board runs. Build it from the repository's root:
#   docker build -f docker/runtime.Dockerfile --build-arg BUNDLE=runs/quickstart/bundle -t answers .
ARG BASE=python:3.11-slim-bookworm

FROM ${BASE} AS install
WORKDIR /source
COPY constraints.txt pyproject.toml README.md LICENSE ./
COPY edgecompress ./edgecompress
COPY models ./models
COPY calibration ./calibration
# The constraints pin every version; of them the base install takes only its own.
RUN python -m venv /opt/edgecompress \
    && /opt/edgecompress/bin/pip install --no-cache-dir --no-compile \
        --constraint constraints.txt /source \
    && /opt/edgecompress/bin/pip uninstall --yes pip setuptools \
    && find /opt/edgecompress -name __pycache__ -prune -exec rm -rf {} +

FROM ${BASE}
ARG BUNDLE=runs/quickstart/bundle
# Nothing is written at run time, so that the container can be started with --read-only.
ENV PATH=/opt/edgecompress/bin:${PATH} \
    HOME=/nonexistent \
    HF_HUB_OFFLINE=1 \
    ORT_DISABLE_TELEMETRY=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1
COPY --from=install /opt/edgecompress /opt/edgecompress
COPY ${BUNDLE} /bundle
RUN ["edgecompress", "bundle", "verify", "/bundle"]
# A number, so that an orchestrator can see that it is not root.
USER 65532:65532
HEALTHCHECK --interval=5m --timeout=30s --start-period=10s \
    CMD ["edgecompress", "predict", "--threads", "1", "/bundle", "health"]
ENTRYPOINT ["edgecompress", "predict", "/bundle"]

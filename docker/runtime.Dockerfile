# A bundle's core, the base install and the service: what a board runs. `edgecompress image BUNDLE`
# makes this file's build context (bundle/, wheels/, requirements.lock, pip.conf) and builds it.
# The base needs python3 of version 3.11 and libstdc++6; `make pin` adds the digest that a registry
# gives for it.
ARG BASE=python:3.11-slim-bookworm
# Where packages are put together; it needs pip, and may be of another architecture than BASE.
ARG INSTALL_BASE=${BASE}
# Docker's classic builder knows no TARGETPLATFORM, and for it `linux` is the machine's own.
ARG PLATFORM=linux

# Only looked at, for the list of packages: it need not run here.
FROM --platform=${TARGETPLATFORM:-${PLATFORM}} ${BASE} AS base

# Runs on the machine that builds and unpacks wheels for the one that will run: nothing is emulated.
FROM --platform=${BUILDPLATFORM:-linux} ${INSTALL_BASE} AS install
ARG TARGETARCH
ARG SOURCE_DATE_EPOCH=0
# pip reads these from its environment; the last stage, and so the image, knows nothing of them.
ARG PIP_INDEX_URL=""
ARG PIP_EXTRA_INDEX_URL=""
ARG PIP_FIND_LINKS=""
ARG PIP_NO_INDEX=""
ENV PIP_CONFIG_FILE=/context/pip.conf \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONHASHSEED=0
COPY --from=base /usr /base/usr
COPY --from=base /var/lib /base/var/lib
WORKDIR /context
COPY . .
# Bytecode is written for what predicting and serving import, so that no start has to compile. With
# hashes in place of times, and a fixed seed, it is the same on every build.
RUN case "${TARGETARCH:-$(uname -m)}" in \
        amd64|x86_64) machine=x86_64 ;; \
        arm64|aarch64) machine=aarch64 ;; \
        *) echo "there are no wheels for ${TARGETARCH}; build for amd64 or arm64" >&2; exit 1 ;; \
    esac \
    && set -- --platform "manylinux2014_${machine}" \
    && for minor in $(seq 36 -1 17); do \
        set -- "$@" --platform "manylinux_2_${minor}_${machine}"; \
    done \
    && python3 -m pip install --no-cache-dir --disable-pip-version-check --root-user-action=ignore \
        --no-compile --no-deps --require-hashes --only-binary=:all: --python-version 3.11 "$@" \
        --target /opt/edgecompress --requirement requirements.lock --report report.json \
    && rm -rf /opt/edgecompress/bin \
    && find /opt/edgecompress/numpy -type d -name tests -prune -exec rm -rf {} + \
    && PYTHONPATH=/opt/edgecompress python3 -m edgecompress bundle verify --core-only bundle \
    && PYTHONPATH=/opt/edgecompress python3 -m edgecompress.images.sbom \
        bundle /opt/edgecompress report.json /base > sbom.cdx.json \
    && for package in anyio click edgecompress h11 idna numpy onnxruntime/capi PIL \
            prometheus_client starlette tokenizers uvicorn; do \
        [ ! -d "/opt/edgecompress/${package}" ] \
            || python3 -m compileall -q --invalidation-mode unchecked-hash -x '/f2py/' \
                "/opt/edgecompress/${package}" \
            || exit 1; \
    done \
    && python3 -m compileall -q -l --invalidation-mode unchecked-hash \
        /opt/edgecompress/onnxruntime \
    && chmod -R a=rX,u+w /opt/edgecompress bundle sbom.cdx.json \
    && find /opt/edgecompress bundle sbom.cdx.json -exec touch -h -d "@${SOURCE_DATE_EPOCH}" {} +

# Redundant for most, but buildah 1.28 would look for the base in the first stage's platform.
# hadolint ignore=DL3065
FROM --platform=${TARGETPLATFORM:-${PLATFORM}} ${BASE}
# Nothing is written at run time, so that the container can be started with --read-only.
ENV HOME=/nonexistent \
    HF_HUB_OFFLINE=1 \
    ORT_DISABLE_TELEMETRY=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONNOUSERSITE=1 \
    PYTHONPATH=/opt/edgecompress \
    PYTHONSAFEPATH=1 \
    PYTHONUNBUFFERED=1
COPY --from=install /opt/edgecompress /opt/edgecompress
COPY --from=install /context/bundle /bundle
COPY --from=install /context/sbom.cdx.json /sbom.cdx.json
# A number, so that an orchestrator can see that it is not root.
USER 65532:65532
HEALTHCHECK --interval=5m --timeout=60s --start-period=10s \
    CMD ["python3", "-m", "edgecompress.runtime.health", "/bundle"]
ENTRYPOINT ["python3", "-m", "edgecompress", "predict", "/bundle"]

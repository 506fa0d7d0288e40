# Opens pickles for `make versions ARGS="import ..."`, once each: src/serving/offline/sandbox.py. No part of the service.
ARG BASE_IMAGE=python:{{ cookiecutter.python_version }}-slim-trixie

FROM ${BASE_IMAGE} AS build
WORKDIR /build
ENV UV_COMPILE_BYTECODE=1 UV_LINK_MODE=copy
COPY requirements/ requirements/
COPY tools/__init__.py tools/environment.py tools/process.py tools/uv.py tools/
RUN --mount=type=secret,id=pip_conf,target=/etc/pip.conf --mount=type=cache,target=/root/.cache \
    python -m tools.environment /opt/venv import

FROM ${BASE_IMAGE}
COPY --from=build /opt/venv /opt/venv
COPY src/serving/__init__.py /app/src/serving/
COPY src/serving/domain/ /app/src/serving/domain/
COPY src/serving/modeling/ /app/src/serving/modeling/
COPY src/serving/offline/ /app/src/serving/offline/
ENV PATH=/opt/venv/bin:${PATH} \
    PYTHONPATH=/app/src \
    PYTHONDONTWRITEBYTECODE=1
USER 65532:65532
CMD ["python", "-m", "serving.offline.unpickle"]

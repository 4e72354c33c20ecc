# A worker with nothing but jobrunner:  docker build --tag jobrunner .
# For functions of your own, and for what they need, build on it:
#
#   FROM jobrunner
#   COPY --chown=0:0 tasks.py ./
#   CMD ["worker", "--app", "tasks"]

FROM python:3.13-slim AS build
WORKDIR /src
RUN python -m venv --without-pip /opt/jobrunner
ENV PIP_NO_CACHE_DIR=1 \
    PIP_DISABLE_PIP_VERSION_CHECK=1 \
    PIP_PYTHON=/opt/jobrunner/bin/python
COPY requirements.lock ./
RUN pip install --require-hashes --requirement requirements.lock
COPY pyproject.toml README.md LICENSE ./
COPY jobrunner jobrunner
RUN pip install --no-deps .

FROM python:3.13-slim
RUN useradd --uid 10001 --no-create-home --home-dir /tmp --shell /usr/sbin/nologin jobrunner
COPY --from=build /opt/jobrunner /opt/jobrunner
ENV PATH=/opt/jobrunner/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    JOBRUNNER_STATE_DIR=/tmp/jobrunner
WORKDIR /app
USER jobrunner
ENTRYPOINT ["jobrunner"]
CMD ["worker"]

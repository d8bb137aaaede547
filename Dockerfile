FROM python:3.11-slim

ENV PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    PLEDGE_HOME=/var/lib/pledge

RUN groupadd --system --gid 10001 pledge \
 && useradd --system --uid 10001 --gid pledge --no-create-home pledge \
 && install --directory --owner=pledge --group=pledge --mode=700 "$PLEDGE_HOME" "$PLEDGE_HOME/facts"

WORKDIR /app
COPY . .
RUN python -m pip install --no-cache-dir --disable-pip-version-check --root-user-action=ignore \
    --constraint constraints.txt .

USER 10001
WORKDIR /var/lib/pledge
EXPOSE 8000
CMD ["pledge", "serve"]

# syntax=docker/dockerfile:1
# mcpmeter as an image: the program, the certificates of public servers, and a user who may do nothing else.
#
#   docker build -t mcpmeter .
#   docker run -p 127.0.0.1:7300:7300 -v mcpmeter:/var/lib/mcpmeter -v "$PWD/mcpmeter.toml":/etc/mcpmeter.toml:ro \
#     -e MCPMETER_CONFIG=/etc/mcpmeter.toml mcpmeter
#
# In a container, proxy.listen has to be 0.0.0.0:7300, and the files of [store] have to be in /var/lib/mcpmeter:
# config/compose.toml shows both. To reach the admin port from outside, set admin.listen = "0.0.0.0:7301" and a token,
# for instance -e MCPMETER_ADMIN__TOKEN="$(openssl rand -base64 32)"; without one that address is refused.

FROM rust:1.95-bookworm AS build
WORKDIR /src
COPY . .
# The caches stay on the machine that builds; what is built has to leave them in the same step.
RUN --mount=type=cache,target=/usr/local/cargo/registry,sharing=locked \
    --mount=type=cache,target=/target,sharing=locked \
    CARGO_TARGET_DIR=/target cargo build --release --locked -p mcpmeter \
    && install -D /target/release/mcpmeter /out/mcpmeter

FROM debian:bookworm-slim
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install -y --no-install-recommends ca-certificates \
    && rm -rf /var/lib/apt/lists/* \
    && useradd --system --uid 10001 --user-group --no-create-home --home-dir /var/lib/mcpmeter mcpmeter \
    && install -d -o mcpmeter -g mcpmeter -m 0750 /var/lib/mcpmeter
COPY LICENSE /usr/share/doc/mcpmeter/LICENSE
COPY --from=build /out/mcpmeter /usr/local/bin/mcpmeter

# By number, so that an orchestrator can tell that it is not root.
USER 10001:10001
WORKDIR /var/lib/mcpmeter
VOLUME /var/lib/mcpmeter
EXPOSE 7300
# Open exchanges end and every record is written, for up to drain_timeout_ms and flush_timeout_ms: 15 s by default, more
# than the 10 s that `docker stop` waits unless it is told to (`--time 30`).
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=3s --start-period=5s CMD ["mcpmeter", "healthcheck"]
ENTRYPOINT ["mcpmeter"]
CMD ["serve"]

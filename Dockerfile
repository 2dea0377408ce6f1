# Built by "make image", which puts a static binary into an empty image: no
# network is needed, and nothing is in it that towline does not use. It runs as
# nobody in particular, and takes a root file system that is read-only.
FROM scratch
COPY towline /towline
# The directories of its user, which a new volume takes over with their owner.
COPY --chown=65532:65532 own /
# Where socket and state are by default for one who is not root (configs/towline.yaml):
# /run/towline and /var/lib/towline.
ENV XDG_RUNTIME_DIR=/run XDG_STATE_HOME=/var/lib
USER 65532:65532
VOLUME /var/lib/towline
HEALTHCHECK --interval=15s --timeout=10s --start-period=10s CMD ["/towline", "health", "--quiet"]
ENTRYPOINT ["/towline"]
CMD ["serve"]

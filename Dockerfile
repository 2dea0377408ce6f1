# Built by "make image", which puts a static binary into an empty image: no
# network is needed, and nothing is in it that towline does not use.
FROM scratch
COPY towline /towline
VOLUME /var/lib/towline
ENTRYPOINT ["/towline"]
CMD ["serve"]

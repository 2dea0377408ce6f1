#!/usr/bin/env bash
# Builds what is released, into a directory: static binaries for linux, archives, deb and
# rpm packages, an SBOM for each binary, and checksums. Two builds of one commit are equal:
# all times are that of the commit.
# usage: VERSION=v0.1.0 dist.sh DIRECTORY
set -euo pipefail

root=$(cd "$(dirname "$0")/.." && pwd)
mkdir -p "$1"
out=$(cd "$1" && pwd)
cd "$root"
version=${VERSION:?is missing, such as v0.1.0}
export VERSION=${version#v} # packages need one that begins with a number
SOURCE_DATE_EPOCH=$(git log -1 --format=%ct)
export SOURCE_DATE_EPOCH CGO_ENABLED=0 GOOS=linux TZ=UTC

pages=v$VERSION
case $VERSION in *+*) pages=main ;; esac # a build of a commit has no tag

tools=$out/.tools
mkdir -p "$tools"
(cd .ci/dist && GOOS='' go build -o "$tools" \
  github.com/goreleaser/nfpm/v2/cmd/nfpm github.com/CycloneDX/cyclonedx-gomod/cmd/cyclonedx-gomod)

host=$tools/towline # makes the completions and the man pages
GOOS='' go build -trimpath -buildvcs=false -tags man -o "$host" ./cmd/towline

for arch in ${ARCHES:-amd64 arm64}; do
  export ARCH=$arch GOARCH=$arch
  dir=$out/linux_$arch
  rm -rf "$dir"
  mkdir -p "$dir/completion"
  go build -trimpath -buildvcs=false -ldflags "-s -w -X main.version=$version" -o "$dir/towline" ./cmd/towline
  sed 's|/usr/local/bin/|/usr/bin/|' configs/towline.service >"$dir/towline.service"
  for shell in bash zsh fish; do
    GOARCH='' "$host" completion $shell >"$dir/completion/$shell"
  done
  mkdir "$dir/man"
  GOARCH='' "$host" man "$dir/man"
  "$tools/cyclonedx-gomod" bin -json -noserial -notimestamp -version "$version" \
    -output "$out/towline_${VERSION}_linux_$arch.cdx.json" "$dir/towline"
  # Links to other pages lead to where these are.
  sed -E "s,\]\(([^)#:][^):]*)\),](https://github.com/towline/towline/blob/$pages/\1),g" README.md >"$dir/README.md"
  cp LICENSE configs/towline.socket configs/towline.yaml "$dir"
  tar --sort=name --transform "s,^linux_$arch,towline_${VERSION}_linux_$arch," --mtime="@$SOURCE_DATE_EPOCH" --owner=0 --group=0 --numeric-owner \
    -C "$out" -cf - "linux_$arch" | gzip -9n >"$out/towline_${VERSION}_linux_$arch.tar.gz"
  for packager in deb rpm; do
    DIST=$dir "$tools/nfpm" package --config configs/nfpm.yaml --packager $packager --target "$out" >/dev/null
  done
done
rm -rf "$tools"
(cd "$out" && find . -maxdepth 1 -type f ! -name SHA256SUMS -printf '%f\n' | LC_ALL=C sort | xargs sha256sum >SHA256SUMS)
cat "$out/SHA256SUMS"

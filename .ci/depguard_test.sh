#!/usr/bin/env bash
# Proves that .golangci.yml refuses the imports that it must refuse, and allows those
# that it must allow: it lints modules of the same name that have nothing but imports.
# usage: depguard_test.sh GOLANGCI-LINT
set -euo pipefail

lint=$(realpath "$1")
ours=github.com/towline/towline
sdk=github.com/docker/docker
config=$(cd "$(dirname "$0")/.." && pwd)/.golangci.yml
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT

# check reads lines of PACKAGE and IMPORT, and prints those that depguard refuses. The
# module has a package for each of the two; the Docker SDK is an empty module here.
check() {
  local n=0 package import out
  mkdir "$dir/$1" "$dir/$1/sdk" "$dir/$1/sdk/client"
  cd "$dir/$1"
  cp "$config" .
  printf 'module %s\ngo 1.26.0\nrequire %s v0.0.0\nreplace %s => ./sdk\n' $ours $sdk $sdk >go.mod
  printf 'module %s\n' $sdk >sdk/go.mod
  echo 'package client' >sdk/client/client.go
  while read -r package import; do
    mkdir -p "$package"
    echo "package ${package##*/}; import _ \"$import\"" >"$package/import$((n += 1)).go"
    case $import in $ours/*)
      import=${import#$ours/}
      mkdir -p "$import"
      echo "package ${import##*/}" >"$import/doc.go"
    esac
  done
  if ! out=$("$lint" run --enable-only depguard ./... 2>&1) && ! grep -q '(depguard)$' <<<"$out"; then
    echo "$out" >&2
    return 1
  fi
  sed -nE "s|^(.*)/[^/]*\.go:.*import '([^']*)'.*\(depguard\)$|\1 \2|p" <<<"$out" | sort -u
}

sort -u >"$dir/must" <<EOF
stream                        $ours/stream/pullstream
stream/outputlog              $ours/stream
stream                        $sdk/client
stream/pullstream             $sdk/client
stream/pullstream/transcripts $ours/stream
api/ui                        $ours/stream
puller/enginetest/testprogram       $ours/stream
puller                        $ours/puller/docker
puller                        $ours/stream/pullstream/transcripts
puller                        $sdk/client
puller/queue                  testing
puller/bolt                   $ours/puller/registry
puller/bolt/database          $ours/puller
puller/docker                 $ours/puller/jobs
puller/docker/containers      $ours/puller/jobs
puller/docker/transport       $ours/puller/jobs
puller/fleet                  $ours/puller/jobs
cmd/towline/render            $ours/cmd/towline/tables
cmd/towline/tables            $ours/puller/jobs
api/client                    $ours/cmd/towline/render
puller                        $ours/puller/keep
puller/docker                 $ours/puller/keep
puller/fleet/control          $ours/puller/fleet/host
puller/fleet/known            $ours/puller/fleet/buckets
puller/fleet/creds            $ours/puller/fleet/server
puller/fleet/host             $ours/puller/keep/sets
puller                        $ours/puller/store
puller/store                  $ours/puller/job
puller/registry               $ours/puller/store
puller/keep                   $ours/puller/transfer
puller/keep                   $ours/puller/keep/sets
puller/keep/keeper            $ours/puller/jobs
puller/mirror/fetch           $ours/puller/registry
puller/mirror/way             $ours/puller/mirror/blobs
puller/mirror/images          $ours/puller/mirror/endpoint
puller/mirror/sharing         $ours/puller/fleet
puller/mirror                 $ours/puller/fleet/peers
puller/fleet/peers            $ours/puller/mirror/fetch
puller/fleet/peers/tree       $ours/puller/mirror/blobs
puller/registry/login         $ours/puller/registry
puller/keep/collect           $ours/puller/jobs
puller/keep/sets              $ours/api/compose
puller/keep/lease             $ours/puller/jobs
puller/keep/room              $ours/puller/keep/collect
puller/keep/usage             $ours/puller/docker
puller/transfer               $ours/puller/job
puller/run                    $ours/puller/jobs
puller/prewarm                $ours/puller/docker
puller/jobs                   $ours/puller/bolt
puller/jobs                   $ours/puller/storetest
puller/storetest              $ours/puller/bolt
api                           $ours/puller/docker
api                           $ours/puller/jobs
api                           $ours/puller/enginetest
api                           $ours/api/apitest
cmd/towline/daemon            $ours/api/apitest
api                           $ours/api/contract/contracttest
api/answers                   $ours/api/auth
api/guard                     $ours/api/streams
api/input                     $ours/api/guard
api/streams                   $ours/api/auth
api/client                    $ours/api/auth
api/contract                  $ours/puller
api/ui                        $ours/puller
configs                       $ours/stream
cmd/towline                   $ours/puller/enginetest
cmd/towline                   $ours/stream/pullstream/transcripts
cmd/towline                   $sdk/client
cmd/towline                   $ours/puller/jobs
cmd/towline/daemon            $ours/puller/storetest
cmd/towline/daemon            $sdk/client
cmd/towline/render            $ours/api
cmd/towline/keep              $ours/cmd/towline/pull
cmd/towline/pull              $ours/cmd/towline/daemon
util                          $ours/puller
util                          testing
EOF
cat >"$dir/may" <<EOF
stream                        io
stream                        $ours/stream/outputlog
stream/pullstream             $ours/stream
puller                        $ours/stream/pullstream
puller/docker                 $sdk/client
puller/docker                 $ours/puller
puller/transfer               $ours/puller/queue
puller/registry               $ours/puller/registry/transport
puller/fleet/control          $ours/puller/fleet/known
puller/fleet/host             $ours/puller/fleet
puller/fleet/peers            $ours/puller/mirror/sharing
puller/fleet/peers            $ours/puller/fleet/peers/tree
puller/mirror                 $ours/puller/mirror/sharing
puller/mirror                 $ours/puller/mirror/images
puller/mirror/images          $ours/puller/mirror/fetch
puller/bolt                   $ours/puller/store
puller/jobs                   $ours/puller/store
puller/fleet/link             $ours/puller/fleet/creds
puller/run                    $ours/puller/transfer
puller/keep/lease             $ours/puller/keep
puller/keep/collect           $ours/puller/keep
puller/jobs                   $ours/puller/run
puller/enginetest             testing
puller/enginetest             $ours/stream/pullstream/transcripts
api                           $ours/puller
api                           $ours/puller/keep
api/client                    $ours/puller/keep
api                           $ours/api/auth
api                           $ours/api/guard
api/streams                   $ours/api/input
api                           $ours/api/contract
api                           $ours/api/ui
api/contract/contracttest     testing
cmd/towline                   $ours/api/client
cmd/towline                   $ours/cmd/towline/daemon
cmd/towline/keep              $ours/cmd/towline/command
cmd/towline/daemon            $ours/puller/jobs
cmd/towline/daemon            $ours/api
integration/lab               $sdk/client
EOF
sed -i -E 's/ +/ /' "$dir/must"
sort -u -o "$dir/must" "$dir/must"

refused=$(check refused <"$dir/must")
diff -u --label 'must be refused' "$dir/must" --label refused - <<<"$refused"
refused=$(check allowed <"$dir/may")
[ -z "$refused" ] || { printf 'must be allowed:\n%s\n' "$refused"; exit 1; }
echo "depguard: $(wc -l <"$dir/must") forbidden imports are refused, $(wc -l <"$dir/may") others are allowed"

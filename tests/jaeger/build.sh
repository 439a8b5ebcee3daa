#!/usr/bin/env bash
# Builds Jaeger v2 (all-in-one) from its Go module once, in the user's cache. The last line of output is the path of the
# binary. Exit codes: 0 if the binary exists, 3 if Go is not installed, others if the build failed.
set -euo pipefail

readonly module=github.com/jaegertracing/jaeger
readonly version=v1.76.0   # the module version of the release Jaeger v2.13
readonly limit=${ACTORLOOM_JAEGER_BUILD_LIMIT:-1500}   # seconds

cache=${XDG_CACHE_HOME:-$HOME/.cache}/actorloom/jaeger-${version#v}
binary=$cache/jaeger

say() { printf 'jaeger: %s\n' "$*" >&2; }

if [[ -x $binary ]]; then
    echo "$binary"
    exit 0
fi
if ! command -v go >/dev/null; then
    say "skipped: Go is not installed (it is needed once to build $module@$version)"
    exit 3
fi

mkdir -p "$cache"
exec 9>"$cache/lock"
flock 9   # a concurrent build waits for the first one and finds its binary
if [[ -x $binary ]]; then
    echo "$binary"
    exit 0
fi

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"

# An empty module that requires Jaeger. Replace directives of a dependency have no effect, so the one of Jaeger (for sarama)
# is copied from its go.mod. Its go.sum is copied as well, so that checksums are those that Jaeger was built with.
say "downloading $module@$version"
source_dir=$(cd "$work" && GOFLAGS=-mod=mod timeout 300 go mod download -json "$module@$version" | sed -n 's/^\t"Dir": "\(.*\)",$/\1/p')
go_line=$(sed -n 's/^go \([0-9.]*\)$/\1/p' "$source_dir/go.mod")
{
    printf 'module actorloom.test/jaeger\n\ngo %s\n\nrequire %s %s\n\n' "$go_line" "$module" "$version"
    grep -E '^replace .* => ' "$source_dir/go.mod"
} >go.mod
cat "$source_dir/go.sum" >go.sum

say "building $module/cmd/jaeger (about four minutes on two idle cores, at most $limit s)"
started=$SECONDS
CGO_ENABLED=0 GOFLAGS=-mod=mod timeout "$limit" nice -n 10 \
    go build -trimpath -ldflags='-s -w' -o "$binary.part" "$module/cmd/jaeger"
mv "$binary.part" "$binary"
say "built in $((SECONDS - started)) s"
echo "$binary"

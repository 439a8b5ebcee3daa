#!/usr/bin/env bash
# Builds Jaeger v2 (all-in-one) from its Go module into the user's cache, once; prints the path of the binary last.
# Exit 0: the binary is there; 3: skipped, with the reason; anything else: the build failed.
set -euo pipefail

readonly module=github.com/jaegertracing/jaeger
readonly version=v1.76.0   # the module's number of the release that is called Jaeger v2.13
readonly limit=${ACTORLOOM_JAEGER_BUILD_LIMIT:-1500}   # seconds

cache=${XDG_CACHE_HOME:-$HOME/.cache}/actorloom/jaeger-${version#v}
binary=$cache/jaeger

say() { printf 'jaeger: %s\n' "$*" >&2; }

if [[ -x $binary ]]; then
    echo "$binary"
    exit 0
fi
if ! command -v go >/dev/null; then
    say "skipped: Go is not installed (it is needed once, to build $module@$version)"
    exit 3
fi

mkdir -p "$cache"
exec 9>"$cache/lock"
flock 9   # a second build waits for the first and then finds its binary
if [[ -x $binary ]]; then
    echo "$binary"
    exit 0
fi

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"

# An empty module that requires Jaeger. Replacements do not pass on from a dependency, so its one (for sarama) is copied
# from its own go.mod, and its go.sum is put beside ours, so that everything is checked against what Jaeger was built with.
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
